"""The configs that somebody has at hand: those of the working folder, and the demo's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.configs.library import ConfigLibrary
from backend.runs.registry import Registry


def project_configs(root: Path, folder: Path, also: Sequence[Path] = ()) -> ConfigLibrary:
    """The configs of a working folder and of the demo.

    Args:
        root: The data folder.
        folder: The working folder.
        also: More folders with configs.
    """
    return ConfigLibrary(folder, Registry(root), root / "trash", (root / "demo", *also))
