"""What the library says of a dataset folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from backend.datasets.library import Summary, summary
from backend.datasets.lint import lint
from backend.datasets.scan import scan_all
from backend.datasets.uses import RunUse
from tui.datasets.session import Places
from tui.datasets.training import load_training


class Counts(NamedTuple):
    """A dataset in numbers; ``problems`` are errors and warnings."""

    summary: Summary
    problems: int = 0


def count(root: Path, folder: Path, use: RunUse | None = None, *, again: bool = False) -> Counts:
    """Counts of a dataset: from what is remembered of it, or by reading the folder.

    Args:
        root: The data folder.
        folder: The dataset.
        use: The run it was used in last, if that is known.
        again: Read the folder though something is remembered.

    Raises:
        DatasetError: The folder cannot be read.
    """
    training = load_training(root, folder, use)
    index = Places(root).index(folder, training.caption_ext)
    found = summary(folder, index)
    if not found.exists:
        return Counts(found)
    if again or not found.scanned:
        items = list(scan_all(folder, caption_ext=training.caption_ext, index=index).items)
        found = summary(folder, index)
    else:
        items = index.load()
    found_problems = lint(folder, items, training.lint_options)
    problems = [problem for problem in found_problems if problem.severity != "info"]
    return Counts(found, len(problems))
