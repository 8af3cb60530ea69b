"""What a run reported step by step, in columns, over whichever x one wants. No numpy here."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from backend.events import StepEvent, ValidationEvent

XAxis = Literal["step", "time", "epoch"]

METRICS = ("loss", "lr", "grad_norm", "seconds", "memory", "cost")
"""What is kept of every step. Memory is in GiB, cost in dollars."""

VALIDATION = "validation"


class RunHistory:
    """All steps and validations that a run reported, those of attempts that were given up included.

    Every event counts once, by its number; one that comes late takes its place among the others.

    Attributes:
        rate: Dollars a second while an attempt runs; None if it costs nothing that is known.
        cuts: Where an attempt went back: ``(event number, step)``.
    """

    def __init__(self) -> None:
        self.rate: float | None = None
        self.cuts: list[tuple[int, int]] = []
        self._numbers = array("q")
        self._steps = array("q")
        self._times = array("d")
        self._epochs = array("q")
        self._values = {metric: array("d") for metric in METRICS}
        self._validation_numbers = array("q")
        self._validations: list[tuple[int, float, float]] = []  # step, time, loss
        self._paid = 0.0
        self._clock: float | None = None
        self._start: float | None = None
        self._firsts: dict[int, int] = {}  # the first step of each epoch

    def __len__(self) -> int:
        return len(self._steps)

    # -- taking in ----------------------------------------------------------------------------------

    def begin(self, time: float) -> None:
        """The first attempt begins."""
        self._start = time
        self._clock = time

    def cut(self, number: int, step: int, time: float) -> bool:
        """An attempt begins after ``step``; False if that was known."""
        if self._start is None:
            self._start = time
        self._clock = time
        known = [cut for cut, _ in self.cuts]
        if number and number in known:
            return False
        number = number or self._last + 1
        self.cuts.insert(bisect_right(known, number), (number, step))
        return True

    @property
    def _last(self) -> int:
        """The highest number so far; what comes without one of its own gets the next."""
        cut = self.cuts[-1][0] if self.cuts else 0
        return max(cut, *self._numbers[-1:], *self._validation_numbers[-1:], 0)

    def add(self, event: StepEvent) -> int | None:
        """Take in a step; its row, or None if it was known."""
        if self._start is None:
            self._start = event.t - event.seconds
        number = event.seq or self._last + 1
        row = bisect_right(self._numbers, number)
        if event.seq and row and self._numbers[row - 1] == number:
            return None
        if row == len(self._numbers):
            self._paid += max(0.0, event.t - self._clock) if self._clock is not None else event.seconds
            self._clock = event.t
        self._numbers.insert(row, number)
        self._steps.insert(row, event.step)
        self._times.insert(row, event.t)
        self._epochs.insert(row, event.epoch)
        first = self._firsts.get(event.epoch)
        if first is None or event.step < first:
            self._firsts[event.epoch] = event.step
        values = self._values
        values["loss"].insert(row, event.loss)
        values["lr"].insert(row, event.lr)
        values["grad_norm"].insert(row, math.nan if event.grad_norm is None else event.grad_norm)
        values["seconds"].insert(row, event.seconds)
        values["memory"].insert(row, event.memory / 2**30)
        values["cost"].insert(row, self._paid)
        return row

    def add_validation(self, event: ValidationEvent) -> int | None:
        """Take in a validation; its row, or None if it was known."""
        number = event.seq or self._last + 1
        row = bisect_right(self._validation_numbers, number)
        if event.seq and row and self._validation_numbers[row - 1] == number:
            return None
        self._validation_numbers.insert(row, number)
        self._validations.insert(row, (event.step, event.t, event.loss))
        return row

    @property
    def validations(self) -> int:
        """How many there are."""
        return len(self._validations)

    # -- giving out ---------------------------------------------------------------------------------

    def has(self, metric: str) -> bool:
        """Whether there is anything to show of a metric."""
        if metric == VALIDATION:
            return bool(self._validations)
        if metric == "cost":
            return self.rate is not None and bool(self._steps)
        if metric == "loss":
            return True
        return any(value == value and value for value in self._values[metric][-64:])

    def x(self, axis: XAxis, step: int, time: float, epoch: int = 0) -> float:
        """Where something that happened is on an axis: the step, minutes since the start, or epochs done."""
        if axis == "time":
            return (time - (self._start if self._start is not None else time)) / 60
        if axis == "step":
            return float(step)
        if not self._firsts:
            return 0.0
        if not epoch:
            epoch = max((e for e, first in self._firsts.items() if first <= step), default=min(self._firsts))
        first = self._firsts.get(epoch, step)
        length = self._length(epoch) or max(1, (self._steps[-1] if self._steps else step) - first + 1)
        return epoch - 1 + min(max(0, step - first + 1), length) / length

    def _length(self, epoch: int) -> int | None:
        """Steps of an epoch; of the last one as many as the one before it had."""
        for here, after in ((epoch, epoch + 1), (epoch - 1, epoch)):
            if here in self._firsts and after in self._firsts:
                return max(1, self._firsts[after] - self._firsts[here])
        return None

    @property
    def open_epoch(self) -> int:
        """How many epochs are known; while it is one, its length is not, and x moves."""
        return len(self._firsts)

    def points(
        self, metric: str, axis: XAxis, start: int = 0
    ) -> Iterator[tuple[list[float], list[float], int | None]]:
        """The points of a metric from row ``start`` on, a stretch for every attempt.

        Yields:
            Their x, their y, and the step that the next attempt goes back to (None after the last).
        """
        if metric == VALIDATION:
            numbers: Sequence[int] = self._validation_numbers
        else:
            numbers = self._numbers
        for number, step in self.cuts:
            stop = bisect_right(numbers, number)
            if stop >= start:
                yield *self._stretch(metric, axis, start, stop), step
                start = stop
        yield *self._stretch(metric, axis, start, len(numbers)), None

    def _stretch(self, metric: str, axis: XAxis, start: int, stop: int) -> tuple[list[float], list[float]]:
        if metric == VALIDATION:
            rows = self._validations[start:stop]
            return [self.x(axis, step, time) for step, time, _ in rows], [loss for _, _, loss in rows]
        values = self._values[metric][start:stop]
        if metric == "cost":
            rate = self.rate or 0.0
            ys = [value * rate for value in values]
        else:
            ys = values.tolist()
        if axis == "step":
            return [float(step) for step in self._steps[start:stop]], ys
        places = zip(self._steps[start:stop], self._times[start:stop], self._epochs[start:stop], strict=True)
        return [self.x(axis, step, time, epoch) for step, time, epoch in places], ys

    def step_at(self, axis: XAxis, x: float) -> int | None:
        """The step that was reported nearest to ``x``; None while there are none."""
        if not self._steps:
            return None
        if axis == "step":
            return round(x)
        if axis == "time":
            row = bisect_left(self._times, (self._start or 0.0) + x * 60 - 1e-6)
            return self._steps[min(row, len(self._steps) - 1)]
        rows = range(len(self._steps))
        row = min(rows, key=lambda r: abs(self.x(axis, self._steps[r], 0.0, self._epochs[r]) - x))
        return self._steps[row]

    def x_of_step(self, axis: XAxis, step: int) -> float | None:
        """Where the last report of the step nearest to ``step`` is; None while there are none."""
        best: int | None = None
        for row in range(len(self._steps) - 1, -1, -1):
            if best is None or abs(self._steps[row] - step) < abs(self._steps[best] - step):
                best = row
                if self._steps[row] == step:
                    break
        return (
            None if best is None else self.x(axis, self._steps[best], self._times[best], self._epochs[best])
        )

    def rows(self) -> Iterator[tuple[float, ...]]:
        """Step, time, epoch and every metric of each step, in the order in which they were reported."""
        rate = self.rate or 0.0
        for row, step in enumerate(self._steps):
            values = [self._values[metric][row] * (rate if metric == "cost" else 1) for metric in METRICS]
            yield (step, self._times[row], self._epochs[row], *values)

    def validation_rows(self) -> list[tuple[int, float, float]]:
        """Step, time and loss of each validation."""
        return list(self._validations)
