"""Updates that the device is still busy with, and telling of them when their numbers have arrived."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.events import StepEvent
from backend.trainer.errors import TrainingError
from backend.trainer.gpu_watch import gpu_share
from backend.trainer.memory import memory_used
from backend.trainer.pending import Pending

if TYPE_CHECKING:
    from backend.trainer.loop import TrainingLoop

_MEMORY_EVERY = 20  # steps between two looks at the memory


@dataclass(frozen=True)
class UnderWay:
    """An update whose numbers the device has not reported yet.

    Attributes:
        pending: The update.
        boundary: Randomness and data order before it.
        began: When, by ``time.perf_counter``.
        epoch: The data order's.
    """

    pending: Pending
    boundary: dict[str, Any]
    began: float
    epoch: int


def report_update(loop: TrainingLoop) -> None:
    """Wait for the numbers of the oldest update under way, and report it.

    Raises:
        TrainingError: They are not finite (the loop is then where it was before that update), or the loss
            has exploded.
    """
    one = loop.under_way.popleft()
    try:
        result = one.pending.read()
    except TrainingError:
        loop.step, loop.boundary = one.pending.step - 1, one.boundary  # as if it had not begun
        loop.under_way.clear()
        loop.last_done = None
        loop.train_step.recover()
        raise
    done = one.pending.event
    if done is not None and loop.last_done is not None:
        seconds = loop.last_done.elapsed_time(done) / 1e3
    else:
        seconds = time.perf_counter() - one.began
    loop.last_done = done
    step = one.pending.step
    if step % _MEMORY_EVERY == 1 or not loop.memory:
        loop.memory = memory_used(loop.device)
    loop.report.step(
        StepEvent(
            step=step,
            loss=result.loss,
            smoothed=loop.smoothed.add(result.loss),
            lr=result.lr,
            grad_norm=result.grad_norm,
            seconds=round(seconds, 6),
            memory=loop.memory,
            epoch=one.epoch,
            gpu=gpu_share(loop.device),
        )
    )
    if loop.guard.add(result.loss):
        raise TrainingError(
            f"the loss of step {step} and those before it ({result.loss:.3g}) are more than ten "
            "times what is usual in this run",
            "loss_exploded",
        )
