"""Configs that people bring: they mean here what they mean in ai-toolkit, and check says nothing needless."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import check_config
from config.problems import Problem
from config.schema import RunConfig

FIXTURES = Path(__file__).with_name("fixtures")
NAMES = ("dev_24gb.yaml", "schnell_24gb.yaml", "tutorial.yaml", "web_ui.json")


def check(name: str, dataset: Path, *overrides: str) -> tuple[RunConfig, list[Problem]]:
    loaded, problems = check_config(FIXTURES / name, [f"datasets.0.folder_path={dataset}", *overrides])
    assert loaded is not None, problems
    return loaded.config, problems


@pytest.mark.parametrize("name", NAMES)
def test_they_pass_and_check_says_nothing_that_it_should_not(name: str, dataset: Path) -> None:
    _, problems = check(name, dataset)
    told = {(p.severity, p.key) for p in problems}
    # One picture only: the count of epochs is rightly doubted. qtype_te is not read for FLUX there either.
    assert told <= {("warning", "train.steps"), ("warning", "model.qtype_te")}, problems


@pytest.mark.parametrize("name", NAMES)
def test_the_only_error_without_a_dataset_is_the_dataset(name: str) -> None:
    loaded, problems = check_config(FIXTURES / name)
    assert loaded is None
    assert [p.key for p in problems if p.severity == "error"] == ["datasets.0.folder_path"]


def test_values_mean_the_same(dataset: Path) -> None:
    config, _ = check("tutorial.yaml", dataset)
    process = config.process
    assert process.trigger_word == "example_person"
    assert (process.network.rank, process.network.scale) == (16, 1.0)
    assert process.train.optimizer == "adamw8bit"
    assert process.train.ema_config.use_ema
    assert process.train.ema_config.ema_decay == pytest.approx(0.99)
    assert process.train.gradient_accumulation == 1
    assert not process.model.quantize

    ui, _ = check("web_ui.json", dataset)
    assert ui.process.type == "diffusion_trainer"
    assert ui.process.train.bypass_guidance_embedding
    assert [item.prompt for item in ui.process.sample.samples][1] == "a bear"
    assert ui.process.model.qtype == "float8"
    assert ui.process.network.rank == 32

    schnell, _ = check("schnell_24gb.yaml", dataset)
    assert schnell.process.model.assistant_lora_path == "ostris/FLUX.1-schnell-training-adapter"


@pytest.mark.parametrize(
    ("overrides", "key", "severity", "words"),
    [
        (["train.noise_scheduler=ddpm"], "train.noise_scheduler", "error", "'flowmatch'"),
        (["sample.sampler=ddpm"], "sample.sampler", "error", "'flowmatch'"),
        (["save.save_every=9000"], "save.save_every", "warning", "only the final file"),
        (["model.name_or_path=x/FLUX.1-schnell"], "model.assistant_lora_path", "warning", "falls apart"),
        (["train.train_text_encoder=true"], "train.train_text_encoder", "error", "cached"),
        (["network.linear=4000"], "network.linear", "error", "beyond the layers"),
        (["train.unload_text_encoder=true"], "train.unload_text_encoder", "warning", "alone"),
        (["sample.prompts=[a dog]"], "sample.prompts.0", "info", "trigger word"),
        (["train.steps=100000"], "train.steps", "warning", "epochs"),
        (["train.min_denoising_steps=999"], "train.min_denoising_steps", "error", "not below"),
        (["train.early_stop={patience: 3}"], "train.early_stop", "error", "needs validation"),
        (["save.keep_best=true"], "save.keep_best", "error", "needs validation"),
        (["train.diff_output_preservation=true"], "train.diff_output_preservation_class", "error", "missing"),
        (["save.push_to_hub=true"], "save.push_to_hub", "info", "own account"),
        (["datasets.0.is_reg=true"], "datasets", "error", "nothing to learn"),
        (["datasets.0.mask_path=/nowhere"], "datasets.0.mask_path", "error", "no folder"),
        (["network.pretrained_lora_path=/no.st"], "network.pretrained_lora_path", "error", "no file"),
        (["train.validation_config={validation_items: [{image_path: /no.png}]}"],
         "train.validation_config.validation_items.0.image_path", "error", "no file"),
        (["model.qtype=qfloat3"], "model.qtype", "error", "'nf4'"),
        (["train.train_unet=false"], "train.train_unet", "error", "nothing would be trained"),
    ],
)  # fmt: skip
def test_what_would_waste_money_is_said_before_launch(
    dataset: Path, overrides: list[str], key: str, severity: str, words: str
) -> None:
    everything = [f"datasets.0.folder_path={dataset}", *overrides]
    _, problems = check_config(FIXTURES / "tutorial.yaml", everything)
    (problem,) = [p for p in problems if p.key == key]
    assert problem.severity == severity
    assert words in problem.message


def test_a_json_manifest_is_a_dataset(dataset: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "captions.json"
    manifest.write_text('{"pictures/a.png": {"caption": "x"}}', encoding="utf-8")
    check("dev_24gb.yaml", manifest)
    manifest.write_text("[]", encoding="utf-8")
    _, problems = check_config(FIXTURES / "dev_24gb.yaml", [f"datasets.0.folder_path={manifest}"])
    assert "map picture paths" in problems[0].message


def test_ignored_keys_get_one_line_each(dataset: Path) -> None:
    _, problems = check("dev_24gb.yaml", dataset, "train.snr_gamma=5", "train.do_cfg=true", "network.conv=16")
    assert [p.message for p in problems if p.key == "train.snr_gamma"] == [
        "has no effect on FLUX.1 LoRA training"
    ]
    assert len([p for p in problems if p.key == "train.do_cfg"]) == 1
    assert not [p for p in problems if p.key == "network.conv"]


def test_a_file_of_5000_lines_is_checked_within_a_second(dataset: Path, tmp_path: Path) -> None:
    import time

    text = (FIXTURES / "tutorial.yaml").read_text(encoding="utf-8")
    prompts = "".join(f'          - "prompt number {n} of example_person"\n' for n in range(4950))
    path = tmp_path / "long.yaml"
    path.write_text(text.replace("        prompts:\n", "        prompts:\n" + prompts), encoding="utf-8")
    began = time.perf_counter()
    loaded, _ = check_config(path, [f"datasets.0.folder_path={dataset}"])
    assert loaded is not None
    assert len(loaded.config.process.sample.prompts) == 4952
    assert time.perf_counter() - began < 1.0
