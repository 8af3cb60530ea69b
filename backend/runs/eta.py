"""When a run will be done, and how sure that is."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from backend.events import AttemptEvent, Event, StepEvent

_WINDOW = 400  # steps that the estimate looks back on
_BATCHES = 8
_LEAST = 8  # steps before anything is said
_T = 2.36  # Student's t for 95 % with _BATCHES - 1 degrees of freedom


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the last step: the estimate, and the range that holds it with about 95 %."""

    seconds: float
    low: float
    high: float

    @property
    def plus_minus(self) -> float:
        """Half the range, in seconds."""
        return (self.high - self.low) / 2


class EtaEstimate:
    """Estimates from when steps came, so that samples and saves between them count.

    The range is by batch means (Law and Kelton, "Simulation Modeling and Analysis"): steps near each other
    take alike, so the spread of the means of a few batches says more than that of single steps.
    """

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_WINDOW + 1)
        self._step = 0

    def take(self, events: Iterable[Event]) -> None:
        """Take in events, in order; a new attempt begins anew."""
        for event in events:
            if isinstance(event, AttemptEvent):
                self._times.clear()
            elif isinstance(event, StepEvent):
                self._times.append(event.t)
                self._step = event.step

    @property
    def seconds_per_step(self) -> float | None:
        """Mean time from step to step, all that happens between them included; None while unknown."""
        if len(self._times) <= _LEAST:
            return None
        return max(0.0, self._times[-1] - self._times[0]) / (len(self._times) - 1)

    def left(self, steps: int) -> Eta | None:
        """What is left until step ``steps``; None while that is not known."""
        mean = self.seconds_per_step
        if mean is None or not steps:
            return None
        left = max(0, steps - self._step)
        times = list(self._times)
        count = min(_BATCHES, (len(times) - 1) // 2)
        cuts = [round(place * (len(times) - 1) / count) for place in range(count + 1)]
        means = [(times[b] - times[a]) / (b - a) for a, b in itertools.pairwise(cuts)]
        spread = sum((one - mean) ** 2 for one in means) / (count - 1)  # of the mean of one batch
        batch = (len(times) - 1) / count
        # The mean is not known exactly, and what is left will not be exactly average.
        error = _T * math.sqrt(left * left * spread / count + left * batch * spread)
        return Eta(left * mean, max(0.0, left * mean - error), left * mean + error)
