"""Texts and samples against diffusers' own FluxPipeline, from prompt to pixels."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from PIL import Image

from backend.runs.folder import RunFolder
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.control import StopControl
from backend.trainer.encode import Progress, cache_texts, encode_text
from backend.trainer.loading import BaseModel
from backend.trainer.prompts import Prompt, SamplePlan
from backend.trainer.report import Reporter
from backend.trainer.sampling import Sampler

PROMPT = "a red fox, sitting in the snow"


@pytest.fixture(scope="module")
def base(tiny_flux: Path) -> BaseModel:
    return BaseModel(tiny_flux, "tiny", torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def pipeline(tiny_flux: Path) -> FluxPipeline:
    pipeline = FluxPipeline.from_pretrained(tiny_flux)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("text", [PROMPT, "", "zork ", "a, b\nc"])
def test_texts_are_encoded_as_by_the_pipeline(base: BaseModel, pipeline: FluxPipeline, text: str) -> None:
    tokenizers = base.tokenizers()
    entry = encode_text(text, base.text_encoders(), tokenizers)
    with torch.no_grad():
        t5, clip, _ = pipeline.encode_prompt(text, None, max_sequence_length=tokenizers.t5_length)
    assert entry["t5"].shape == (tokenizers.t5_length, pipeline.transformer.config.joint_attention_dim)
    assert torch.equal(entry["t5"], t5[0])
    assert torch.equal(entry["clip"], clip[0])


def test_a_sample_is_the_pipelines_picture(
    base: BaseModel, pipeline: FluxPipeline, tmp_path: Path, never_stop: StopControl
) -> None:
    report = Reporter(None, io.StringIO())
    texts = TensorCache(tmp_path / "texts", RamBudget(1 << 30))
    keys = cache_texts([PROMPT], base, texts, Progress(report, never_stop))
    folder = RunFolder(tmp_path / "run")
    folder.create()
    prompt = Prompt(index=0, text=PROMPT, seed=11, width=96, height=64, guidance=3.5, steps=4, format="png")
    sampler = Sampler(base.transformer(), base.vae, SamplePlan([prompt]), keys, texts, folder)
    before = torch.get_rng_state()
    assert sampler.sample(7, report, never_stop)
    assert torch.equal(torch.get_rng_state(), before)
    (path,) = folder.samples.iterdir()

    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, shift=3.0
    )
    expected = pipeline(
        PROMPT,
        width=96,
        height=64,
        guidance_scale=3.5,
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(11),
        max_sequence_length=base.tokenizers().t5_length,
    ).images[0]
    with Image.open(path) as image:
        assert image.size == (96, 64)
        assert image.tobytes() == expected.tobytes()


def test_long_captions_are_cut_with_a_warning(
    base: BaseModel, tmp_path: Path, never_stop: StopControl
) -> None:
    out = io.StringIO()
    texts = TensorCache(tmp_path / "texts", RamBudget(1 << 30))
    cache_texts(["word " * 600, "short"], base, texts, Progress(Reporter(None, out), never_stop))
    warnings = [line for line in out.getvalue().splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "is cut to" in warnings[0]
