"""What each dataset is checked for, remembered from session to session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.datasets.uses import RunUse, last_configs, last_used
from backend.files import read_json, write_json
from tui.datasets.session import Training


def _file(root: Path) -> Path:
    return root / "datasets" / "training.json"


def load_training(root: Path, folder: Path, use: RunUse | None = None) -> Training:
    """How a dataset is trained by its last use, but for what was chosen.

    Args:
        root: The data folder.
        folder: The dataset.
        use: Where it was used; the defaults hold without it.
    """
    usual = Training()
    if use is not None:
        resolutions = use.resolutions or usual.resolutions
        usual = Training(resolutions, use.trigger, use.caption_ext, use.kind, use.default_caption)
    entry = _stored(root, folder)
    if entry is None:
        return usual
    chosen, trigger = entry.get("resolutions"), entry.get("trigger")
    if not (isinstance(chosen, list) and chosen and all(type(r) is int for r in chosen)):
        chosen = usual.resolutions
    return replace(usual, resolutions=tuple(chosen), trigger=trigger if isinstance(trigger, str) else "")


def last_training(root: Path, folder: Path, project: Path) -> Training:
    """How a dataset is trained by its last run or the newest config that names it, but for what was chosen.

    Reads many files: call it in a thread.

    Args:
        root: The data folder.
        folder: The dataset.
        project: The folder in which configs are looked for.
    """
    from backend.configs.project import project_configs

    use = last_used([folder], root).get(folder)
    if use is None:
        configs = [entry.path for entry in project_configs(root, project).entries()]
        use = last_configs([folder], configs).get(folder)
    return load_training(root, folder, use)


def _stored(root: Path, folder: Path) -> dict[str, Any] | None:
    data = read_json(_file(root))
    entry = data.get(str(folder)) if isinstance(data, dict) else None
    return entry if isinstance(entry, dict) else None


def store_training(root: Path, folder: Path, training: Training) -> None:
    """Remember what was chosen.

    Raises:
        OSError: It cannot be written.
    """
    data = read_json(_file(root))
    known = data if isinstance(data, dict) else {}
    known[str(folder)] = {"resolutions": list(training.resolutions), "trigger": training.trigger}
    _file(root).parent.mkdir(parents=True, exist_ok=True)
    write_json(_file(root), known)


def parse_resolutions(text: str) -> tuple[int, ...] | str:
    """Resolutions from what was typed, or a sentence that says what is wrong."""
    words = text.replace(",", " ").split()
    if not words:
        return "Type at least one resolution, such as 512 768 1024."
    for word in words:
        if not word.isdecimal() or not 64 <= int(word) <= 4096:
            return f"{word} is no resolution; one is a number from 64 to 4096."
    return tuple(sorted({int(word) for word in words}))
