"""Going back to the last good checkpoint when a run's weights are ruined, once in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.trainer.errors import TrainingError
from backend.trainer.guards import Rollback
from backend.trainer.resuming import state_of, take_up

if TYPE_CHECKING:
    from backend.trainer.loop import TrainingLoop


def roll_back(loop: TrainingLoop, error: TrainingError) -> None:
    """Go back to the last good checkpoint with half the learning rate.

    Raises:
        TrainingError: There is none, or it did not help.
    """
    if loop.rollback.step is not None:
        raise _lost(loop, error, "going back with half the learning rate did not help") from error
    state = loop.store.load_state()
    if state is not None and state["step"] == loop.step and error.code == "black_samples":
        state = loop.store.load_previous()  # what was saved before these samples is black as well
    if state is None:
        raise _lost(loop, error, "there is no checkpoint from before to go back to") from error
    loop.boundary = None
    loop.under_way.clear()
    take_up(loop, state)
    loop.rollback = Rollback(loop.step, loop.config.process.train.lr, str(error))
    loop.train_step.schedule.scale = loop.rollback.scale
    loop.store.save_state(state_of(loop))  # so that a process that dies now is not back at the full rate
    loop.report.rewind(loop.step)
    loop.report.warning(
        f"{error}: back to the checkpoint of step {loop.step}, with half the learning rate from there",
        "rolled_back",
    )


def _lost(loop: TrainingLoop, error: TrainingError, why: str) -> TrainingError:
    kept = f"the checkpoint of step {loop.saved} is kept. Resume it" if loop.saved else "Start again"
    return TrainingError(
        f"{error}, and {why}; {kept} with a lower train.lr (or train.dtype: bfloat16 instead of float16)",
        error.code,
    )
