"""From a saved config to runs: the review in a thread, the sheet, the start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.app import FluxLoraApp


async def review_and_launch(app: FluxLoraApp, path: Path) -> None:
    """Show the launch sheet of a config, and start what it says. Await it in a worker."""
    from tui.configs.review import review
    from tui.messages import OperationFailed
    from tui.runs.launch_cost import choice_of
    from tui.screens.config_launch import LaunchScreen

    runs = tuple(app.feed.runs)
    try:
        known = await asyncio.to_thread(review, path, runs)
    except (OSError, ValueError) as error:
        app.post_message(OperationFailed("The config cannot be read", str(error)))
        return
    try:
        choice = await asyncio.to_thread(choice_of, path)
    except Exception:  # it has errors, which the review shows
        choice = await asyncio.to_thread(choice_of, None)
    has_token = await asyncio.to_thread(_has_token, path)
    sheet = LaunchScreen(
        known, choice, backend=app.backend, has_token=has_token, taken=[run.name for run in runs]
    )
    plan = await app.push_screen_wait(sheet)
    if plan is None:
        return
    if plan.collision == "resume":
        app.actions.resume(plan.run_id)
        app.open_run(plan.run_id)
    elif known.sweep is not None:
        each = [(*run.overrides, *plan.overrides) for run in known.sweep.runs]
        app.actions.launch_all(path, each, backend=plan.backend)
    else:
        old = plan.run_id if plan.collision == "replace" else None
        app.actions.launch(path, backend=plan.backend, overrides=plan.overrides, instead_of=old)


def _has_token(config: Path) -> bool:
    """Whether a launch would find a Modal token; reads files."""
    from backend.credentials.modal_profiles import find_modal_token

    folders = {Path.cwd(), config.absolute().parent}
    return any(find_modal_token(None, folder) is not None for folder in folders)
