"""Contradictions between valid values: what would waste time or money if it were launched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from config.problems import Problem
from config.schema import RunConfig

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


def looks_like_path(name_or_path: str) -> bool:
    """Whether a ``model.name_or_path`` means a folder or file rather than a Hub id."""
    if name_or_path.startswith((".", "/", "~", "\\")) or re.match(r"^[A-Za-z]:[\\/]", name_or_path):
        return True
    return not _HUB_ID.match(name_or_path)


def has_pictures(folder: Path) -> bool:
    """Whether the folder or one below it holds a picture; hidden folders do not count."""
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if any(Path(name).suffix.lower() in PICTURE_SUFFIXES for name in files):
            return True
    return False


def cross_checks(config: RunConfig) -> Iterator[Problem]:
    """Problems that need only the config."""
    process = config.process
    train, save, sample = process.train, process.save, process.sample
    if save.save_every > train.steps:
        yield Problem(
            "warning",
            "save.save_every",
            f"{save.save_every} is more than train.steps ({train.steps}): only the final file is saved",
        )
    sampling = sample.sample_every and sample.prompts and not train.disable_sampling
    if sampling and sample.sample_every > train.steps:
        yield Problem(
            "info",
            "sample.sample_every",
            f"{sample.sample_every} is more than train.steps ({train.steps}): no samples during training",
        )
    if process.trigger_word and sampling:
        word = process.trigger_word.lower()
        for index, prompt in enumerate(sample.prompts):
            if word not in prompt.lower() and "[trigger]" not in prompt and "[name]" not in prompt:
                yield Problem(
                    "info",
                    f"sample.prompts.{index}",
                    f"does not contain the trigger word {process.trigger_word!r} or [trigger]",
                )
    if process.network.alpha is not None and not process.network.respect_alpha:
        if process.network.alpha != process.network.rank:
            yield Problem(
                "info",
                "network.linear_alpha",
                "is ignored for FLUX, as in ai-toolkit; set network.respect_alpha: true to use it",
            )
    elif process.network.respect_alpha and process.network.alpha is None:
        yield Problem("warning", "network.respect_alpha", "has no effect without network.linear_alpha")
    if train.lr > 0.01:
        yield Problem("warning", "train.lr", f"{train.lr:g} is very high for {train.optimizer}")


def file_checks(config: RunConfig) -> Iterator[Problem]:
    """Problems that need a look at this machine's disk. Paths in ``config`` are resolved already."""
    for index, dataset in enumerate(config.process.datasets):
        key = f"datasets.{index}.folder_path"
        folder = Path(dataset.folder_path)
        try:
            if not folder.exists():
                yield Problem("error", key, f"there is no folder {folder}")
            elif not folder.is_dir():
                yield Problem("error", key, f"{folder} is a file; give the folder that holds the pictures")
            elif not has_pictures(folder):
                yield Problem("error", key, f"no pictures (.jpg, .jpeg, .png, .webp) in {folder}")
        except OSError as error:
            yield Problem("error", key, f"cannot read {folder}: {error.strerror or error}")
    name = config.process.model.name_or_path
    if looks_like_path(name):
        model = Path(name)
        if not model.exists():
            yield Problem("error", "model.name_or_path", f"there is no folder {model}")
        elif model.is_dir() and not (model / "transformer" / "config.json").is_file():
            yield Problem(
                "error",
                "model.name_or_path",
                f"{model} is no diffusers folder: it has no transformer/config.json",
            )
