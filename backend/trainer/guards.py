"""Noticing that a run goes wrong while it can still be saved."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field
from typing import Any

# Codes of failures from which an earlier checkpoint may be sound.
RUINED = frozenset({"nan_loss", "loss_exploded", "black_samples"})

_WINDOW = 100  # losses that the mean is taken of
_AT_LEAST = 20  # losses before anything is judged
_FACTOR = 10.0  # how far above the mean is out of bounds
_PATIENCE = 5  # losses out of bounds, one after another


@dataclass
class LossGuard:
    """Tells when the loss explodes: five times in a row above ten times the mean of the last hundred.

    A flow-matching loss of one picture varies by a factor of a few with the noise level, so one high
    value means nothing. Values out of bounds are not taken into the mean, which makes it robust. A
    median would be near 0 where many batches are (``prior_reg``), and call all others explosions.

    Attributes:
        recent: The last losses within bounds.
        high: Losses out of bounds since the last one within.
    """

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    high: int = 0

    def add(self, loss: float) -> bool:
        """Take in a step's loss; returns whether the loss has exploded."""
        if len(self.recent) >= _AT_LEAST:
            usual = statistics.fmean(self.recent)
            if usual > 0 and not loss <= _FACTOR * usual:
                self.high += 1
                return self.high >= _PATIENCE
        self.high = 0
        if math.isfinite(loss):
            self.recent.append(loss)
        return False

    @property
    def calm(self) -> bool:
        """Whether the last loss was within bounds: weights may be saved as good."""
        return self.high == 0

    def state(self) -> dict[str, Any]:
        """What :meth:`load` needs."""
        return {"recent": list(self.recent), "high": self.high}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.recent = deque(state["recent"], maxlen=_WINDOW)
        self.high = int(state["high"])


@dataclass
class Rollback:
    """The one time that a run may go back to its last checkpoint and go on at half the rate.

    Attributes:
        step: Updates done at the checkpoint that it went back to; None as long as it did not.
        lr: The config's learning rate then: once the user changes it, the run has its chance again.
        why: What had happened.
    """

    step: int | None = None
    lr: float = 0.0
    why: str = ""

    FACTOR = 0.5

    @property
    def scale(self) -> float:
        """The factor on the learning rate."""
        return 1.0 if self.step is None else self.FACTOR

    def state(self) -> dict[str, Any]:
        """What :meth:`load` needs."""
        return {"step": self.step, "lr": self.lr, "why": self.why}

    def load(self, state: dict[str, Any], lr: float) -> None:
        """Go on from a saved state, unless the config has another learning rate now."""
        if state["step"] is not None and float(state["lr"]) == lr:
            self.step, self.lr, self.why = int(state["step"]), lr, str(state["why"])
        else:
            self.step, self.lr, self.why = None, 0.0, ""
