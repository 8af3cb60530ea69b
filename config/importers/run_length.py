"""Epochs as steps: what other trainers count in passes over the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from config.checks import PICTURE_SUFFIXES, count_pictures
from config.importers.draft import Block
from config.importers.files import existing

PLACEHOLDER = "./pictures"  # stands for a folder that the source does not name


def pictures_in(folder: str, beside: Path, *, recursive: bool = True) -> int | None:
    """How many pictures the folder has; None if it is not on this machine."""
    found = existing(folder, beside)
    if found is None or not found.is_dir():
        return None
    try:
        if recursive:
            return count_pictures(found)
        return sum(p.suffix.lower() in PICTURE_SUFFIXES for p in found.iterdir())
    except OSError:
        return None


def updates(epochs: float, samples: int, batch: int, accumulation: int) -> int:
    """Optimizer updates in ``epochs`` passes over ``samples`` pictures (repeats included)."""
    return max(1, round(epochs * math.ceil(math.ceil(samples / max(1, batch)) / max(1, accumulation))))


def samples_an_epoch(datasets: Sequence[Block], beside: Path, *, each_size: bool = True) -> int | None:
    """Pictures times repeats (times sizes) of all datasets; None if a folder is not here or all are empty.

    A regularisation set is matched to the others, picture for picture, so it doubles the epoch.
    """
    total, has_reg = 0, False
    if any(block.get("folder_path") == PLACEHOLDER for block in datasets):
        return None
    for block in datasets:
        if block.get("is_reg"):
            has_reg = True
            continue
        count = pictures_in(str(block.get("folder_path")), beside)
        if count is None:
            return None
        sizes = block.get("resolution")
        copies = len(sizes) if each_size and isinstance(sizes, list) else 1
        total += count * int(block.get("num_repeats") or 1) * copies
    return total * (2 if has_reg else 1) or None


def merge_resolutions(blocks: list[Block]) -> list[Block]:
    """Datasets that differ in resolution alone become one with a list of sizes."""
    merged: list[Block] = []
    for block in blocks:
        rest = {k: v for k, v in block.plain().items() if k != "resolution"}
        for other in merged:
            same = {k: v for k, v in other.plain().items() if k != "resolution"} == rest
            if same and not {*block.get("resolution")} & {*other.get("resolution")}:
                other.set("resolution", [*other.get("resolution"), *block.get("resolution")])
                other.notes += [note for note in block.notes if note not in other.notes]
                break
        else:
            merged.append(block)
    return merged
