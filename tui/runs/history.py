"""What a run reported step by step, in columns, over whichever x one wants. No numpy here."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from tui.runs.numbered_rows import NumberedRows

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
        self._steps = NumberedRows("step", "time", "epoch", *METRICS)
        self._validations = NumberedRows("step", "time", "loss")
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
        return max(cut, self._steps.last, self._validations.last)

    def add(self, event: StepEvent) -> int | None:
        """Take in a step; its row, or None if it was known."""
        if self._start is None:
            self._start = event.t - event.seconds
        number = event.seq or self._last + 1
        newest = not len(self._steps) or number > self._steps.last
        if newest:
            paid = max(0.0, event.t - self._clock) if self._clock is not None else event.seconds
        else:
            paid = 0.0
        row = self._steps.put(
            number,
            (
                event.step,
                event.t,
                event.epoch,
                event.loss,
                event.lr,
                math.nan if event.grad_norm is None else event.grad_norm,
                event.seconds,
                event.memory / 2**30,
                self._paid + paid,
            ),
        )
        if row is None:
            return None
        if newest:
            self._paid += paid
            self._clock = event.t
        first = self._firsts.get(event.epoch)
        if first is None or event.step < first:
            self._firsts[event.epoch] = event.step
        return row

    def add_validation(self, event: ValidationEvent) -> int | None:
        """Take in a validation; its row, or None if it was known."""
        return self._validations.put(event.seq or self._last + 1, (event.step, event.t, event.loss))

    @property
    def validations(self) -> int:
        """How many there are."""
        return len(self._validations)

    # -- giving out ---------------------------------------------------------------------------------

    def has(self, metric: str) -> bool:
        """Whether there is anything to show of a metric."""
        if metric == VALIDATION:
            return len(self._validations) > 0
        if metric == "cost":
            return self.rate is not None and len(self._steps) > 0
        if metric == "loss":
            return True
        return any(value == value and value for value in self._steps.column(metric, -64))

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
        last = int(self._steps.value("step", -1)) if len(self._steps) else step
        length = self._length(epoch) or max(1, last - first + 1)
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
        rows = self._validations if metric == VALIDATION else self._steps
        for number, step in self.cuts:
            stop = rows.row_after(number)
            if stop >= start:
                yield *self._stretch(metric, axis, start, stop), step
                start = stop
        yield *self._stretch(metric, axis, start, len(rows)), None

    def _stretch(self, metric: str, axis: XAxis, start: int, stop: int) -> tuple[list[float], list[float]]:
        rows = self._validations if metric == VALIDATION else self._steps
        steps = rows.column("step", start, stop).tolist()
        ys = rows.column("loss" if metric == VALIDATION else metric, start, stop).tolist()
        if metric == "cost":
            rate = self.rate or 0.0
            ys = [value * rate for value in ys]
        if axis == "step":
            return steps, ys
        times = rows.column("time", start, stop)
        epochs = rows.column("epoch", start, stop) if metric != VALIDATION else [0] * len(steps)
        places = zip(steps, times, epochs, strict=True)
        return [self.x(axis, int(step), time, int(epoch)) for step, time, epoch in places], ys

    def step_at(self, axis: XAxis, x: float) -> int | None:
        """The step that was reported nearest to ``x``; None while there are none."""
        count = len(self._steps)
        if not count:
            return None
        if axis == "step":
            return round(x)
        value = self._steps.value
        if axis == "time":
            time = (self._start or 0.0) + x * 60 - 1e-6
            row = bisect_left(range(count), time, key=lambda row: value("time", row))
            return int(value("step", min(row, count - 1)))

        def away(row: int) -> float:
            return abs(self.x(axis, int(value("step", row)), 0.0, int(value("epoch", row))) - x)

        return int(value("step", min(range(count), key=away)))

    def x_of_step(self, axis: XAxis, step: int) -> float | None:
        """Where the last report of the step nearest to ``step`` is; None while there are none."""
        steps = self._steps.column("step")
        best: int | None = None
        for row in range(len(steps) - 1, -1, -1):
            if best is None or abs(steps[row] - step) < abs(steps[best] - step):
                best = row
                if steps[row] == step:
                    break
        if best is None:
            return None
        value = self._steps.value
        return self.x(axis, int(steps[best]), value("time", best), int(value("epoch", best)))

    def rows(self) -> Iterator[tuple[float, ...]]:
        """Step, time, epoch and every metric of each step, in the order in which they were reported."""
        rate = self.rate or 0.0
        for step, time, epoch, *values, paid in self._steps.rows():
            yield (int(step), time, int(epoch), *values, paid * rate)

    def validation_rows(self) -> list[tuple[int, float, float]]:
        """Step, time and loss of each validation."""
        return [(int(step), time, loss) for step, time, loss in self._validations.rows()]
