from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.importers import Imported, ImportRefusedError, import_file

from .importing import pictures, trainable

CONFIG: dict[str, Any] = {
    "--model_family": "flux",
    "--model_type": "lora",
    "--pretrained_model_name_or_path": "black-forest-labs/FLUX.1-dev",
    "--base_model_precision": "int8-quanto",
    "--data_backend_config": "config/multidatabackend.json",
    "--lora_rank": 16,
    "--lora_alpha": 8,
    "--lora_dropout": 0.0,
    "--flux_lora_target": "all+ffs",
    "--learning_rate": 1e-4,
    "--lr_scheduler": "polynomial",
    "--lr_warmup_steps": 100,
    "--max_train_steps": 0,
    "--num_train_epochs": 10,
    "--train_batch_size": 2,
    "--gradient_checkpointing": "true",
    "--optimizer": "adamw_bf16",
    "--optimizer_config": "weight_decay=0.01",
    "--grad_clip_method": "norm",
    "--max_grad_norm": 1.0,
    "--use_ema": True,
    "--ema_decay": 0.99,
    "--seed": 7,
    "--mixed_precision": "bf16",
    "--flow_schedule_auto_shift": True,
    "--flow_use_uniform_schedule": True,
    "--caption_dropout_probability": 0.1,
    "--checkpointing_steps": 50,
    "--checkpoints_total_limit": 3,
    "--validation_prompt": "a fox --with dashes",
    "--user_prompt_library": "prompts.json",
    "--validation_steps": 100,
    "--validation_resolution": "1024x768",
    "--validation_guidance": 3.5,
    "--validation_num_inference_steps": 24,
    "--validation_seed": 42,
    "--validation_negative_prompt": "ugly",
    "--hub_model_id": "me/my-fox",
    "--push_to_hub": True,
    "--output_dir": "output/models",
    "--report_to": "wandb",
    "--tracker_project_name": "foxes",
    "--snr_gamma": 5,
    "--some_new_thing": 7,
}
DATA: list[dict[str, Any]] = [
    {
        "id": "fox-512",
        "type": "local",
        "instance_data_dir": "pictures",
        "crop": True,
        "crop_aspect": "square",
        "crop_style": "random",
        "resolution": 512,
        "resolution_type": "pixel_area",
        "minimum_image_size": 512,
        "caption_strategy": "textfile",
        "prepend_instance_prompt": True,
        "instance_prompt": "zqfox",
        "repeats": 4,
        "conditioning_data": "masks",
    },
    {
        "id": "others",
        "type": "local",
        "instance_data_dir": "pictures",
        "crop": False,
        "resolution": 1.05,
        "resolution_type": "area",
        "caption_strategy": "instanceprompt",
        "instance_prompt": "a fox",
        "is_regularisation_data": True,
    },
    {
        "id": "masks",
        "dataset_type": "conditioning",
        "conditioning_type": "mask",
        "instance_data_dir": "masks",
    },
    {"id": "off", "instance_data_dir": "gone", "disabled": True},
    {
        "id": "text",
        "dataset_type": "text_embeds",
        "type": "local",
        "default": True,
        "cache_dir": "cache/text",
    },
]


def write(folder: Path, changes: dict[str, Any] | None = None, data: Any = DATA) -> Path:
    pictures(folder / "pictures", 6)
    (folder / "masks").mkdir(exist_ok=True)
    file = folder / "config.json"
    file.write_text(json.dumps({**CONFIG, **(changes or {})}), encoding="utf-8")
    if data is not None:
        (folder / "multidatabackend.json").write_text(json.dumps(data), encoding="utf-8")
    (folder / "prompts.json").write_text(
        json.dumps({"a": "zqfox asleep", "b": {"prompt": "zqfox awake"}}), "utf-8"
    )
    return file


def test_a_config_with_dashes_and_its_datasets(tmp_path: Path) -> None:
    imported = import_file(write(tmp_path))
    config = trainable(imported, tmp_path)
    process = config.process
    assert (imported.source, config.name, imported.urgent) == ("SimpleTuner", "my-fox", ())
    assert (process.network.rank, process.network.scale, process.network.dropout) == (16, 0.5, None)
    assert ".attn." in process.network.network_kwargs.only_if_contains
    first, second = process.datasets
    assert (first.resolution, first.num_repeats, first.buckets, first.random_crop) == ([512], 5, False, True)
    assert (first.trigger_word, first.caption_dropout_rate) == ("zqfox", 0.1)
    assert first.mask_path == str(tmp_path / "masks")
    assert (second.resolution, second.buckets, second.prior_reg) == ([1024], True, True)
    assert (second.caption_ext, second.default_caption) == (".none", "a fox")
    train = process.train
    assert (train.steps, train.batch_size, train.lr) == (10 * 18, 2, 1e-4)  # 6 x 5 + 6 pictures in twos
    assert (train.optimizer, train.optimizer_params) == ("adamw", {"weight_decay": 0.01})
    assert (train.lr_scheduler, train.lr_scheduler_params) == ("linear", {"num_warmup_steps": 100})
    assert (train.timestep_type, train.cfg_scale, train.dtype) == ("flux_shift", 1.0, "bfloat16")
    assert (train.ema_config.use_ema, train.ema_config.ema_decay) == (True, 0.99)
    assert train.gradient_checkpointing is True
    assert (process.model.quantize, process.model.qtype, process.model.quantize_te) == (True, "int8", False)
    save = process.save
    assert (save.save_every, save.max_step_saves_to_keep, save.push_to_hub, save.hf_repo_id) == (
        50,
        3,
        True,
        "me/my-fox",
    )
    sample = process.sample
    assert (sample.width, sample.height, sample.sample_steps, sample.guidance_scale) == (1024, 768, 24, 3.5)
    assert sample.prompts == ["a fox --with dashes", "zqfox asleep", "zqfox awake"]
    assert (process.logging.use_wandb, process.logging.project_name) == (True, "foxes")


def test_keys_without_dashes_mean_the_same(tmp_path: Path) -> None:
    dashed = import_file(write(tmp_path)).text
    plain = {key.lstrip("-"): value for key, value in CONFIG.items()}
    (tmp_path / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    assert import_file(tmp_path / "config.json").text == dashed


@pytest.mark.parametrize(
    "remark",
    [
        "snr_gamma: 5 has no equal",
        "some_new_thing: 7 is not known to this importer",
        "validation_negative_prompt: ugly has no equal",
        "minimum_image_size: 512 has no equal",
        "was polynomial; the nearest",
    ],
)
def test_what_has_no_equal_is_explained(tmp_path: Path, remark: str) -> None:
    assert remark in " ".join(import_file(write(tmp_path)).text.replace("#", " ").split())


def section(imported: Imported, name: str) -> Any:
    return yaml.safe_load(imported.text)["config"]["process"][0][name]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"--flow_schedule_auto_shift": False, "--flow_schedule_shift": 0}, "linear"),
        (
            {
                "--flow_schedule_auto_shift": False,
                "--flow_schedule_shift": 0,
                "--flow_use_uniform_schedule": False,
            },
            "sigmoid",
        ),
        ({"--flow_use_uniform_schedule": False}, "flux_shift"),
        ({"--flow_use_beta_schedule": True}, "sigmoid"),
    ],
)
def test_timestep_schedules(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    assert section(import_file(write(tmp_path, changes)), "train")["timestep_type"] == kind


def test_a_lycoris_file(tmp_path: Path) -> None:
    lycoris = {
        "algo": "lokr",
        "multiplier": 1.0,
        "linear_dim": 10000,
        "factor": 16,
        "apply_preset": {"target_module": ["Attention"]},
    }
    (tmp_path / "lycoris_config.json").write_text(json.dumps(lycoris), encoding="utf-8")
    network = section(import_file(write(tmp_path, {"--lora_type": "lycoris"})), "network")
    assert (network["type"], network["lokr_factor"], network["lokr_full_rank"]) == ("lokr", 16, True)
    assert network["network_kwargs"] == {"only_if_contains": [".attn."]}


def test_remote_data_is_asked_for(tmp_path: Path) -> None:
    data = [{"id": "cloud", "type": "huggingface", "dataset_name": "me/foxes", "resolution": 512}]
    imported = import_file(write(tmp_path, data=data))
    assert any("cloud is not a folder" in text for text in imported.urgent)
    trainable(imported, tmp_path, missing=("folder_path",))


def test_without_the_dataset_file_the_folder_is_asked_for(tmp_path: Path) -> None:
    imported = import_file(write(tmp_path, data=None))
    assert any("multidatabackend.json is not here" in text for text in imported.urgent)
    trainable(imported, tmp_path, missing=("folder_path",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--model_family": "sdxl"}, "sdxl"),
        ({"--model_type": "full"}, "full"),
        ({"--train_text_encoder": True}, "text encoders too"),
        ({"--controlnet": True}, "ControlNet"),
        ({"--model_flavour": "kontext"}, "kontext"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImportRefusedError, match=words):
        import_file(write(tmp_path, changes))


def test_a_broken_dataset_file_is_named(tmp_path: Path) -> None:
    file = write(tmp_path)
    (tmp_path / "multidatabackend.json").write_text("[{", encoding="utf-8")
    with pytest.raises(ImportRefusedError, match=r"multidatabackend\.json, which line 1"):
        import_file(file)
