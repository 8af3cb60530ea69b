"""What every launcher asks before it takes an ended run up again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.events import Status
from backend.launchers.base import LaunchError, RunState
from backend.runs.folder import RunRecord
from backend.runs.view import RunView

if TYPE_CHECKING:
    from config.load import LoadedConfig


def need_an_end(run: RunRecord, state: RunState) -> None:
    """Make sure that the run has ended.

    Raises:
        LaunchError: It has not.
    """
    if not state.status.ended:
        raise LaunchError(f"run {run.id} is {state.status}; there is nothing to resume")


def need_something_to_do(run: RunRecord, view: RunView, state: RunState, loaded: LoadedConfig) -> None:
    """Make sure that the config leaves the run something to do, and its files their name.

    A finished run whose upload failed may be resumed for that.

    Raises:
        LaunchError: All is done, or the run's name was changed.
    """
    unsent = any(warning.code == "push_failed" for warning in view.warnings)
    if state.status is Status.FINISHED and view.step >= loaded.config.process.train.steps and not unsent:
        raise LaunchError(
            f"run {run.id} has finished its {view.step} steps; to go on, give it more: "
            f"--set train.steps={view.step * 2}"
        )
    if loaded.config.name != run.name:
        raise LaunchError("config.name cannot change on resume: the run's files bear it")
