"""Captioning jobs among the runs: what a launcher does differently for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.events import Status
from backend.launchers.base import LaunchError, RunState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backend.runs.commands import Command
    from backend.runs.folder import RunRecord

CAPTION = "caption"
"""The kind of a run that captions pictures."""


def refuse(run: RunRecord, command: Command) -> None:
    """Say why a captioning job cannot do what a trainer can.

    Raises:
        LaunchError: Always.
    """
    raise LaunchError(
        f"run {run.id} captions pictures: it has nothing to {command.kind}; each caption is kept as it comes"
    )


def ends_elsewhere(run: RunRecord) -> bool:
    """Whether only the job's own process can end it: on Modal a container would caption on, at a price."""
    from backend.captioning.place import read_place

    return run.kind == CAPTION and read_place(run.path) is not None


def go_on(run: RunRecord, state: RunState, overrides: Sequence[str]) -> RunRecord:
    """Take a captioning job that has ended up again, after the pictures that it has done.

    Raises:
        LaunchError: All pictures are done, it was given settings of a training, or it cannot be started.
    """
    from backend.captioning.job import CaptionJob
    from backend.captioning.request import CaptioningError
    from backend.runs.folder import RunFolder

    if overrides:
        raise LaunchError(
            f"run {run.id} captions pictures: it has no steps to extend and no training settings to change"
        )
    if state.status is Status.FINISHED:
        raise LaunchError(
            f"run {run.id} has captioned all its pictures; for new ones, caption the dataset again"
        )
    try:
        CaptionJob(run.path).start()
    except CaptioningError as error:
        raise LaunchError(str(error)) from error
    return RunFolder(run.path).read_record() or run
