"""The demo's own config, trained for real for a while."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backend.demo import prepare_demo
from backend.events import SampleEvent, StepEvent
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from backend.trainer.attempt import run_attempt
from config.load import load_config


@pytest.mark.thorough
def test_the_demo_learns_what_it_promises(tiny_flux: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_flux, tmp_path / "demo" / "tiny-flux")  # saves building it again
    project = prepare_demo(tmp_path / "demo")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    loaded = load_config(project.config, ["train.steps=120", "sample.sample_every=1000", "device=cpu"])
    run.config.write_text(loaded.dump(), encoding="utf-8")
    assert run_attempt(run.path) == 0

    events = EventTail(run.events).read()
    steps = [event for event in events if isinstance(event, StepEvent)]
    assert len(steps) == 120
    start = sum(event.loss for event in steps[:10]) / 10
    assert steps[-1].smoothed < 0.65 * start
    assert {event.step for event in events if isinstance(event, SampleEvent)} == {0, 120}
    assert (run.checkpoints / "demo-fox.safetensors").is_file()
