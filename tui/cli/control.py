"""Commands that start and end runs: ``train``, ``resume``, ``stop``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

from backend.events import Status
from backend.launchers.base import LaunchRequest
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.service import RunService
from tui.cli.following import follow_to_the_end
from tui.cli.handover import HANDED_OVER, wait_until_safe
from tui.cli.main import fail
from tui.cli.report import absolute, printable
from tui.cli.watching import RunWatch

_PATIENCE = 600.0  # seconds that ``stop`` waits for a step to end and a checkpoint to be written


def train(
    config: str,
    overrides: Sequence[str],
    backend: str,
    *,
    follow: bool,
    gpu: str | None = None,
    budget: str | None = None,
    wait: bool = True,
) -> int:
    """Start a run.

    Args:
        config: The config's path.
        overrides: ``key.path=value``.
        backend: Where.
        follow: Print the log until the run ends.
        gpu: GPUs of Modal in the order in which they are tried, separated by commas.
        budget: The most that the run may cost on Modal, in dollars.
        wait: Stay until the launch needs this machine no more.
    """
    from config.load import check_config
    from tui.cli.report import print_problems

    if backend != "modal" and (gpu is not None or budget is not None):
        return fail("--gpu and --budget are for runs on Modal; add --backend modal", 2)
    overrides = (*overrides, *modal_overrides(gpu, budget))
    loaded, problems = check_config(config, overrides)
    print_problems(config, problems)
    if loaded is None:
        return 2
    service = RunService()
    request = LaunchRequest(config_path=absolute(config), overrides=tuple(overrides))
    record = asyncio.run(service.launch(request, backend))
    return started(service, record, follow=follow, wait=wait)


def modal_overrides(gpu: str | None, budget: str | None) -> list[str]:
    """What ``--gpu`` and ``--budget`` stand for."""
    wanted = [] if gpu is None else [f"modal.gpu={gpu}"]
    return wanted if budget is None else [*wanted, f"modal.budget={budget}"]


def resume(run: str, overrides: Sequence[str], *, follow: bool, wait: bool = True) -> int:
    """Take a run up again."""
    service = RunService()
    record = service.record_now(run)
    offset = _log_size(record)
    watch = RunWatch(service, record)
    watch.read()  # so that only what happens from now on is told
    watch.record = record = asyncio.run(service.resume(record, overrides))
    return started(service, record, follow=follow, offset=offset, wait=wait, watch=watch)


def _log_size(record: RunRecord) -> int:
    log = RunFolder(record.path).log
    return log.stat().st_size if log.exists() else 0


def started(
    service: RunService,
    record: RunRecord,
    *,
    follow: bool,
    offset: int = 0,
    wait: bool = True,
    watch: RunWatch | None = None,
) -> int:
    """Say how to find the run again; with ``follow``, print its log until it ends."""
    out = sys.stderr if follow else sys.stdout
    print(printable(f"run {record.id} ({record.name}) started in {record.path}"), file=out, flush=True)
    if follow:
        return follow_to_the_end(service, record, offset)
    if wait and record.backend != "local" and (code := _handed_over(watch or RunWatch(service, record))):
        return code
    print(f"watch it: fluxlora-tui   follow its log: fluxlora-tui logs {record.id} --follow", flush=True)
    return 0


def _handed_over(watch: RunWatch) -> int:
    """Wait until the run needs this machine no more; 0 when it does not."""
    try:
        ended = asyncio.run(wait_until_safe(watch))
    except KeyboardInterrupt:
        print(
            f"\nthe launch goes on in the background; fluxlora-tui stop {watch.record.id} ends it",
            file=sys.stderr,
        )
        return 130
    if ended is None:
        print(HANDED_OVER, file=sys.stderr, flush=True)
        return 0
    if ended.status is Status.FINISHED:
        return 0
    reason = f": {printable(ended.reason)}" if ended.reason else ""
    return fail(f"run {watch.record.id} {ended.status}{reason}", 1)


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
    watch = RunWatch(service, record)
    deadline = time.monotonic() + _PATIENCE
    offline = False
    while time.monotonic() < deadline:
        _, state, facts = await asyncio.to_thread(watch.look)
        if state.status.ended:
            reason = f": {printable(state.reason)}" if state.reason else ""
            print(f"run {record.id} {state.status}{reason}")
            return 0 if state.status in (Status.STOPPED, Status.FINISHED) else 1
        if not facts.online and not offline:
            offline = True
            text = "Modal cannot be reached now; it is asked to stop as soon as it can"
            print(f"fluxlora-tui: {text}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)
    return fail(f"run {record.id} was asked to stop and is still at work; --now ends it at once", 1)
