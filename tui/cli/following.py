"""Printing a run's log, live, and saying at the end what came of the run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

from backend.events import Status
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.service import RunService
from backend.runs.view import RunView
from tui.cli.handover import HANDED_OVER
from tui.cli.main import fail
from tui.cli.report import printable
from tui.cli.watching import RunWatch
from tui.runs.place import LABEL, is_stand_in

_LOOK = 1.0  # seconds between two looks at the connection


def logs(run: str, *, follow: bool) -> int:
    """Print a run's log."""
    service = RunService()
    record = service.record_now(run)
    asyncio.run(print_log(service, record, 0, follow=follow))
    return 0


def follow_to_the_end(service: RunService, record: RunRecord, offset: int = 0) -> int:
    """Print the run's log from byte ``offset`` until it ends; 0 if it finished or was stopped."""
    try:
        asyncio.run(print_log(service, record, offset, follow=True))
    except KeyboardInterrupt:
        print(f"\n{_what_goes_on(service, record)}", file=sys.stderr)
        return 130
    watch = RunWatch(service, record)
    _, state, facts = watch.look()
    if state.status in (Status.FINISHED, Status.STOPPED):
        lora = newest_lora(record)
        if facts.remote and not _is_home(record, watch.view):
            lora = _on_the_volume(record, watch.view, facts.folder)
        print(f"run {record.id} {state.status}" + (f": {lora}" if lora else ""), flush=True)
        return 0
    reason = f": {printable(state.reason)}" if state.reason else ""
    return fail(f"run {record.id} {state.status}{reason}", 1)


def _what_goes_on(service: RunService, record: RunRecord) -> str:
    """What becomes of a run whose log is not followed any more, as a sentence."""
    if is_stand_in():
        return f"the run ends with the {LABEL}"
    _, _, facts = RunWatch(service, record).look()
    unsafe = facts.remote and not facts.safe_to_close
    stay = "; keep this computer on until it is handed to Modal" if unsafe else ""
    return f"the run goes on; fluxlora-tui stop {record.id} ends it{stay}"


def newest_lora(record: RunRecord) -> str | None:
    """The run's final LoRA file, or the newest one there is."""
    folder = RunFolder(record.path).checkpoints
    final = folder / f"{record.name}.safetensors"
    if final.is_file():
        return str(final)
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    return str(files[-1]) if files else None


def _is_home(record: RunRecord, view: RunView) -> bool:
    """Whether the newest LoRA that the run tells of is in its local folder."""
    return bool(view.checkpoints) and (record.path / view.checkpoints[-1].path).is_file()


def _on_the_volume(record: RunRecord, view: RunView, folder: str) -> str | None:
    if not view.checkpoints:
        return None
    where = f" on Modal's volume, {folder}/{view.checkpoints[-1].path}" if folder else " on Modal"
    return f"the LoRA is{printable(where)}; fluxlora-tui pull {record.id} brings it home"


async def print_log(service: RunService, record: RunRecord, offset: int, *, follow: bool) -> None:
    """Write the log from byte ``offset`` on to standard output; remarks go to the error."""
    safe = _safe_for_terminal if sys.stdout.isatty() else None
    output = sys.stdout.buffer
    async with _telling_connection(RunWatch(service, record)) if follow else contextlib.nullcontext():
        async for chunk in service.launcher(record).logs(record, offset, follow=follow):
            output.write(safe(chunk.data) if safe else chunk.data)
            output.flush()


def _safe_for_terminal(data: bytes) -> bytes:
    """The log without control characters that could act on the terminal; colours go with them."""
    return bytes(byte for byte in data if byte >= 32 or byte in b"\n\t\r").replace(b"\x7f", b"")


@contextlib.asynccontextmanager
async def _telling_connection(watch: RunWatch) -> AsyncIterator[None]:
    """Say on standard error when a run elsewhere cannot be reached, and when it can again."""
    task = asyncio.create_task(_tell_connection(watch))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _tell_connection(watch: RunWatch) -> None:
    online, safe = True, True
    while True:
        _, state, facts = await asyncio.to_thread(watch.look)
        if not facts.remote or state.status.ended:
            return
        if facts.safe_to_close and not safe:
            _say(HANDED_OVER)
        safe = facts.safe_to_close
        if facts.online != online:
            online = facts.online
            _say(_connection(online, facts.link_since, facts.link_why))
        await asyncio.sleep(_LOOK)


def _connection(online: bool, since: float | None, why: str) -> str:
    at = time.strftime("%H:%M", time.localtime(since)) if since else "now"
    if online:
        return f"Modal can be reached again since {at}"
    because = f" ({why})" if why else ""
    return f"Modal cannot be reached since {at}{because}; the run goes on there, trying again"


def _say(text: str) -> None:
    print(printable(f"fluxlora-tui: {text}"), file=sys.stderr, flush=True)
