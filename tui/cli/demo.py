"""``demo``: a ready-made project, opened in the app or trained without a screen."""

from __future__ import annotations

import asyncio
import sys

from backend.demo import DemoError, prepare_demo
from backend.home import home
from backend.launchers.base import LaunchRequest
from tui.cli.main import fail
from tui.cli.report import absolute


def demo(folder: str | None, *, headless: bool) -> int:
    """Prepare the demo project, then open the app on it or train it to the end."""
    if not headless and not (sys.stdin.isatty() and sys.stdout.isatty()):
        return fail("the demo needs a terminal; demo --headless does without", 2)
    place = absolute(folder) if folder else home() / "demo"
    try:
        project = prepare_demo(place, progress=lambda text: print(text, file=sys.stderr, flush=True))
    except DemoError as error:
        return fail(str(error), 1)
    if not headless:
        from tui.app import run_app

        return run_app(demo=project)
    from backend.runs.service import RunService
    from tui.cli.control import started

    service = RunService()
    record = asyncio.run(service.launch(LaunchRequest(config_path=project.config)))
    return started(service, record, follow=True)
