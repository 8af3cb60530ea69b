from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.importers import ImportRefusedError, import_file

from .importing import pictures, trainable

CONFIG: dict[str, Any] = {
    "__version": 6,
    "training_method": "LORA",
    "model_type": "FLUX_DEV_1",
    "base_model_name": "black-forest-labs/FLUX.1-dev",
    "output_model_destination": "models/fox.safetensors",
    "output_dtype": "BFLOAT_16",
    "concept_file_name": "training_concepts/concepts.json",
    "sample_definition_file_name": "training_samples/samples.json",
    "learning_rate": 0.0003,
    "learning_rate_scheduler": "COSINE",
    "learning_rate_warmup_steps": 20.0,
    "epochs": 60,
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "ema": "GPU",
    "ema_decay": 0.998,
    "train_dtype": "BFLOAT_16",
    "weight_dtype": "BFLOAT_16",
    "resolution": "512,768",
    "transformer": {"train": True, "weight_dtype": "NFLOAT_4", "guidance_scale": 1.0, "learning_rate": None},
    "text_encoder": {"train": False, "dropout_probability": 0.05},
    "text_encoder_2": {"train": False, "weight_dtype": "NFLOAT_4", "dropout_probability": 0.05},
    "gradient_checkpointing": "ON",
    "lora_rank": 32,
    "lora_alpha": 16.0,
    "dropout_probability": 0.1,
    "timestep_distribution": "LOGIT_NORMAL",
    "min_noising_strength": 0.1,
    "max_noising_strength": 0.9,
    "masked_training": True,
    "unmasked_weight": 0.1,
    "layer_filter": "attn,ff.net",
    "layer_filter_preset": "attn-mlp",
    "optimizer": {
        "optimizer": "ADAMW_8BIT",
        "beta1": 0.9,
        "beta2": 0.99,
        "eps": 1e-8,
        "stochastic_rounding": True,
        "fused": False,
    },
    "sample_after": 10,
    "sample_after_unit": "EPOCH",
    "save_every": 5,
    "save_every_unit": "EPOCH",
    "clip_grad_norm": 1.0,
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "perturbation_noise_weight": 0.1,
    "secrets": {"huggingface_token": "hf_abcdefghijklmnopqrstuvwx"},
    "cloud": {"enabled": False, "api_key": "xyz"},
}
CONCEPTS: list[dict[str, Any]] = [
    {
        "name": "fox",
        "path": "pictures",
        "enabled": True,
        "balancing": 2.0,
        "loss_weight": 0.5,
        "image": {"enable_crop_jitter": False, "enable_random_flip": True, "enable_random_rotate": True},
        "text": {"prompt_source": "sample", "enable_tag_shuffling": True, "keep_tags_count": 2},
    },
    {"name": "off", "path": "gone", "enabled": False},
    {
        "name": "others",
        "path": "pictures",
        "type": "PRIOR_PREDICTION",
        "image": {
            "enable_resolution_override": True,
            "resolution_override": "1024x768",
            "enable_random_flip": False,
        },
        "text": {"prompt_source": "concept", "prompt_path": "prompt.txt"},
    },
]
SAMPLES = [
    {
        "enabled": True,
        "prompt": "a fox",
        "height": 1024,
        "width": 768,
        "seed": 7,
        "diffusion_steps": 24,
        "cfg_scale": 3.5,
    },
    {"enabled": False, "prompt": "nothing"},
    {"prompt": "any fox", "random_seed": True},
]


def write(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    pictures(folder / "pictures", 5)
    (folder / "concepts.json").write_text(json.dumps(CONCEPTS), encoding="utf-8")
    (folder / "samples.json").write_text(json.dumps(SAMPLES), encoding="utf-8")
    (folder / "prompt.txt").write_text("an animal\nanother\n", encoding="utf-8")
    file = folder / "onetrainer.json"
    file.write_text(json.dumps({**CONFIG, **(changes or {})}), encoding="utf-8")
    return file


def test_a_config_with_concepts_and_samples(tmp_path: Path) -> None:
    imported = import_file(write(tmp_path))
    config = trainable(imported, tmp_path)
    process = config.process
    assert (imported.source, config.name, imported.urgent) == ("OneTrainer", "fox", ())
    assert (process.network.rank, process.network.scale, process.network.dropout) == (32, 0.5, 0.1)
    assert process.network.network_kwargs.only_if_contains == ["attn", "ff.net"]
    first, second = process.datasets
    assert (first.resolution, first.num_repeats, first.loss_multiplier) == ([512, 768], 2, 0.5)
    assert (first.shuffle_tokens, first.keep_tokens, first.flip_x, first.random_crop) == (
        True,
        2,
        True,
        False,
    )
    assert first.caption_dropout_rate == 0.05
    assert (second.resolution, second.flip_x, second.random_crop, second.prior_reg) == (
        [887],
        False,
        True,
        True,
    )
    assert (second.caption_ext, second.default_caption) == (".none", "an animal")
    train = process.train
    # 5 x 2 + 5 pictures in twos, two batches an update.
    assert (train.steps, train.batch_size, train.gradient_accumulation) == (60 * 4, 2, 2)
    assert (train.optimizer, train.lr) == ("adamw8bit", 3e-4)
    assert train.optimizer_params == {"betas": [0.9, 0.99], "eps": 1e-8}
    assert (train.lr_scheduler, train.lr_scheduler_params) == ("cosine", {"num_warmup_steps": 20})
    assert (train.timestep_type, train.min_denoising_steps, train.max_denoising_steps) == (
        "sigmoid",
        100,
        900,
    )
    assert (train.dtype, train.gradient_checkpointing, train.loss_type) == ("bfloat16", True, "mse")
    assert (train.ema_config.use_ema, train.ema_config.ema_decay) == (True, 0.998)
    assert (process.model.quantize, process.model.qtype, process.model.quantize_te) == (True, "nf4", True)
    assert (process.save.dtype, process.save.save_every) == ("bfloat16", 5 * 4)
    assert process.sample.sample_every == 10 * 4
    one, two = process.sample.samples
    assert (one.width, one.height, one.seed, one.sample_steps, one.guidance_scale) == (768, 1024, 7, 24, 3.5)
    assert two.seed == -1


@pytest.mark.parametrize(
    "remark",
    [
        "loss_weight_fn: MIN_SNR_GAMMA has no equal",
        "perturbation_noise_weight: 0.1 has no equal",
        "enable_random_rotate has no equal",
        "masked_training: OneTrainer's masks",
        "secrets: secrets belong",
        "1 more prompts of",
    ],
)
def test_what_has_no_equal_is_explained(tmp_path: Path, remark: str) -> None:
    assert remark in " ".join(import_file(write(tmp_path)).text.replace("#", " ").split())


def test_secrets_are_not_copied(tmp_path: Path) -> None:
    text = import_file(write(tmp_path)).text
    assert "hf_abc" not in text
    assert "xyz" not in text


def test_a_preset_has_the_trainers_defaults(tmp_path: Path) -> None:
    preset = {
        "base_model_name": "black-forest-labs/FLUX.1-dev",
        "batch_size": 4,
        "learning_rate": 0.0003,
        "model_type": "FLUX_DEV_1",
        "output_model_destination": "models/lora.safetensors",
        "resolution": "768",
        "prior": {"train": False, "weight_dtype": "NFLOAT_4"},
        "text_encoder": {"train": False},
        "text_encoder_2": {"train": False},
        "training_method": "LORA",
        "train_dtype": "BFLOAT_16",
        "timestep_distribution": "LOGIT_NORMAL",
    }
    file = tmp_path / "flux LoRA.json"
    file.write_text(json.dumps(preset), encoding="utf-8")
    imported = import_file(file)
    process = trainable(imported, tmp_path, missing=("folder_path",)).process
    assert (process.network.rank, process.network.alpha, process.network.transformer_only) == (16, 1, False)
    assert process.train.lr_scheduler == "constant_with_warmup"
    assert process.train.lr_scheduler_params == {"num_warmup_steps": 200}
    assert process.model.qtype == "nf4"
    assert imported.urgent


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"timestep_distribution": "UNIFORM"}, "linear"),
        ({"timestep_distribution": "UNIFORM", "dynamic_timestep_shifting": True}, "flux_shift"),
        ({"timestep_shift": 3.0}, "flux_shift"),
        ({"timestep_distribution": "COS_MAP"}, "sigmoid"),
    ],
)
def test_timestep_distributions(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    text = import_file(write(tmp_path, changes)).text
    assert yaml.safe_load(text)["config"]["process"][0]["train"]["timestep_type"] == kind


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "STABLE_DIFFUSION_XL_10_BASE"}, "STABLE_DIFFUSION_XL"),
        ({"model_type": "FLUX_FILL_DEV_1"}, "FLUX_FILL"),
        ({"training_method": "FINE_TUNE"}, "only LORA"),
        ({"peft_type": "OFT_2"}, "OFT_2"),
        ({"text_encoder": {"train": True}}, "text encoders too"),
        ({"transformer": {"train": False}}, "does not train the transformer"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ImportRefusedError, match=words):
        import_file(write(tmp_path, changes))
