"""``pull``: a run's files, brought home from where it trains."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from backend.launchers.base import RunFile
from backend.runs.folder import RunRecord
from backend.runs.service import RunService
from tui.cli.main import fail
from tui.cli.progress import ProgressLine
from tui.cli.report import absolute, print_json, printable
from tui.cli.watching import RunWatch
from tui.runs.files import chosen, is_product


def pull(run: str, dest: str | None, kind: str | None, *, as_json: bool) -> int:
    """Bring files home and print where they lie.

    Args:
        run: Which run.
        dest: The folder; the run's own local folder if None.
        kind: ``checkpoints``, ``samples`` or ``everything``; None for the newest LoRA and the samples.
        as_json: Print one JSON object.
    """
    service = RunService()
    record = service.record_now(run)
    watch = RunWatch(service, record)
    _, _, facts = watch.look()  # a look also has the list of files renewed, where that is kept elsewhere
    files = chosen(asyncio.run(service.launcher(record).files(record)), record.name, kind)
    destination = absolute(dest) if dest else record.path
    if destination == record.path and facts.remote:
        files = [file for file in files if is_product(file)]
    if not files:
        what = "samples" if kind == "samples" else "files" if kind == "everything" else "LoRA"
        return fail(f"run {record.id} has no {what} yet", 1)
    if destination == record.path and not facts.remote:
        paths = [record.path / file.path for file in files]  # they are at home already
    else:
        paths = _download(service, record, files, destination)
    if as_json:
        print_json(
            {"run": record.id, "destination": str(destination), "files": [str(path) for path in paths]}
        )
    else:
        for path in paths:
            print(printable(str(path)))
    return 0


def _download(
    service: RunService, record: RunRecord, files: Sequence[RunFile], destination: Path
) -> Sequence[Path]:
    line = ProgressLine("downloading")
    try:
        return asyncio.run(service.launcher(record).download(record, files, destination, line))
    except KeyboardInterrupt:
        line.close()
        print("interrupted; the same command goes on where this one ended", file=sys.stderr)
        raise
    finally:
        line.close()
