"""Trackers: what they are told, and that nothing of theirs ends a run."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from backend.events import WarningEvent
from tests.trainer.conftest import MakeRun

SAMPLE = {"prompts": ["zork"], "width": 64, "height": 64, "sample_steps": 1, "sample_every": 100}


class Service:
    """Stands in for the wandb package: takes down what it is told."""

    def __init__(self, *, key: str | None = "key", fails_at: int | None = None) -> None:
        self.settings: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = False
        self._fails_at = fails_at
        module = ModuleType("wandb")
        module.init = self.init  # type: ignore[attr-defined]
        module.Settings = lambda **kwargs: kwargs  # type: ignore[attr-defined]
        module.Image = lambda path, caption: (path, caption)  # type: ignore[attr-defined]
        module.api = SimpleNamespace(api_key=key)  # type: ignore[attr-defined]
        self.module = module

    def init(self, **settings: Any) -> Service:
        self.settings = settings
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        if self._fails_at is not None and step >= self._fails_at:
            raise ConnectionError("the service is down")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_numbers_and_pictures_arrive(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service.module)
    run = make_run(
        logging={"use_wandb": True, "log_every": 2, "project_name": "foxes"},
        train={"steps": 5, "disable_sampling": False, "skip_first_sample": True},
        sample=SAMPLE,
    )
    assert run.train() == 0
    numbers = {step: values for step, values in service.logged if "loss" in values}
    assert list(numbers) == [1, 2, 4]
    losses = {event.step: event.loss for event in run.events() if event.TYPE == "step"}
    assert all(values["loss"] == losses[step] for step, values in numbers.items())
    assert numbers[2].keys() >= {"loss", "loss_smoothed", "lr", "grad_norm"}
    ((step, picture),) = [(step, values) for step, values in service.logged if "sample/0" in values]
    assert step == 5
    assert picture["sample/0"][1] == "zork"
    assert Path(picture["sample/0"][0]).is_file()
    assert service.settings["project"] == "foxes"
    assert str(run.folder.path.parent) not in str(service.settings["config"])
    assert service.finished
    assert not run.events(WarningEvent)


def test_a_service_that_fails_is_left_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(fails_at=2)
    monkeypatch.setitem(sys.modules, "wandb", service.module)
    run = make_run(logging={"use_wandb": True, "log_every": None}, train={"steps": 4})
    assert run.train() == 0
    (warning,) = run.events(WarningEvent)
    assert warning.code == "tracker_failed"
    assert "the service is down" in warning.message
    assert [step for step, _ in service.logged] == [1]


def test_without_a_key_nobody_is_asked(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(key=None)
    monkeypatch.setitem(sys.modules, "wandb", service.module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = make_run(logging={"use_wandb": True}, train={"steps": 1})
    assert run.train() == 0
    (warning,) = run.events(WarningEvent)
    assert "WANDB_API_KEY" in warning.message
    assert not service.settings


def test_missing_packages_are_warnings(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard.writer", raising=False)
    run = make_run(logging={"use_wandb": True}, log_dir=str(tmp_path / "tb"), train={"steps": 1})
    assert run.train() == 0
    warnings = run.events(WarningEvent)
    assert [warning.code for warning in warnings] == ["tracker_missing"] * 2
    assert "pip install wandb" in warnings[0].message
    assert "pip install tensorboard" in warnings[1].message


def test_tensorboard_records(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run(
        log_dir=str(tmp_path / "tb"),
        logging={"log_every": 1},
        train={"steps": 4, "disable_sampling": False, "skip_first_sample": True},
        sample=SAMPLE,
    )
    assert run.train_until(2, monkeypatch) == 0
    assert run.train() == 0
    assert not run.events(WarningEvent)
    records = EventAccumulator(str(tmp_path / "tb" / "tiny"))
    records.Reload()
    losses = {event.step: event.loss for event in run.events() if event.TYPE == "step"}
    assert {e.step: e.value for e in records.Scalars("loss")} == pytest.approx(losses)
    assert [image.step for image in records.Images("sample/0")] == [4]
