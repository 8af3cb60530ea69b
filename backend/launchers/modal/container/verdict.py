"""What the end of the trainer's process means."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from backend.events import Status
from backend.launchers.modal.container.boots import stuck
from backend.launchers.modal.container.entry import Entry
from backend.launchers.modal.container.launch_file import LaunchFile
from backend.launchers.modal.container.said import Said
from backend.runs.stop_request import StopRequest

OUT_OF_MEMORY = "container_out_of_memory"
CRASHED = "trainer_crashed"
VOLUME_FULL = "volume_full"
STUCK = "stuck"
TOO_MANY = "too_many_containers"


@dataclass(frozen=True)
class Verdict:
    """What is to be said of an end that the trainer did not explain itself.

    Attributes:
        status: The run's status; None if a new container may do better, and nothing is to be said.
        reason: A sentence for people.
        error: Short name of the failure; None if it is none.
    """

    status: Status | None
    reason: str
    error: str | None = None


def judge(
    code: int,
    *,
    killed: bool,
    asked: StopRequest | None,
    said: Said,
    memory: int | None,
    last_boot: bool,
) -> Verdict:
    """What a process that ended with ``code`` and without a last word means.

    Args:
        code: Its exit code, negative for a signal.
        killed: Whether the supervisor ended it.
        asked: What it had been asked to stop for.
        said: What it said.
        memory: Bytes that the container may use, if known.
        last_boot: Whether no further container may take up the run.
    """
    from_where = f"resume goes on from step {said.saved}" if said.saved else "nothing was saved yet"
    if asked is not None and (killed or code in (-signal.SIGTERM, -signal.SIGKILL)):
        return _ended_by_us(asked, from_where, killed)
    if code == -signal.SIGKILL:
        size = f" ({memory / 2**30:.0f} GiB)" if memory else ""
        return Verdict(
            Status.FAILED,
            f"the container ran out of main memory{size} and the trainer was killed; give it more with "
            f"modal.memory, or use a smaller train.batch_size or datasets.resolution ({from_where})",
            OUT_OF_MEMORY,
        )
    if code < 0:
        name = _signal_name(-code)
        if not last_boot:
            return Verdict(None, f"the trainer was ended by {name}")
        return Verdict(
            Status.FAILED,
            f"the trainer was ended by {name} again and again; the log's end tells where ({from_where})",
            CRASHED,
        )
    return Verdict(
        Status.FAILED,
        f"the trainer ended with exit code {code} before it could say why; see the log's end ({from_where})",
        CRASHED,
    )


def _ended_by_us(asked: StopRequest, from_where: str, killed: bool) -> Verdict:
    if asked.goes_on:
        return Verdict(Status.INTERRUPTED, asked.sentence)
    how = "it did not react in time and was ended without saving" if killed else "before it had begun"
    return Verdict(Status.STOPPED, f"{asked.sentence or 'stopped'} ({how}; {from_where})")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def volume_is_full(launch: LaunchFile, said: Said) -> Verdict:
    """The run cannot go on: nothing more can be kept."""
    kept = f"what was saved up to step {said.saved} is kept" if said.saved else "nothing was saved yet"
    return Verdict(
        Status.FAILED,
        f"{launch.volume} is full; delete runs that you no longer need, then resume this one ({kept})",
        VOLUME_FULL,
    )


def budget_used_up(launch: LaunchFile) -> str:
    """Why the run stops at its deadline."""
    if launch.budget is not None:
        return f"the run's budget of ${launch.budget:,.2f} is used up; resume it with a larger one"
    return f"the run's time of {(launch.seconds or 0.0) / 3600:.3g} hours is used up; resume it with more"


def not_worth_it(launch: LaunchFile, entry: Entry, said: Said, now: float) -> Verdict | None:
    """Why the trainer need not be started at all; None if it should."""
    if entry.full:
        return volume_is_full(launch, said)
    if entry.deadline is not None and now >= entry.deadline:
        return Verdict(Status.STOPPED, budget_used_up(launch))
    step = stuck(entry.before, said.saved, said.reached)
    if step is not None:
        crashed = entry.before[-1].end is not None
        how = "broke down" if crashed else "ended without a word"
        why = (
            "the log tells where"
            if crashed
            else "most likely they ran out of main memory; give them more with modal.memory"
        )
        return Verdict(
            Status.FAILED,
            f"two containers in a row {how} at step {step}, so a third is not tried: {why}",
            STUCK,
        )
    if len(entry.before) >= launch.max_boots:
        return Verdict(
            Status.FAILED,
            f"{len(entry.before)} containers took the run up and none could finish it; resume it to go on "
            f"from step {said.saved}",
            TOO_MANY,
        )
    return None
