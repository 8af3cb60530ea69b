"""Carrying out the commands that wait, between two updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.runs.commands import Command
from backend.trainer.errors import TrainingError
from backend.trainer.inbox import Inbox

if TYPE_CHECKING:
    from backend.trainer.loop import TrainingLoop


def obey(loop: TrainingLoop, inbox: Inbox) -> bool:
    """Carry out what can be done now; returns whether anything was.

    Raises:
        TrainingError: The weights are ruined, which saving finds out.
    """
    did = False
    for command in list(inbox.waiting):
        if command.kind == "save":
            did |= _save(loop, inbox, command)
        elif command.kind == "sample":
            did |= _sample(loop, inbox, command)
        elif command.kind == "extend":
            _extend(loop, inbox, command)
            did = True
    return did


def _save(loop: TrainingLoop, inbox: Inbox, command: Command) -> bool:
    if not loop.step or not loop.guard.calm:
        return False  # it waits for a step, or until it is clear that the weights are sound
    if loop.is_done and loop.saved != loop.step:
        return False  # the run is about to save its end
    if loop.saved != loop.step:
        try:
            loop.checkpoint()
        except TrainingError as error:
            inbox.answer(command, ok=False, detail=str(error))
            if error.code != "disk_full":
                raise
            return True
    inbox.answer(command, ok=True, detail=f"step {loop.step} is saved")
    return True


def _sample(loop: TrainingLoop, inbox: Inbox, command: Command) -> bool:
    if loop.stop.requested():
        return False
    if not loop.sampler.can_draw:
        inbox.answer(
            command,
            ok=False,
            detail="this run has nothing to draw: sampling is off in its config, or it has no prompts",
        )
        return False
    if loop.drawn_at == loop.step:
        inbox.answer(command, ok=True, detail=f"the samples of step {loop.step} are there already")
        return False
    loop.draw_samples(wanted=True)
    if loop.stop.requested():
        inbox.answer(command, ok=False, detail="the run was asked to stop before all samples were drawn")
    else:
        inbox.answer(command, ok=True, detail=loop.told_of_samples)
    return True


def _extend(loop: TrainingLoop, inbox: Inbox, command: Command) -> None:
    before, steps = loop.config.process.train.steps, command.steps or 0
    problem = why_not(steps, loop.step)
    if loop.best.exhausted:
        problem = "the run ends early: its validation loss no longer falls"
    if problem is None and steps != before:
        try:
            loop.extend(steps)
        except (OSError, ValueError) as error:
            problem = f"the run's config cannot be written: {error}"
    if problem is not None:
        inbox.answer(command, ok=False, detail=problem)
        return
    said = f"{steps} steps instead of {before}" if steps != before else f"the run has {steps} steps already"
    inbox.answer(command, ok=True, detail=said, steps=steps)


def why_not(steps: int, done: int) -> str | None:
    """Why a run of ``done`` updates cannot have ``steps`` in all; None if it can."""
    if steps > done:
        return None
    return f"the run has done {done} steps already; its new total must be larger than that, not {steps}"
