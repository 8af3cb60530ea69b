"""What the keys of a screen about one run may do, as the run stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.runs.status import RESUMABLE, is_live

if TYPE_CHECKING:
    from tui.runs.feed import RunFeed

_ALWAYS = frozenset({"extend", "overview", "gallery", "files", "compare", "restart"})
ON_RUN = _ALWAYS | {
    "stop_run",
    "stop_now",
    "resume_run",
    "ask_trainer",
    "delete_run",
    "bring_home",
    "add_gpus",
}
"""The actions that need a run."""


def allowed(
    action: str, status: str | None, *, remote: bool = False, offers_gpus: bool = False
) -> bool | None:
    """Whether an action of :data:`ON_RUN` is possible.

    Args:
        action: Its name.
        status: How the run stands; None while there is no run.
        remote: Whether its files are elsewhere.
        offers_gpus: Whether it could wait for other GPUs too.

    Returns:
        None dims its key; False hides it, where it has no sense at all.
    """
    if action == "bring_home":
        return status is not None and remote
    if action == "add_gpus":
        return status is not None and offers_gpus
    if status is None:
        return None
    if action in _ALWAYS:
        return True
    if action == "resume_run":
        return status in RESUMABLE or None
    if action == "delete_run":
        return not is_live(status) or None
    return is_live(status) or None


def why_nothing(feed: RunFeed, run_id: str | None) -> str:
    """Why no run is shown, and what to do, as a sentence; ``run_id`` is the one that was wanted."""
    if feed.error:
        return f"The runs cannot be read: {feed.error}"
    if not feed.live:
        return "Reading the runs…"
    if run_id is not None:
        return f"There is no run {run_id} any more. Press 1 for the table of jobs."
    return "No run to watch yet. Press 1 for the table of jobs, or start one with: fluxlora-tui demo"
