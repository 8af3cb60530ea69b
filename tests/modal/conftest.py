"""A project and a computer, and a Modal of their own, for runs from end to end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.loopback.cloud import LoopbackCloud
from tests.loopback.fixtures import modal_cloud
from tests.modal.client import Client

__all__ = ["modal_cloud"]

PRETEND = Path(__file__).with_name("pretend_trainer.py")


def write_project(folder: Path, model: Path, **process: Any) -> Path:
    """Three captioned pictures and a config; returns the config."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (64, 64), (80 * number, 120, 200)).save(pictures / f"{number}.png")
        (pictures / f"{number}.txt").write_text(f"zqfox number {number}\n", encoding="utf-8")
    settings: dict[str, Any] = {
        "type": "sd_trainer",
        "trigger_word": "zqfox",
        "training_seed": 7,
        "network": {"type": "lora", "linear": 4},
        "save": {"dtype": "float16", "save_every": 4},
        "datasets": [{"folder_path": str(pictures), "caption_ext": "txt", "resolution": [64]}],
        "train": {"steps": 40, "lr": 1e-3, "dtype": "float32", "disable_sampling": True},
        "model": {"name_or_path": str(model)},
        "sample": {"prompts": []},
    }
    for section, values in process.items():
        settings[section] = {**settings.get(section, {}), **values}
    config = folder / "fox.yaml"
    whole = {"job": "extension", "config": {"name": "fox", "process": [settings]}}
    config.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return config


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete diffusers folder of a tiny FLUX; shared by the workers of pytest-xdist."""
    from backend.trainer.tiny import build_tiny_flux

    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    return build_tiny_flux(root / "tiny-flux-for-runs")  # the trainer's own tests compare bits of theirs


@pytest.fixture
def computer(modal_cloud: LoopbackCloud, tmp_path: Path, tiny_flux: Path) -> Iterator[Client]:
    """A computer whose runs are really trained."""
    client = Client(modal_cloud, tmp_path / "home", write_project(tmp_path / "project", tiny_flux))
    yield client
    client.switch_off()


@pytest.fixture
def pretend(computer: Client) -> Callable[..., Client]:
    """Makes the computer's runs be trained by the pretend trainer, with the given plan."""

    def with_plan(**plan: Any) -> Client:
        computer.cloud.knobs.environment |= {
            "FLUXLORA_TRAINER": PRETEND.stem,
            "PYTHONPATH": str(PRETEND.parent),
            "PRETEND": json.dumps(plan),
        }
        return computer

    return with_plan
