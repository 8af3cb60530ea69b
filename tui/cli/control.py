"""Commands that act on runs: ``train``, ``stop``, ``resume``, ``logs``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from backend.events import Status
from backend.launchers.base import LaunchRequest
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.service import RunService
from tui.cli.main import fail
from tui.cli.report import absolute

_PATIENCE = 600.0  # seconds that ``stop`` waits for a step to end and a checkpoint to be written


def train(config: str, overrides: Sequence[str], backend: str, *, follow: bool) -> int:
    """Start a run."""
    from config.load import check_config
    from tui.cli.report import print_problems

    loaded, problems = check_config(config, overrides)
    print_problems(config, problems)
    if loaded is None:
        return 2
    service = RunService()
    request = LaunchRequest(config_path=absolute(config), overrides=tuple(overrides))
    record = asyncio.run(service.launch(request, backend))
    return started(service, record, follow=follow)


def resume(run: str, overrides: Sequence[str], *, follow: bool) -> int:
    """Take a run up again."""
    service = RunService()
    record = service.record_now(run)
    offset = _log_size(record)
    record = asyncio.run(service.resume(record, overrides))
    return started(service, record, follow=follow, offset=offset)


def _log_size(record: RunRecord) -> int:
    log = RunFolder(record.path).log
    return log.stat().st_size if log.exists() else 0


def started(service: RunService, record: RunRecord, *, follow: bool, offset: int = 0) -> int:
    """Say how to find the run again; with ``follow``, print its log until it ends."""
    out = sys.stderr if follow else sys.stdout
    print(f"run {record.id} ({record.name}) started in {record.path}", file=out, flush=True)
    if not follow:
        print(f"watch it: fluxlora-tui   follow its log: fluxlora-tui logs {record.id} --follow", flush=True)
        return 0
    return follow_to_the_end(service, record, offset)


def follow_to_the_end(service: RunService, record: RunRecord, offset: int = 0) -> int:
    """Print the run's log from byte ``offset`` until it ends; 0 if it finished or was stopped."""
    try:
        asyncio.run(_print_log(service, record, offset, follow=True))
    except KeyboardInterrupt:
        print(f"\nthe run goes on; fluxlora-tui stop {record.id} ends it", file=sys.stderr)
        return 130
    state = asyncio.run(service.launcher(record).status(record))
    if state.status in (Status.FINISHED, Status.STOPPED):
        lora = newest_lora(record)
        print(f"run {record.id} {state.status}" + (f": {lora}" if lora else ""), flush=True)
        return 0
    reason = f": {state.reason}" if state.reason else ""
    return fail(f"run {record.id} {state.status}{reason}", 1)


def newest_lora(record: RunRecord) -> str | None:
    """The run's final LoRA file, or the newest one there is."""
    folder = RunFolder(record.path).checkpoints
    final = folder / f"{record.name}.safetensors"
    if final.is_file():
        return str(final)
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    return str(files[-1]) if files else None


def logs(run: str, *, follow: bool) -> int:
    """Print a run's log."""
    service = RunService()
    record = service.record_now(run)
    asyncio.run(_print_log(service, record, 0, follow=follow))
    return 0


async def _print_log(service: RunService, record: RunRecord, offset: int, *, follow: bool) -> None:
    safe = _safe_for_terminal if sys.stdout.isatty() else None
    output = sys.stdout.buffer
    async for chunk in service.launcher(record).logs(record, offset, follow=follow):
        output.write(safe(chunk.data) if safe else chunk.data)
        output.flush()


def _safe_for_terminal(data: bytes) -> bytes:
    """The log without control characters that could act on the terminal; colours go with them."""
    return bytes(byte for byte in data if byte >= 32 or byte in b"\n\t\r").replace(b"\x7f", b"")


def stop(run: str, *, now: bool, wait: bool) -> int:
    """Stop a run and, unless told otherwise, wait until it has."""
    service = RunService()
    record = service.record_now(run)
    asyncio.run(service.stop(record, now=now))
    if not wait:
        print(f"run {record.id} was asked to stop")
        return 0
    return asyncio.run(_wait_until_stopped(service, record))


async def _wait_until_stopped(service: RunService, record: RunRecord) -> int:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        state = await service.launcher(record).status(record)
        if state.status.ended:
            reason = f": {state.reason}" if state.reason else ""
            print(f"run {record.id} {state.status}{reason}")
            return 0 if state.status in (Status.STOPPED, Status.FINISHED) else 1
        await asyncio.sleep(0.2)
    return fail(f"run {record.id} was asked to stop and is still at work; --now ends it at once", 1)
