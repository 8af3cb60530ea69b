"""Commands that only look: ``runs``, ``metrics``, ``check``."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.problems import Problem


def print_json(value: Any) -> None:
    """Print one JSON document; numbers that JSON does not know become null."""
    print(json.dumps(_finite(value), ensure_ascii=False, indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def print_problems(file: str, problems: Sequence[Problem]) -> None:
    """One line a problem on standard error: ``file:line: key: what``."""
    for problem in problems:
        mark = "" if problem.severity == "error" else f" [{problem.severity}]"
        print(problem.describe(file) + mark, file=sys.stderr)


def check(config: str, overrides: Sequence[str], *, as_json: bool) -> int:
    """Check a config; 0 if it can be trained, 2 if not."""
    from config.load import check_config

    loaded, problems = check_config(config, overrides)
    if as_json:
        print_json({"ok": loaded is not None, "problems": [problem.record() for problem in problems]})
        return 0 if loaded is not None else 2
    print_problems(config, problems)
    errors = sum(problem.severity == "error" for problem in problems)
    if loaded is None:
        print(f"{config}: {errors} error{'s' if errors != 1 else ''}; it cannot be trained", file=sys.stderr)
        return 2
    remarks = f" ({len(problems)} remark{'s' if len(problems) != 1 else ''})" if problems else ""
    print(f"{config}: ok{remarks}")
    return 0


def runs(*, as_json: bool) -> int:
    """List all runs."""
    from backend.runs.service import RunService

    found = RunService().list_now()
    if as_json:
        print_json(
            [
                {
                    "id": run.id,
                    "name": run.name,
                    "kind": run.kind,
                    "backend": run.backend,
                    "status": str(run.status),
                    "step": run.step,
                    "steps": run.steps,
                    "loss": run.loss,
                    "dollars": run.dollars,
                    "created": datetime.fromtimestamp(run.created, UTC).isoformat(timespec="seconds"),
                    "path": str(run.path),
                }
                for run in found
            ]
        )
        return 0
    if not found:
        print("no runs yet; fluxlora-tui demo makes one", file=sys.stderr)
        return 0
    rows = [
        (
            run.id,
            printable(run.name),
            run.backend,
            str(run.status),
            f"{run.step}/{run.steps}",
            "" if run.loss is None else f"{run.loss:.4f}",
            "" if run.dollars is None else f"${run.dollars:.2f}",
            datetime.fromtimestamp(run.created).strftime("%Y-%m-%d %H:%M"),
            str(run.path),
        )
        for run in found
    ]
    print_table(("ID", "NAME", "BACKEND", "STATUS", "STEP", "LOSS", "COST", "CREATED", "PATH"), rows)
    return 0


def metrics(run: str, *, as_json: bool) -> int:
    """Print a run's steps."""
    from backend.runs.folder import RunFolder
    from backend.runs.service import RunService
    from backend.runs.stream import EventTail
    from backend.runs.view import step_rows

    record = RunService().record_now(run)
    tail, events = EventTail(RunFolder(record.path).events), []
    while batch := tail.read():
        events += batch
    rows = step_rows(events)
    if as_json:
        print_json({"run": record.id, "steps": rows})
        return 0
    print_table(
        ("STEP", "LOSS", "SMOOTHED", "LR", "GRAD", "SECONDS"),
        [
            (
                str(row["step"]),
                f"{row['loss']:.5f}",
                f"{row['smoothed']:.5f}",
                f"{row['lr']:.3g}",
                "" if row["grad_norm"] is None else f"{row['grad_norm']:.3g}",
                f"{row['seconds']:.3f}",
            )
            for row in rows
        ],
    )
    return 0


def printable(text: str) -> str:
    """Text for one terminal line: control characters cannot move the cursor or colour anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns as wide as their widest cell."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def absolute(path: str) -> Path:
    """A path that a person typed, absolute."""
    return Path(path).expanduser().absolute()
