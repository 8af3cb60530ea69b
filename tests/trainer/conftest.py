"""A tiny FLUX, pictures, and runs that train on them, for all tests of the trainer."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded: workers share two cores

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from backend.events import Event
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from backend.trainer.attempt import run_attempt
from backend.trainer.control import StopControl
from backend.trainer.report import Reporter
from backend.trainer.tiny import build_tiny_flux


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete diffusers folder of a tiny FLUX; shared by the workers of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    folder = build_tiny_flux(root / "tiny-flux")
    gc.collect()
    gc.freeze()  # every run collects garbage several times: not what was imported to build or load models
    return folder


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The app's data folder, with the caches, away from the user's own."""
    monkeypatch.setenv("FLUXLORA_HOME", str(shared_home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return shared_home


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five captioned pictures of different shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, size in enumerate([(128, 128), (160, 96), (96, 160), (140, 120), (200, 200)]):
        draw_picture(folder / f"picture{index}.png", size, index)
        (folder / f"picture{index}.txt").write_text(f"a red circle, number {index}", encoding="utf-8")
    return folder


def draw_picture(path: Path, size: tuple[int, int], index: int = 0) -> None:
    image = Image.new("RGB", size, (40 * index % 256, 200 - 30 * index, 90))
    ImageDraw.Draw(image).ellipse((10, 10, 60 + 5 * index, 70), fill=(250, 20 * index, 10))
    image.save(path)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with nested ``changes``."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


class Run:
    """A run folder, its config, and ways to train it."""

    def __init__(self, path: Path, process: Mapping[str, Any]) -> None:
        self.folder = RunFolder(path)
        self.process = dict(process)
        path.mkdir(parents=True)
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Change the config of the run."""
        self.process = merged(self.process, changes)
        document = {"job": "extension", "config": {"name": "tiny", "process": [self.process]}}
        self.folder.config.write_text(yaml.safe_dump(document), encoding="utf-8")

    def train(self) -> int:
        """One attempt, in this process; returns its exit code."""
        return run_attempt(self.folder.path)

    def train_until(self, step: int, monkeypatch: pytest.MonkeyPatch) -> int:
        """One attempt that is asked to stop when it has reported ``step``."""
        report_step = Reporter.step

        def step_then_ask(reporter: Reporter, event: Any) -> None:
            report_step(reporter, event)
            if event.step == step:
                self.folder.stop_file.touch()

        with monkeypatch.context() as patch:
            patch.setattr(Reporter, "step", step_then_ask)
            return self.train()

    def events(self, kind: type[Event] = Event) -> list[Any]:
        """The events reported so far."""
        return [event for event in EventTail(self.folder.events).read() if isinstance(event, kind)]

    @property
    def final(self) -> Path:
        return self.folder.checkpoints / "tiny.safetensors"


MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path, tiny_flux: Path, pictures: Path) -> MakeRun:
    """Makes runs that train the tiny FLUX for a few steps; keyword arguments change the process."""

    def make(name: str = "run", **changes: Any) -> Run:
        base = {
            "type": "sd_trainer",
            "device": "cpu",
            "trigger_word": "zork",
            "training_seed": 7,
            "network": {"type": "lora", "linear": 4},
            "save": {"dtype": "float32", "save_every": 0},
            "datasets": [{"folder_path": str(pictures), "resolution": [64]}],
            "train": {
                "steps": 3,
                "batch_size": 1,
                "lr": 1e-2,
                "dtype": "fp32",
                "disable_sampling": True,
                "gradient_checkpointing": False,
            },
            "model": {"name_or_path": str(tiny_flux), "is_flux": True},
            "sample": {"sampler": "flowmatch", "prompts": []},
        }
        return Run(tmp_path / name, merged(base, changes))

    return make


@pytest.fixture
def never_stop(tmp_path: Path) -> StopControl:
    return StopControl(tmp_path / "no-stop-file", lambda: None)
