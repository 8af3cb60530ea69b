"""Samples while training: which, when, how strong, and what happens when they come out as nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from backend.events import SampleEvent, StepEvent, WarningEvent
from backend.runs.folder import RunFolder
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.control import StopControl
from backend.trainer.encode import Progress, cache_texts
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.prompts import RANDOM_SEED, Prompt, SamplePlan
from backend.trainer.report import Reporter
from backend.trainer.sampling import Sampler
from config.schema import NetworkConfig
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")
TEXT = "a red fox"
SMALL: dict[str, Any] = {"text": TEXT, "width": 64, "height": 64, "steps": 2, "format": "png"}


class Studio:
    """A tiny FLUX with a random LoRA, and what a sampler needs."""

    def __init__(self, tiny_flux: Path, where: Path, stop: StopControl) -> None:
        base = BaseModel(tiny_flux, "tiny", CPU, torch.float32)
        self.stop = stop
        self.out = io.StringIO()
        self.report = Reporter(None, self.out)
        self.texts = TensorCache(where / "texts", RamBudget(1 << 30))
        self.keys = cache_texts([TEXT], base, self.texts, Progress(self.report, stop))
        self.folder = RunFolder(where / "run")
        self.folder.create()
        self.transformer, self.vae = base.transformer(), base.vae()
        generator = torch.Generator().manual_seed(3)
        self.lora: Lora = attach_lora(self.transformer, NetworkConfig(rank=2), generator)
        with torch.no_grad():
            for parameter in self.lora.parameters.values():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)

    def draw(self, *prompts: Prompt, step: int = 1, start: int = 0, first: bool = False) -> list[bytes]:
        """The pixels of the pictures, in the order of the prompts."""
        for old in self.folder.samples.iterdir():
            old.unlink()
        plan = SamplePlan(list(prompts), list(prompts), start)
        sampler = Sampler(
            self.transformer,
            lambda: self.vae,
            plan,
            self.keys,
            self.texts,
            self.folder,
            strength=self.lora.strength,
        )
        self.drawn = sampler.sample(step, self.report, self.stop, first=first)
        self.bad = sampler.bad
        files = sorted(self.folder.samples.iterdir(), key=lambda path: path.stem.rpartition("_")[2])
        return [Image.open(path).convert("RGB").tobytes() for path in files]


@pytest.fixture
def studio(tiny_flux: Path, tmp_path: Path, never_stop: StopControl) -> Studio:
    return Studio(tiny_flux, tmp_path, never_stop)


def test_each_picture_has_its_own_settings(studio: Studio) -> None:
    plain = Prompt(index=0, seed=1, **SMALL)
    pictures = studio.draw(
        plain,
        Prompt(index=1, seed=1, **SMALL),
        Prompt(index=2, seed=2, **SMALL),
        Prompt(index=3, seed=1, **SMALL | {"width": 96}),
        Prompt(index=4, seed=1, guidance=1.0, **SMALL),
        Prompt(index=5, seed=1, **SMALL | {"steps": 3}),
    )
    assert pictures[0] == pictures[1]
    assert all(other != pictures[0] for other in pictures[2:])
    assert len(pictures[3]) == 96 * 64 * 3


def test_strength_scales_the_lora(studio: Studio) -> None:
    full, none = (
        studio.draw(Prompt(index=0, seed=1, strength=strength, **SMALL))[0] for strength in (1.0, 0.0)
    )
    assert full != none
    with studio.lora.off():
        assert studio.draw(Prompt(index=0, seed=1, **SMALL))[0] == none
    assert studio.draw(Prompt(index=0, seed=1, **SMALL))[0] == full  # as strong as before


def test_a_drawn_seed_is_told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[SampleEvent] = []
    monkeypatch.setattr(Reporter, "sample", lambda self, event: events.append(event))
    prompt = Prompt(index=0, seed=RANDOM_SEED, **SMALL)
    first, second = studio.draw(prompt)[0], studio.draw(prompt)[0]
    assert first != second
    assert events[0].seed != events[1].seed
    assert studio.draw(Prompt(index=0, seed=events[0].seed, **SMALL))[0] == first


def test_rounds_before_the_start_step_are_skipped(studio: Studio) -> None:
    prompt = Prompt(index=0, seed=1, **SMALL)
    assert not studio.draw(prompt, step=4, start=5)
    assert not studio.drawn
    assert studio.draw(prompt, step=5, start=5)
    assert studio.draw(prompt, step=0, start=5, first=True)


@pytest.mark.parametrize(("value", "what"), [(float("nan"), "not finite"), (-50.0, "black")])
def test_black_and_broken_pictures_are_told(studio: Studio, value: float, what: str) -> None:
    def nothing(latents: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        return (torch.full((1, 3, 64, 64), value),)

    studio.vae.decode = nothing
    pictures = studio.draw(Prompt(index=0, seed=1, **SMALL), Prompt(index=1, seed=1, **SMALL))
    assert studio.bad == 2
    assert len(pictures) == (0 if what == "not finite" else 2)  # a black picture is kept to be looked at
    warnings = [line for line in studio.out.getvalue().splitlines() if "WARNING" in line]
    assert len(warnings) == 2
    assert what in warnings[0]


# -- in a run ----------------------------------------------------------------------------------

SAMPLE = {
    "prompts": ["zork --w 96", "a dog"],
    "width": 64,
    "height": 64,
    "sample_steps": 1,
    "sample_every": 2,
}


def test_rounds_of_a_run(make_run: MakeRun) -> None:
    run = make_run(
        sample=SAMPLE | {"sample_start_step": 2},
        first_sample={"prompts": ["before"], "width": 64, "height": 64, "sample_steps": 1},
        train={"disable_sampling": False, "steps": 5},
    )
    assert run.train() == 0
    drawn = [(event.step, event.prompt) for event in run.events(SampleEvent)]
    rounds = [(step, text) for step in (2, 4, 5) for text in ("zork", "a dog")]
    assert drawn == [(0, "before"), *rounds]
    with Image.open(run.folder.path / run.events(SampleEvent)[1].path) as image:
        assert image.size == (96, 64)


def test_a_resumed_run_samples_first_if_forced(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(
        sample=SAMPLE | {"sample_every": 100},
        train={"disable_sampling": False, "steps": 2, "skip_first_sample": True, "force_first_sample": True},
    )
    assert run.train_until(1, monkeypatch) == 0
    assert [event.step for event in run.events(SampleEvent)] == [0, 0]
    assert run.train() == 0
    assert [event.step for event in run.events(SampleEvent)] == [0, 0, 1, 1, 2, 2]


def test_sampling_changes_nothing_that_is_trained(make_run: MakeRun) -> None:
    quiet = make_run("quiet")
    busy = make_run(
        "busy",
        sample=SAMPLE | {"sample_every": 1, "seed": -1, "network_multiplier": 0.5},
        train={"disable_sampling": False},
    )
    assert quiet.train() == busy.train() == 0
    assert not busy.events(WarningEvent)
    assert [e.loss for e in quiet.events(StepEvent)] == [e.loss for e in busy.events(StepEvent)]
