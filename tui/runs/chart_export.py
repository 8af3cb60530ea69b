"""The numbers of a chart as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from backend.files import atomic_file
from tui.runs.history import METRICS, VALIDATION, RunHistory


def write_csv(path: Path, runs: Sequence[tuple[str, RunHistory]]) -> None:
    """Write every step and validation of some runs, a row each.

    Args:
        path: The file, which is replaced at the end.
        runs: Names and numbers.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(["run", "step", "time", "epoch", *METRICS, VALIDATION])
        for name, history in runs:
            # A cell that begins so would be a formula to a spreadsheet.
            safe = "'" + name if name[:1] in ("=", "+", "-", "@") else name
            for step, time, epoch, *values in history.rows():
                writer.writerow([safe, step, _when(time), epoch, *values, ""])
            for step, time, loss in history.validation_rows():
                writer.writerow([safe, step, _when(time), "", *[""] * len(METRICS), loss])
        text.detach()


def _when(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds")
