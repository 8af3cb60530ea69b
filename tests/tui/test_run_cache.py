"""The remembered table of runs."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from backend.runs.registry import RunSummary
from tests.tui.fakes import summary
from tui.runs.cache import CachedRun, load_runs, save_runs
from tui.services import RunRow


def test_a_remembered_row_has_all_that_the_screens_ask_of_a_row() -> None:
    asked = {name for name in dir(RunRow) if not name.startswith("_")} | set(RunRow.__annotations__)
    assert asked <= {field.name for field in fields(CachedRun)}


def test_rows_come_back(tmp_path: Path) -> None:
    row: RunSummary = summary(kind="caption", tags=("a", "b"), archived=True)
    file = tmp_path / "cache" / "rows.json"
    save_runs(file, [row])
    (again,) = load_runs(file)
    assert again.seconds_per_step is None  # a speed of yesterday says nothing
    for field in fields(CachedRun):
        if field.name not in ("seconds_per_step", "budget"):
            assert getattr(again, field.name) == getattr(row, field.name), field.name
