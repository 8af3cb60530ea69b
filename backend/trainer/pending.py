"""The numbers of an update, which a GPU has later than the host."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backend.trainer.errors import TrainingError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class StepResult:
    """What one update was like; ``grad_norm`` is before clipping."""

    loss: float
    grad_norm: float
    lr: float


class Pending:
    """An update that is under way; its numbers arrive when the device has computed them.

    Args:
        numbers: Loss and norm of the gradient: on the CPU, or on their way to it.
        arrived: When they are there; None if they are.
        lr: The learning rate.
        step: Number of the update, from 1.
    """

    def __init__(self, numbers: torch.Tensor, arrived: torch.cuda.Event | None, lr: float, step: int) -> None:
        self._numbers = numbers
        self._arrived = arrived
        self._lr = lr
        self.step = step

    @property
    def arrived(self) -> bool:
        """Whether :meth:`read` need not wait."""
        event: Any = self._arrived
        return event is None or bool(event.query())

    @property
    def event(self) -> torch.cuda.Event | None:
        """When the device was done."""
        return self._arrived

    def read(self) -> StepResult:
        """Wait for the numbers.

        Raises:
            TrainingError: One is not finite: this update and those after it were not made.
        """
        if self._arrived is not None and not self.arrived:
            self._arrived.synchronize()
        loss, norm = self._numbers.tolist()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = "loss" if not math.isfinite(loss) else "gradient"
            raise TrainingError(f"the {what} of step {self.step} is not a finite number", "nan_loss")
        return StepResult(loss, norm, self._lr)
