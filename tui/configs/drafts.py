"""Copies of runs' configs, to be edited and trained again."""

from __future__ import annotations

import re
from pathlib import Path

_LONGEST = 60


def draft_of(root: Path, name: str, run_folder: Path) -> Path:
    """Copy a run's config to ``<root>/drafts``, under a name that nothing has yet; returns the copy.

    The run's own config stays as it was: it is what its checkpoints were trained with.

    Raises:
        OSError: It cannot be read, or the copy cannot be written.
    """
    from backend.files import write_text

    text = (run_folder / "config.yaml").read_text(encoding="utf-8")
    folder = root / "drafts"
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "-", name)[:_LONGEST].strip("-.") or "config"
    path, number = folder / f"{stem}.yaml", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.yaml"
    write_text(path, text)
    return path
