"""A trained file, loaded the way people load it: ``FluxPipeline.load_lora_weights``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from safetensors import safe_open
from safetensors.torch import save_file

from tests.trainer.conftest import MakeRun, Run
from tests.trainer.messages import complaints

# What diffusers says of every LoRA that leaves the text encoder alone, whoever made it.
_NO_TEXT_ENCODER = "diffusers.loaders.lora_base: No LoRA keys associated to CLIPTextModel found"


@pytest.fixture(scope="module")
def pipeline(tiny_flux: Path) -> FluxPipeline:
    loaded = FluxPipeline.from_pretrained(tiny_flux)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def _image(pipeline: FluxPipeline) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    result = pipeline(
        "zork, a red circle",
        width=64,
        height=64,
        num_inference_steps=3,
        max_sequence_length=64,
        generator=generator,
        output_type="np",
    )
    return np.asarray(result.images[0])


def _trained(make_run: MakeRun, dtype: str) -> Run:
    run = make_run(save={"dtype": dtype}, train={"steps": 4})
    assert run.train() == 0
    return run


@pytest.mark.parametrize("dtype", ["float16", "bf16", "float32"])
def test_it_loads_without_a_complaint_and_changes_the_picture(
    make_run: MakeRun, pipeline: FluxPipeline, dtype: str
) -> None:
    run = _trained(make_run, dtype)
    plain = _image(pipeline)
    assert np.array_equal(_image(pipeline), plain)  # nothing but the LoRA will make a difference
    try:
        with complaints() as heard:
            pipeline.load_lora_weights(str(run.folder.checkpoints), weight_name=run.final.name)
        assert [message for message in heard if not message.startswith(_NO_TEXT_ENCODER)] == []
        assert np.abs(_image(pipeline) - plain).mean() > 0.005
    finally:
        pipeline.unload_lora_weights()
    assert np.array_equal(_image(pipeline), plain)


def test_every_key_finds_its_layer_and_keeps_its_value(make_run: MakeRun, pipeline: FluxPipeline) -> None:
    run = _trained(make_run, "float32")
    with safe_open(run.final, framework="pt") as file:
        saved = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    pipeline.load_lora_weights(str(run.final))
    try:
        loaded = {
            "transformer." + name.replace(".default_0.", "."): parameter
            for name, parameter in pipeline.transformer.named_parameters()
            if ".lora_" in name
        }
        assert loaded.keys() == saved.keys()
        for key, value in saved.items():
            assert torch.equal(loaded[key], value), key
        scales = {
            module.scaling["default_0"]
            for module in pipeline.transformer.modules()
            if getattr(module, "scaling", None)
        }
        assert scales == {1.0}
    finally:
        pipeline.unload_lora_weights()


def test_the_complaints_would_be_heard(make_run: MakeRun, pipeline: FluxPipeline, tmp_path: Path) -> None:
    """The tests above prove something only if a stray key is noticed."""
    run = _trained(make_run, "float32")
    with safe_open(run.final, framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    stray = {
        key.replace("single_transformer_blocks.1", "single_transformer_blocks.9"): value
        for key, value in tensors.items()
    }
    save_file(stray, tmp_path / "stray.safetensors")
    try:
        with complaints() as heard:
            pipeline.load_lora_weights(str(tmp_path / "stray.safetensors"))
        assert any("single_transformer_blocks.9" in message for message in heard)
    finally:
        pipeline.unload_lora_weights()
