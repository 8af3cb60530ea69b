"""A real run of the tiny FLUX, laid out as on the volume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

STEPS = 30


def lay_out(root: Path, model: Path, *, launch: dict[str, Any] | None = None, **process: Any) -> Path:
    """Make the volume's content below ``root``; returns the run's folder."""
    data = root / ".fluxlora/data"
    pictures = data / "pictures"
    pictures.mkdir(parents=True)
    for index in range(3):
        image = Image.new("RGB", (96, 96), (60 * index, 200 - 30 * index, 90))
        ImageDraw.Draw(image).ellipse((10, 10, 60 + 5 * index, 70), fill=(250, 20 * index, 10))
        image.save(pictures / f"{index}.png")
        (pictures / f"{index}.txt").write_text(f"a red circle, number {index}", encoding="utf-8")
    shutil.copytree(model, data / "model")
    folder = root / "fox"
    (folder / "state").mkdir(parents=True)
    settings: dict[str, Any] = {
        "type": "sd_trainer",
        "device": "cpu",
        "trigger_word": "zork",
        "training_seed": 7,
        "network": {"type": "lora", "linear": 4},
        "save": {"dtype": "float32", "save_every": 5},
        "datasets": [{"folder_path": "${FLUXLORA_VOLUME}/.fluxlora/data/pictures", "resolution": [64]}],
        "train": {
            "steps": STEPS,
            "batch_size": 1,
            "lr": 1e-2,
            "dtype": "fp32",
            "disable_sampling": True,
            "gradient_checkpointing": False,
        },
        "model": {"name_or_path": "${FLUXLORA_VOLUME}/.fluxlora/data/model", "is_flux": True},
        "sample": {"sampler": "flowmatch", "prompts": []},
    }
    for key, value in process.items():
        settings[key] = {**settings.get(key, {}), **value}
    document = {"job": "extension", "config": {"name": "fox", "process": [settings]}}
    (folder / "config.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    facts = {"version": 1, "run_id": "r1", "launch": 1, "volume": "flux-lora-models", "created": 1.0}
    (folder / "state/launch.json").write_text(json.dumps(facts | (launch or {})), encoding="utf-8")
    return folder
