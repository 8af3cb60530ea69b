from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from backend.launchers.local import LocalLauncher
from backend.launchers.process import kill
from backend.runs.registry import Registry

COUNTING = (sys.executable, str(Path(__file__).with_name("counting_trainer.py")))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


@pytest.fixture
def launcher(registry: Registry) -> Iterator[LocalLauncher]:
    """A local launcher whose runs are counted, not trained; whatever still runs is killed at the end."""
    yield LocalLauncher(registry, COUNTING)
    for run in registry.all():
        record = registry.record(run)
        kill(record.handle)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Write a config; returns its path."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "a.png")

    def make(name: str = "fox", steps: int = 20, training_folder: str | None = None) -> Path:
        extra = f"\n      training_folder: '{training_folder}'" if training_folder else ""
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"""\
config:
  name: {name}
  process:
    - type: sd_trainer{extra}
      datasets: [{{folder_path: pictures}}]
      train: {{steps: {steps}, lr: 1e-4}}
      save: {{save_every: 10}}
      model: {{name_or_path: some/model}}
""",
            encoding="utf-8",
        )
        return path

    return make
