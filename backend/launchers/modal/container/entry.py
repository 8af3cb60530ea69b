"""A container enters itself in ``boots.json`` before it prints or trains anything."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from backend.launchers.modal import wire
from backend.launchers.modal.container.boots import NOT_ENTERED, Boot, Boots
from backend.launchers.modal.container.commits import Committer
from backend.launchers.modal.container.launch_file import LaunchFile
from backend.launchers.modal.container.log import heal
from backend.launchers.modal.container.machine import gpu_name
from backend.launchers.modal.container.said import Said
from backend.launchers.modal.container.sdk import VolumeError, current_call, is_full
from backend.runs.folder import RunFolder


@dataclass(frozen=True)
class Entry:
    """This container's place in the run.

    Attributes:
        boot: This container.
        before: The containers of the same launch before it.
        boots: The file's whole list.
        deadline: When the launch's time is up, seconds since 1970; None for never.
        full: Whether the entry could not be committed because the volume is full.
    """

    boot: Boot
    before: list[Boot]
    boots: Boots
    deadline: float | None
    full: bool = False


def is_over(said: Said, boots: Boots, launch: LaunchFile) -> bool:
    """Whether there is nothing to do: Modal may deliver an input again whose run has ended already.

    The end of an earlier launch does not count for a resume.
    """
    if not said.ended_for_good:
        return False
    of_launch = [boot.boot for boot in boots.of_launch(launch.launch)]
    return not launch.resume or said.status_seq // wire.SEQ_STRIDE in of_launch


def enter(
    folder: RunFolder,
    launch: LaunchFile,
    said: Said,
    boots: Boots,
    committer: Committer,
    patience: float,
) -> Entry:
    """Enter this container and commit that.

    Raises:
        RuntimeError: It could not be committed within ``patience`` seconds. Training now could use numbers
            that another container will use; a new container may do better.
    """
    before = boots.of_launch(launch.launch)
    started = round(time.time(), 3)
    deadline = None
    if launch.seconds is not None:
        deadline = (before[0].started if before else started) + launch.seconds
    # Should boots.json be lost, the events still tell which numbers were used.
    number = max([said.seq // wire.SEQ_STRIDE, *(boot.boot for boot in boots.all)]) + 1
    boot = Boot(
        boot=number,
        task=os.environ.get("MODAL_TASK_ID", ""),
        started=started,
        log_offset=0,
        gpu=gpu_name(),
        launch=launch.launch,
        saved=said.saved,
        call=current_call(),
    )
    try:
        folder.create()
        folder.stop_file.unlink(missing_ok=True)  # what the container before this one was told
        boot = boots.add(boot, log_offset=heal(folder.log))
        committer.flush(patience)
    except (VolumeError, OSError) as error:
        if is_full(error):
            return Entry(boot, before, boots, deadline, full=True)
        with contextlib.suppress(OSError):  # Modal may commit this yet
            boots.end(number, NOT_ENTERED, round(time.time(), 3))
        raise RuntimeError(
            f"container {number} could not enter itself on {launch.volume} ({error}); Modal starts another"
        ) from None
    return Entry(boot, before, boots, deadline)
