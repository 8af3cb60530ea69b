"""What a run's curves say about how it learns: not a number, divergence, plateau, overfitting.

The loss of a flow-matching step depends on the noise level drawn for it, so single losses say little. Steps
are gathered in blocks, windows of blocks are compared by their means, and a difference counts only where it
is large against its standard error (Welch, "The generalization of Student's problem", 1947). A curve that is
too noisy to tell gives no signal rather than a wrong one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from backend.events import AttemptEvent, Event, StepEvent, ValidationEvent

Kind = Literal["nan", "divergence", "overfitting", "plateau"]

_BLOCKS = 256  # at most; then two neighbours become one, so memory stays bounded
_LEAST_STEPS = 120  # before that nothing is said of the loss's course
_DIVERGED = 1.5  # times the usual loss
_SURE = 5.0  # standard errors for an alarm
_FLAT = 0.03  # of the loss: an improvement below that is none
_WORSE = 1.02  # times the best validation loss
_AFTER_BEST = 3  # validations that must all be worse than the best


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a run's curves say.

    Attributes:
        kind: Which.
        step: Since which step, as far as that can be told.
        text: What is seen, as a sentence.
        hint: What to do about it, as a sentence.
    """

    kind: Kind
    step: int
    text: str
    hint: str

    @property
    def is_urgent(self) -> bool:
        """Whether going on is a waste."""
        return self.kind in ("nan", "divergence")


@dataclass(slots=True)
class _Block:
    first: int
    last: int
    count: int
    total: float
    squares: float


@dataclass(frozen=True, slots=True)
class _Window:
    """Mean and squared standard error of the losses in some blocks."""

    mean: float
    error: float
    first: int


class LearningSignals:
    """Takes in a run's events, in order, and tells what their curves say; memory is bounded."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._size = 1  # steps a block
        self._validation: list[tuple[int, float]] = []
        self._nan: int | None = None  # the first of the losses that are no numbers, since the last good one

    def take(self, events: Iterable[Event]) -> None:
        """Take in events. A resume takes back the steps after the point where it began."""
        for event in events:
            if isinstance(event, StepEvent):
                self._step(event.step, event.loss)
            elif isinstance(event, ValidationEvent):
                if math.isfinite(event.loss):
                    self._validation.append((event.step, event.loss))
            elif isinstance(event, AttemptEvent):
                self._blocks = [block for block in self._blocks if block.last <= event.step]
                self._validation = [one for one in self._validation if one[0] <= event.step]
                self._nan = None

    def _step(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            self._nan = step if self._nan is None else self._nan
            return
        self._nan = None
        if not self._blocks or self._blocks[-1].count >= self._size:
            if len(self._blocks) >= _BLOCKS:
                pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
                self._blocks = [
                    _Block(a.first, b.last, a.count + b.count, a.total + b.total, a.squares + b.squares)
                    for a, b in pairs
                ]
                self._size *= 2
            self._blocks.append(_Block(step, step, 0, 0.0, 0.0))
        block = self._blocks[-1]
        block.last = step
        block.count += 1
        block.total += loss
        block.squares += loss * loss

    def found(self) -> list[Signal]:
        """What is to be said now, the most urgent first."""
        found = [self._not_a_number(), self._divergence(), self._overfitting()]
        if not any(found):
            found.append(self._plateau())
        return [signal for signal in found if signal is not None]

    def _not_a_number(self) -> Signal | None:
        if self._nan is None:
            return None
        return Signal(
            "nan",
            self._nan,
            f"The loss has not been a number since step {self._nan}.",
            "Stop it, and restart from the last checkpoint with a lower learning rate, or bf16 for fp16.",
        )

    @property
    def _steps(self) -> int:
        return sum(block.count for block in self._blocks)

    def _divergence(self) -> Signal | None:
        if self._steps < _LEAST_STEPS:
            return None
        windows = _windows(self._blocks, 10)
        last, before = windows[-1], windows[:-1]
        usual = sorted(before, key=lambda window: window.mean)[len(before) // 2]
        sure = (last.mean - usual.mean) / math.sqrt(last.error + usual.error or 1e-24)
        if last.mean < _DIVERGED * usual.mean or sure < _SURE:
            return None
        return Signal(
            "divergence",
            last.first,
            f"The loss is {last.mean / usual.mean:.1f} times what it was before step {last.first}.",
            "The learning rate is too high: take an earlier checkpoint, and restart with a third of it.",
        )

    def _overfitting(self) -> Signal | None:
        if len(self._validation) < _AFTER_BEST + 2:
            return None
        at = min(range(len(self._validation)), key=lambda place: self._validation[place][1])
        step, best = self._validation[at]
        after = [loss for _, loss in self._validation[at + 1 :]]
        recent = after[-_AFTER_BEST:]
        if len(recent) < _AFTER_BEST or min(recent) <= best * _WORSE:
            return None
        if _mean(recent) < _mean(after):  # it is on its way down again
            return None
        return Signal(
            "overfitting",
            step,
            f"The validation loss was lowest at step {step} ({best:.4f}) and has risen to {recent[-1]:.4f}.",
            f"Take the checkpoint of about step {step}; more steps learn the pictures by heart.",
        )

    def _plateau(self) -> Signal | None:
        if self._steps < 2 * _LEAST_STEPS:
            return None
        quarters = _windows(self._blocks, 4)
        third, last = quarters[2], quarters[3]
        likely = third.mean - last.mean + 2 * math.sqrt(third.error + last.error)
        if likely > _FLAT * third.mean:
            return None  # it improves, or may do so for all that can be told
        return Signal(
            "plateau",
            third.first,
            f"The loss has not fallen since about step {third.first}.",
            "Look at the samples: if they are good, stop here; if not, a higher rank or rate may help.",
        )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _windows(blocks: Sequence[_Block], count: int) -> list[_Window]:
    """``blocks`` in ``count`` windows of about as many blocks each."""
    cuts = [round(place * len(blocks) / count) for place in range(count + 1)]
    return [_window(blocks[a:b]) for a, b in itertools.pairwise(cuts) if b > a]


def _window(blocks: Sequence[_Block]) -> _Window:
    count = sum(block.count for block in blocks)
    mean = sum(block.total for block in blocks) / count
    variance = max(0.0, sum(block.squares for block in blocks) / count - mean * mean)
    return _Window(mean, variance / max(1, count - 1), blocks[0].first)
