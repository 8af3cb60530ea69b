"""``demo``: a ready-made project, opened in the app or trained without a screen."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path

from backend.demo import DemoError, DemoProject, prepare_demo
from backend.home import home
from backend.launchers.base import LaunchRequest
from tui.cli.main import fail
from tui.cli.report import absolute
from tui.runs.place import LABEL, demo_overrides

_PATIENCE = 15.0  # seconds for runs to end with their cloud


def demo(folder: str | None, *, headless: bool, backend: str = "local") -> int:
    """Prepare the demo project, then open the app on it or train it to the end.

    Args:
        folder: Where the project is made; in the data folder if None.
        headless: Train it without a screen.
        backend: ``local``, or ``modal`` for the way through a local stand-in for Modal.
    """
    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return fail("the demo needs a terminal; demo --headless does without", 2)
    place = absolute(folder) if folder else home() / "demo"
    if backend == "local":
        return _prepared(place, headless, backend)
    from tui.cli.stand_in import StandInError, stand_in

    try:
        with stand_in() as address:
            print(
                f"{LABEL} at {address}: nothing leaves this machine or costs anything, "
                f"it ends with this command, and its runs are kept apart in {home()}",
                file=sys.stderr,
                flush=True,
            )
            try:
                return _prepared(place, headless, backend)
            finally:
                _end_all()
    except StandInError as error:
        return fail(str(error), 2)


def _prepared(place: Path, headless: bool, backend: str) -> int:
    try:
        project = prepare_demo(place, progress=lambda text: print(text, file=sys.stderr, flush=True))
    except DemoError as error:
        return fail(str(error), 1)
    return _train(project, backend) if headless else _open(project, backend)


def _open(project: DemoProject, backend: str) -> int:
    from tui.app import run_app

    return run_app(demo=project, backend=backend)


def _train(project: DemoProject, backend: str) -> int:
    from backend.runs.service import RunService
    from tui.cli.control import started

    service = RunService()
    request = LaunchRequest(config_path=project.config, overrides=demo_overrides(backend))
    record = asyncio.run(service.launch(request, backend))
    return started(service, record, follow=True)


def _end_all() -> None:
    """End the runs that are left: their cloud ends now."""
    from backend.launchers.base import LaunchError
    from backend.runs.service import RunService

    service = RunService()
    for run in service.list_now():
        if not run.status.ended:
            with contextlib.suppress(LaunchError):
                asyncio.run(service.stop(service.registry.record(run), now=True))
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and not all(run.status.ended for run in service.list_now()):
        time.sleep(0.2)
