"""Previews of a sample while it is drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from backend.events import PhaseEvent, PreviewEvent, SampleEvent
from backend.runs.view import RunView
from backend.trainer import live_preview
from backend.trainer.live_preview import LivePreview, expected_latents
from tests.trainer.conftest import MakeRun


def test_the_exact_slope_leads_to_the_exact_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 6, 64, generator=generator) for _ in range(2))

    def at(sigma: float) -> torch.Tensor:
        return (1 - sigma) * clean + sigma * noise

    assert torch.allclose(expected_latents(at(0.9), at(0.6), 0.9, 0.6), clean, atol=1e-5)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview after every step, however quick."""
    made = LivePreview.__init__

    def without_waiting(self: LivePreview, *arguments: object, **named: object) -> None:
        made(self, *arguments, **{**named, "interval": 0.0})  # type: ignore[arg-type]

    monkeypatch.setattr(LivePreview, "__init__", without_waiting)


ONCE = {"steps": 1, "skip_first_sample": True, "disable_sampling": False}
SAMPLE = {
    "sample_every": 9,
    "prompts": ["zork one", "zork two"],
    "width": 64,
    "height": 96,
    "sample_steps": 5,
}


def test_each_picture_is_seen_coming(make_run: MakeRun, often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    shown = LivePreview._show

    def look(self: LivePreview, index: int, *rest: torch.Tensor) -> None:
        shown(self, index, *rest)
        with Image.open(self._kept[-1]) as picture:
            picture.load()
            seen.append(picture.size)

    monkeypatch.setattr(LivePreview, "_show", look)
    run = make_run(train=ONCE, sample=SAMPLE)
    assert run.train() == 0
    previews = run.events(PreviewEvent)
    # Not before a slope is known, and not for the last step: the picture itself comes then.
    assert [(p.index, p.done, p.total) for p in previews] == [(i, n, 5) for i in (0, 1) for n in (2, 3, 4)]
    assert set(seen) == {(64, 96)}
    assert len(run.events(SampleEvent)) == 2
    assert not list(run.folder.samples.glob(".preview*"))  # gone with the picture


def test_previews_change_nothing(make_run: MakeRun, often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "train": {"steps": 3, "disable_sampling": False},
        "sample": {**SAMPLE, "sample_every": 2, "format": "png"},
    }
    with_previews = make_run("with", **settings)
    assert with_previews.train() == 0
    monkeypatch.setattr(LivePreview, "after_step", lambda *arguments: None)
    without = make_run("without", **settings)
    assert without.train() == 0
    one, other = load_file(with_previews.final), load_file(without.final)
    assert all(torch.equal(one[key], other[key]) for key in one.keys() | other.keys())
    pictures = [sorted(run.folder.samples.glob("*.png")) for run in (with_previews, without)]
    assert len(pictures[0]) == 6  # two prompts: before the first step, after the second, at the end
    assert [p.read_bytes() for p in pictures[0]] == [p.read_bytes() for p in pictures[1]]
    assert with_previews.events(PreviewEvent)
    assert not without.events(PreviewEvent)


def test_a_preview_that_fails_is_no_failure(
    make_run: MakeRun, often: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(live_preview.LivePreview, "_decode", broken)
    run = make_run(train=ONCE, sample=SAMPLE)
    assert run.train() == 0
    assert len(run.events(SampleEvent)) == 2
    assert run.events(PreviewEvent) == []


def test_the_view_shows_what_is_being_drawn(tmp_path: Path) -> None:
    view = RunView()
    view.apply([PhaseEvent(phase="sampling", total=2)])
    view.apply([PreviewEvent(step=4, index=1, prompt="x", seed=7, path="samples/.p", done=3, total=9)])
    assert view.drawing == SampleEvent(
        step=4, index=1, prompt="3/9 · x", seed=7, path="samples/.p", t=view.drawing.t if view.drawing else 0
    )
    view.apply([SampleEvent(step=4, index=1, prompt="x", seed=7, path="samples/a.jpg")])
    assert view.drawing is None
    assert len(view.samples) == 1
