"""Commands to a run that goes on, and its end: ``save``, ``sample``, ``extend``, ``delete``."""

from __future__ import annotations

import asyncio
import sys
import time

from backend.runs.commands import Command
from backend.runs.service import RunService
from tui.cli.main import fail
from tui.cli.report import printable
from tui.cli.watching import RunWatch
from tui.text import plural, size

_PATIENCE = 60.0  # seconds that an answer is waited for
_INTERVAL = 0.2


def ask_trainer(run: str, command: Command) -> int:
    """Ask a run's trainer for something and print its answer; 0 if it was done, else 1."""
    service = RunService()
    record = service.record_now(run)
    watch = RunWatch(service, record)
    watch.read()
    try:
        return asyncio.run(_ask(service, watch, command))
    except KeyboardInterrupt:
        print("\nit was asked all the same; its log says what came of it", file=sys.stderr)
        return 130


async def _ask(service: RunService, watch: RunWatch, command: Command) -> int:
    await service.command(watch.record, command)
    deadline = time.monotonic() + _PATIENCE
    offline = False
    while time.monotonic() < deadline:
        _, state, facts = await asyncio.to_thread(watch.look)
        answer = watch.view.answers.get(command.id)
        if answer is not None:
            detail = printable(answer.detail)
            if not answer.ok:
                return fail(f"run {watch.record.id}: {command.kind}: {detail or 'it could not be done'}", 1)
            print(f"run {watch.record.id}: {command.kind}: {detail or 'done'}")
            return 0
        if state.status.ended:
            return fail(
                f"run {watch.record.id} is {state.status}; it ended before it could {command.kind}", 1
            )
        if not facts.online and not offline:
            offline = True
            text = "Modal cannot be reached now; the run is asked as soon as it can"
            print(f"fluxlora-tui: {text}", file=sys.stderr, flush=True)
        await asyncio.sleep(_INTERVAL)
    return fail(
        f"run {watch.record.id} was asked to {command.kind} and has not answered within {_PATIENCE:.0f} s; "
        "it does so between two steps, see its log",
        1,
    )


def delete(run: str, *, yes: bool) -> int:
    """Delete an ended run's files wherever they are; asks unless ``yes``."""
    service = RunService()
    record = service.record_now(run)
    watch = RunWatch(service, record)
    _, state, facts = watch.look()
    if not state.status.ended:
        return fail(f"run {record.id} is {state.status}; first: fluxlora-tui stop {record.id}", 1)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return fail("nobody can be asked here; --yes deletes without asking", 2)
        files = asyncio.run(service.launcher(record).files(record))
        amount = f"{plural(len(files), 'file')}, {size(sum(file.bytes for file in files))}"
        where = f" and on Modal's volume in {facts.folder}" if facts.folder else ""
        question = f"Delete {record.name} ({record.id}): {amount}, in {record.path}{where}? [y/N] "
        print(printable(question), end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was deleted", file=sys.stderr)
            return 1
    asyncio.run(service.launcher(record).delete(record))
    print(f"run {record.id} was deleted")
    return 0
