"""Proving that a finished LoRA file works where people use it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from backend.files import read_json, write_json
from backend.lora.selftest import self_test
from backend.runs.folder import RunFolder
from backend.trainer.errors import TrainingError

_ARCHITECTURE_FILE = "architecture.json"


def keep_architecture(transformer: nn.Module, folder: RunFolder) -> None:
    """Note the linear layers of a transformer that has no adapter yet, for :func:`check_lora`."""
    layers = {
        name: [module.out_features, module.in_features]
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    }
    write_json(folder.state / _ARCHITECTURE_FILE, layers)


def check_lora(path: Path, folder: RunFolder) -> None:
    """Read a LoRA file as its readers will.

    Raises:
        TrainingError: It would not work; the file is kept.
    """
    layers = read_json(folder.state / _ARCHITECTURE_FILE)
    if not isinstance(layers, dict):
        return  # finished by a version that noted nothing
    problems = self_test(path, {name: (size[0], size[1]) for name, size in layers.items()})
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TrainingError(
            f"the LoRA file {path} is complete but failed its self-test: {problems[0]}{more}; it is kept",
            "selftest_failed",
        )
