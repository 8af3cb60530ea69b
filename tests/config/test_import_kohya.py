from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from config.importers import ImportRefusedError, import_file, import_text

from .importing import pictures, trainable

FLUXGYM = """\
accelerate launch \\
  --mixed_precision bf16 \\
  sd-scripts/flux_train_network.py \\
  --pretrained_model_name_or_path "/far/models/unet/flux1-dev.sft" \\
  --clip_l "/far/clip_l.safetensors" --t5xxl "/far/t5xxl_fp16.safetensors" --ae "/far/ae.sft" \\
  --cache_latents_to_disk --sdpa --highvram --seed 42 \\
  --gradient_checkpointing \\
  --mixed_precision bf16 --save_precision bf16 \\
  --network_module networks.lora_flux --network_dim 4 \\
  --optimizer_type adafactor \\
  --optimizer_args "relative_step=False" "scale_parameter=False" "warmup_init=False" \\
  --split_mode --network_args "train_blocks=single" \\
  --lr_scheduler constant_with_warmup --max_grad_norm 0.0 \\
  --sample_prompts="/far/outputs/fox/sample_prompts.txt" --sample_every_n_steps="100" \\
  --learning_rate 8e-4 --cache_text_encoder_outputs --fp8_base \\
  --max_train_epochs 16 --save_every_n_epochs 4 \\
  --dataset_config "/far/outputs/fox/dataset.toml" \\
  --output_dir "/far/away/outputs/fox" --output_name fox \\
  --timestep_sampling shift --discrete_flow_shift 3.1582 \\
  --model_prediction_type raw --guidance_scale 1 --loss_type l2 \\
"""
DATASET = """\
[general]
shuffle_caption = true
caption_extension = '.txt'
keep_tokens = 1

[[datasets]]
resolution = 512
batch_size = 2
enable_bucket = true

  [[datasets.subsets]]
  image_dir = '{folder}'
  class_tokens = 'zqfox'
  num_repeats = 10

[[datasets]]
resolution = [768, 768]
batch_size = 2
enable_bucket = true

  [[datasets.subsets]]
  image_dir = '{folder}'
  class_tokens = 'zqfox'
  num_repeats = 10
"""
PROMPTS = """\
# a comment
zqfox in the snow
zqfox portrait -- close --w 768 --h 1024 --d 42 --s 25 --l 4 --n blurry
"""


@pytest.fixture
def fluxgym(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    dataset = pictures(tmp_path / "pictures", 5)
    (folder / "train.sh").write_text(FLUXGYM, encoding="utf-8")
    (folder / "dataset.toml").write_text(DATASET.format(folder=dataset), encoding="utf-8")
    (folder / "sample_prompts.txt").write_text(PROMPTS, encoding="utf-8")
    return folder / "train.sh"


def test_fluxgym_with_its_dataset_and_prompts(fluxgym: Path, tmp_path: Path) -> None:
    imported = import_file(fluxgym)
    config = trainable(imported, tmp_path)
    process = config.process
    assert (imported.source, config.name, imported.urgent) == ("kohya sd-scripts", "fox", ())
    assert (process.network.rank, process.network.alpha, process.network.scale) == (4, 1, 0.25)
    assert process.network.network_kwargs.only_if_contains == ["single_transformer_blocks."]
    assert process.trigger_word == "zqfox"
    (dataset,) = process.datasets
    assert (dataset.resolution, dataset.num_repeats, dataset.buckets) == ([512, 768], 10, True)
    assert (dataset.shuffle_tokens, dataset.keep_tokens, dataset.caption_ext) == (True, 1, ".txt")
    train = process.train
    # 5 pictures x 10 repeats x 2 sizes in batches of 2, 16 times.
    assert (train.batch_size, train.steps) == (2, 16 * 50)
    assert (train.optimizer, train.optimizer_params, train.lr) == ("adafactor", {}, 8e-4)
    assert (train.lr_scheduler, train.max_grad_norm, train.dtype) == ("constant", 0, "bfloat16")
    assert (train.timestep_type, train.cfg_scale, train.loss_type) == ("flux_shift", 1, "mse")
    assert (train.gradient_checkpointing, train.skip_first_sample) == (True, True)
    assert (process.save.save_every, process.save.dtype) == (4 * 50, "bfloat16")
    assert (process.model.quantize, process.model.qtype, process.model.quantize_te) == (True, "float8", True)
    assert process.model.name_or_path == "black-forest-labs/FLUX.1-dev"
    first, second = process.sample.samples
    assert (first.prompt, first.width) == ("zqfox in the snow", None)
    assert second.model_dump(exclude_none=True) == {
        "prompt": "zqfox portrait -- close",
        "width": 768,
        "height": 1024,
        "neg": "blurry",
        "seed": 42,
        "guidance_scale": 4.0,
        "sample_steps": 25,
    }
    assert process.training_folder is None
    for remark in (
        "split_mode: true  has no equal",
        "output_dir: /far/away",
        "clip_l, t5xxl, ae: part of",
        "trains CLIP-L",
    ):
        assert remark in _one_line(imported.text)


def _one_line(text: str) -> str:
    """The text with wrapped comments joined."""
    return " ".join(text.replace("#", " ").split()).replace("true has", "true  has")


def test_without_the_pictures_the_length_is_asked_for(fluxgym: Path, tmp_path: Path) -> None:
    (fluxgym.parent / "dataset.toml").write_text(DATASET.format(folder="/far/pictures"), encoding="utf-8")
    imported = import_file(fluxgym)
    (urgent,) = imported.urgent
    assert urgent.startswith("16 epochs")
    assert "set train.steps" in urgent
    assert "LOOK AT THIS" in imported.text
    assert trainable(imported, tmp_path, missing=("folder_path",)).process.train.steps == 1000


def test_without_the_dataset_file_the_folder_is_asked_for(fluxgym: Path, tmp_path: Path) -> None:
    (fluxgym.parent / "dataset.toml").unlink()
    imported = import_file(fluxgym)
    assert any("dataset.toml is not here" in text for text in imported.urgent)
    trainable(imported, tmp_path, missing=("folder_path",))


TOML = """\
[model]
pretrained_model_name_or_path = "models/my-flux.safetensors"
[training]
network_module = "networks.lora_flux"
network_dim = 32
network_alpha = 16
network_train_unet_only = true
network_args = [
  "train_double_block_indices=none", "train_single_block_indices=7,20-21",
  "rank_dropout=0.1", "img_mod_dim=0",
]
train_data_dir = "img"
reg_data_dir = "reg"
train_batch_size = 2
gradient_accumulation_steps = 2
max_train_epochs = 10
unet_lr = 4e-4
learning_rate = 1e-4
optimizer_type = "prodigyopt.Prodigy"
optimizer_args = ["d_coef=2", "decouple=True", "betas=0.9,0.99", "foo=1"]
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 3
lr_warmup_steps = 0.25
resolution = "768,1024"
enable_bucket = true
caption_extension = ".txt"
caption_dropout_rate = 0.1
flip_aug = true
color_aug = true
mixed_precision = "bf16"
save_precision = "fp16"
save_every_n_steps = 100
save_last_n_steps = 300
output_name = "my/fox"
blocks_to_swap = 18
min_snr_gamma = 5
noise_offset = 0.05
min_timestep = 100
max_timestep = 900
loss_type = "huber"
timestep_sampling = "uniform"
guidance_scale = 3.5
prior_loss_weight = 0.5
seed = "abc"
weird_new = 5
log_with = "wandb"
huggingface_token = "hf_abcdefghijklmnopqrstuvwxyz"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    pictures(tmp_path / "img" / "10_zqfox", 3)
    pictures(tmp_path / "img" / "2_dog", 3)
    pictures(tmp_path / "reg" / "1_animal", 3)
    file = tmp_path / "train.toml"
    file.write_text(TOML, encoding="utf-8")
    return file


def test_a_training_toml(toml: Path, tmp_path: Path) -> None:
    imported = import_file(toml)
    process = trainable(imported, tmp_path, missing=("name_or_path",)).process
    assert "name: my-fox" in imported.text
    assert "name_or_path: ./models/my-flux.safetensors" in imported.text
    assert process.model.extras_name_or_path == "black-forest-labs/FLUX.1-dev"
    assert (process.network.scale, process.network.network_kwargs.rank_dropout) == (0.5, 0.1)
    assert process.network.network_kwargs.only_if_contains == [
        f"transformer.single_transformer_blocks.{i}." for i in (7, 20, 21)
    ]
    assert process.network.network_kwargs.ignore_if_contains == [".norm1.linear"]
    train = process.train
    # (3 x 10 + 3 x 2) doubled by the regularisation set = 72, batches of 2, 2 an update: 18 steps an epoch.
    assert (train.steps, train.batch_size, train.gradient_accumulation) == (180, 2, 2)
    assert (train.optimizer, train.lr) == ("prodigy", 4e-4)
    assert train.optimizer_params == {"d_coef": 2, "weight_decouple": True, "betas": [0.9, 0.99]}
    assert train.lr_scheduler == "cosine_with_restarts"
    assert train.lr_scheduler_params == {"num_cycles": 3, "num_warmup_steps": 45}
    assert (train.noise_offset, train.loss_type, train.timestep_type) == (0.05, "pseudo_huber", "linear")
    assert (train.min_denoising_steps, train.max_denoising_steps) == (100, 900)
    assert (train.reg_weight, train.cfg_scale, train.gradient_checkpointing) == (0.5, 3.5, False)
    assert (process.save.dtype, process.save.save_every, process.save.max_step_saves_to_keep) == (
        "float16",
        100,
        4,
    )
    assert process.logging.use_wandb
    assert [d.is_reg for d in process.datasets] == [False] * len(process.datasets[:-1]) + [True]


def test_folders_named_after_repeats_and_class_words(toml: Path) -> None:
    datasets = _process(import_file(toml).text)["datasets"]
    assert [(Path(d["folder_path"]).name, d.get("num_repeats", 1)) for d in datasets] == [
        ("10_zqfox", 10),
        ("2_dog", 2),
        ("1_animal", 1),
    ]
    assert [d.get("trigger_word") for d in datasets] == ["zqfox", "dog", None]
    assert {tuple(d["resolution"]) for d in datasets} == {(887,)}


def _process(text: str) -> Any:
    return yaml.safe_load(text)["config"]["process"][0]


@pytest.mark.parametrize(
    "remark",
    [
        "blocks_to_swap: 18 has no equal",
        "min_snr_gamma: 5 has no equal",
        "color_aug: true has no equal",
        "foo: 1 is no argument of prodigy",
        "seed: abc is not a number",
        "weird_new: 5 is not known to this importer",
        "model_prediction_type: sigma_scaled has no equal",
        "became 887",
        "huggingface_token: secrets belong",
    ],
)
def test_what_has_no_equal_is_explained(toml: Path, remark: str) -> None:
    assert remark in " ".join(import_file(toml).text.replace("#", " ").split())


def test_a_token_is_not_copied(toml: Path) -> None:
    assert "hf_abcdef" not in import_file(toml).text


def from_options(*options: str, beside: Path | None = None) -> Any:
    text = "accelerate launch flux_train_network.py --network_train_unet_only --t5xxl x " + " ".join(options)
    return _process(import_text(text, "command", beside or Path("/nowhere")).text)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ("--timestep_sampling sigmoid", "sigmoid"),
        ("--timestep_sampling uniform", "linear"),
        ("--timestep_sampling flux_shift", "flux_shift"),
        ("--timestep_sampling shift --discrete_flow_shift 3.1582", "flux_shift"),
        ("--timestep_sampling shift --discrete_flow_shift 1.0", "sigmoid"),
        ("--timestep_sampling sigma --weighting_scheme logit_normal", "sigmoid"),
        ("", "flux_shift"),
    ],
)
def test_timestep_sampling(options: str, kind: str) -> None:
    assert from_options(options)["train"]["timestep_type"] == kind


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--optimizer_type AdamW8bit", ("adamw8bit", None)),
        ("--optimizer_type PagedAdamW8bit", ("adamw8bit", None)),
        ("--optimizer_type bitsandbytes.optim.AdEMAMix8bit", ("ademamix8bit", None)),
        ("--use_8bit_adam", ("adamw8bit", None)),
        ("--optimizer_type Lion --optimizer_args weight_decay=0.1", ("lion", {"weight_decay": 0.1})),
        ("--optimizer_type CAME", ("adamw", None)),
        ("--optimizer_type SGDNesterov", ("sgd", {"momentum": 0.9, "nesterov": True})),
        ("--optimizer_args 'betas=(0.9, 0.95)'", ("adamw", {"betas": [0.9, 0.95]})),
    ],
)
def test_optimizers(options: str, expected: tuple[str, Any]) -> None:
    train = from_options(options)["train"]
    assert (train["optimizer"], train.get("optimizer_params")) == expected


@pytest.mark.parametrize(
    ("options", "name", "arguments"),
    [
        ("--lr_scheduler constant --lr_warmup_steps 50", "constant_with_warmup", {"num_warmup_steps": 50}),
        ("--lr_scheduler constant_with_warmup", "constant", None),
        (
            "--lr_scheduler cosine --lr_warmup_steps 0.1 --max_train_steps 1000",
            "cosine",
            {"num_warmup_steps": 100},
        ),
        ("--lr_scheduler polynomial", "linear", None),
        (
            "--lr_scheduler cosine --learning_rate 1e-4 --lr_scheduler_min_lr_ratio 0.1",
            "cosine",
            {"eta_min": 1e-5},
        ),
        ("--lr_scheduler piecewise_constant", "constant", None),
    ],
)
def test_schedules(options: str, name: str, arguments: Any) -> None:
    train = from_options(options)["train"]
    assert train["lr_scheduler"] == name
    assert train.get("lr_scheduler_params") == (arguments if arguments is None else pytest.approx(arguments))


def test_the_network_of_lycoris() -> None:
    network = from_options(
        "--network_module lycoris.kohya --network_args algo=lokr factor=8 --network_dim 16"
    )["network"]
    assert (network["type"], network["lokr_factor"], network["lokr_full_rank"]) == ("lokr", 8, False)
    assert (
        from_options("--network_module lycoris.kohya --network_args algo=lora dora_wd=True")["network"][
            "type"
        ]
        == "dora"
    )


def test_layers_switched_off_one_by_one() -> None:
    network = from_options("--network_args img_attn_dim=0 single_dim=0 txt_mlp_dim=16 --network_dim 16")[
        "network"
    ]
    ignored = network["network_kwargs"]["ignore_if_contains"]
    assert "transformer.transformer_blocks.18.attn.to_k" in ignored
    assert "transformer.single_transformer_blocks.37.attn." in ignored
    assert not any(name in "transformer.transformer_blocks.3.attn.add_k_proj" for name in ignored)


def test_a_schnell_gets_its_adapter() -> None:
    model = from_options("--pretrained_model_name_or_path /m/flux1-schnell.safetensors")["model"]
    assert model["name_or_path"] == "black-forest-labs/FLUX.1-schnell"
    assert model["assistant_lora_path"] == "ostris/FLUX.1-schnell-training-adapter"


def test_a_model_file_that_is_here_stays(tmp_path: Path) -> None:
    (tmp_path / "flux1-dev.safetensors").write_bytes(b"x")
    model = from_options("--pretrained_model_name_or_path flux1-dev.safetensors", beside=tmp_path)["model"]
    assert model["name_or_path"] == "black-forest-labs/FLUX.1-dev"
    (tmp_path / "fox.safetensors").write_bytes(b"x")
    model = from_options("--pretrained_model_name_or_path fox.safetensors", beside=tmp_path)["model"]
    assert model["name_or_path"] == str(tmp_path / "fox.safetensors")


def test_a_config_file_of_the_command_is_read(tmp_path: Path) -> None:
    (tmp_path / "more.toml").write_text("[a]\nnetwork_dim = 64\nseed = 1\n", encoding="utf-8")
    process = from_options("--config_file more.toml --seed 2", beside=tmp_path)
    assert (process["network"]["linear"], process["training_seed"]) == (64, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python sdxl_train_network.py --network_dim 4", "SDXL"),
        ("python train_network.py --network_dim 4", "Stable Diffusion 1.5"),
        ("python flux_train.py --t5xxl x", "a whole FLUX.1"),
        ("python wan_train_network.py --t5 x", "only kohya's flux_train_network.py"),
        ("python flux_train_network.py --t5xxl x --text_encoder_lr 1e-5 5e-6", "text encoders too"),
        ("python flux_train_network.py --t5xxl x --network_train_text_encoder_only", "text encoders only"),
        ("python flux_train_network.py --t5xxl x --network_args train_t5xxl=True", "trains T5"),
        ("python flux_train_network.py --t5xxl x --model_type chroma", "chroma"),
        ("python flux_train_network.py --t5xxl x --network_module networks.oft_flux", "oft_flux"),
        (
            "python flux_train_network.py --t5xxl x --pretrained_model_name_or_path flux1-fill-dev.sft",
            "fill",
        ),
        ("python flux_train_network.py --t5xxl x --config_file gone.toml", "not here"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(ImportRefusedError, match=words):
        import_text(text, "x.sh", Path("/nowhere"))


def test_a_text_encoder_rate_of_zero_is_no_training() -> None:
    assert from_options("--text_encoder_lr 0")


def test_a_config_for_sd15_is_refused(tmp_path: Path) -> None:
    text = 'pretrained_model_name_or_path = "v1-5.safetensors"\nnetwork_module = "networks.lora"\n'
    with pytest.raises(ImportRefusedError, match="another model than FLUX"):
        import_text(text, "x.toml", tmp_path)
