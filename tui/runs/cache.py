"""The table of runs as the last session saw it, for the first paint of the next one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.services import RunRow

_LIMIT = 200  # rows; the first paint shows one screen of them


@dataclass(frozen=True)
class CachedRun:
    """One remembered row."""

    id: str
    name: str
    backend: str
    status: str
    step: int
    steps: int
    loss: float | None
    seconds_per_step: float | None
    reason: str | None
    created: float
    updated: float
    path: Path
    dollars: float | None = None
    tags: tuple[str, ...] = ()
    archived: bool = False
    budget: float | None = None
    kind: str = "train"


def cache_path(home: Path) -> Path:
    """Where the table of the data folder ``home`` is remembered."""
    return home / "cache" / "run-table.json"


def load_runs(path: Path) -> tuple[CachedRun, ...]:
    """The remembered rows; none if there is no file or it is damaged."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            CachedRun(
                id=str(row["id"]),
                name=str(row["name"]),
                backend=str(row["backend"]),
                status=str(row["status"]),
                step=int(row["step"]),
                steps=int(row["steps"]),
                loss=None if row["loss"] is None else float(row["loss"]),
                seconds_per_step=None,  # a speed of yesterday says nothing
                reason=row.get("reason"),
                created=float(row["created"]),
                updated=float(row["updated"]),
                path=Path(row["path"]),
                dollars=None if row.get("dollars") is None else float(row["dollars"]),
                tags=tuple(str(tag) for tag in row.get("tags", ())),
                archived=bool(row.get("archived")),
                kind=str(row.get("kind") or "train"),
            )
            for row in rows
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ()


def save_runs(path: Path, runs: Iterable[RunRow]) -> None:
    """Remember ``runs``.

    Raises:
        OSError: The file cannot be written.
    """
    from backend.files import write_json

    rows = [
        {
            "id": run.id,
            "name": run.name,
            "backend": run.backend,
            "status": str(run.status),
            "step": run.step,
            "steps": run.steps,
            "loss": run.loss,
            "reason": run.reason,
            "created": run.created,
            "updated": run.updated,
            "path": str(run.path),
            "dollars": run.dollars,
            "tags": list(run.tags),
            "archived": run.archived,
            "kind": run.kind,
        }
        for run, _ in zip(runs, range(_LIMIT), strict=False)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rows)
