"""Sample pictures by step and prompt, and which of them are looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.events import SampleEvent


class SampleGrid:
    """Steps down, prompts across; some places may be empty.

    Attributes:
        steps: The steps that have pictures, in order.
        prompts: The numbers of the prompts, in order.
        step: The chosen step's place in ``steps``.
        prompt: The chosen prompt's place in ``prompts``.
    """

    def __init__(self, samples: Iterable[SampleEvent] = ()) -> None:
        self._cells: dict[tuple[int, int], SampleEvent] = {}
        self.steps: list[int] = []
        self.prompts: list[int] = []
        self.step = self.prompt = 0
        self._other = -1  # the step to flip to, as its place; -1 is the one before
        self.show(samples)
        self.step = max(0, len(self.steps) - 1)

    def show(self, samples: Iterable[SampleEvent]) -> None:
        """Take in the samples as they are now; the choice stays, or follows the newest step."""
        at_newest = self.step >= len(self.steps) - 1
        chosen = self.steps[self.step] if self.steps else None
        self._cells = {(sample.step, sample.index): sample for sample in samples}
        self.steps = sorted({step for step, _ in self._cells})
        self.prompts = sorted({index for _, index in self._cells})
        self.prompt = max(0, min(self.prompt, len(self.prompts) - 1))
        if not at_newest and chosen in self.steps:
            self.step = self.steps.index(chosen)
        else:
            self.step = max(0, len(self.steps) - 1)
        if self._other >= len(self.steps):
            self._other = -1

    def at(self, step: int, prompt: int) -> SampleEvent | None:
        """The sample at a place, by places in ``steps`` and ``prompts``."""
        if 0 <= step < len(self.steps) and 0 <= prompt < len(self.prompts):
            return self._cells.get((self.steps[step], self.prompts[prompt]))
        return None

    @property
    def chosen(self) -> SampleEvent | None:
        """The chosen sample."""
        return self.at(self.step, self.prompt)

    @property
    def baseline(self) -> SampleEvent | None:
        """The first picture of the chosen prompt: step 0 shows the model as it was, if that was drawn."""
        return next((cell for step in range(len(self.steps)) if (cell := self.at(step, self.prompt))), None)

    def nearest(self, step: int, index: int) -> SampleEvent | None:
        """The picture of prompt number ``index`` whose step is nearest to ``step``."""
        of_prompt = [sample for (_, number), sample in self._cells.items() if number == index]
        return min(of_prompt, key=lambda sample: (abs(sample.step - step), sample.step), default=None)

    def move(self, steps: int, prompts: int) -> bool:
        """Choose a neighbour; whether there was one."""
        step = max(0, min(self.step + steps, len(self.steps) - 1))
        prompt = max(0, min(self.prompt + prompts, len(self.prompts) - 1))
        moved = (step, prompt) != (self.step, self.prompt)
        if step != self.step:
            self._other = self.step
        self.step, self.prompt = step, prompt
        return moved

    def flip(self) -> bool:
        """Choose the step looked at before, or the one before this; again comes back."""
        if len(self.steps) < 2:
            return False
        target = self._other
        if not 0 <= target < len(self.steps) or target == self.step:
            target = self.step - 1 if self.step else 1
        self._other, self.step = self.step, target
        return True

    def window(self, rows: int, columns: int) -> tuple[range, range]:
        """The places of the steps and prompts to show in so many rows and columns, with the chosen one."""
        return _window(self.step, len(self.steps), rows), _window(self.prompt, len(self.prompts), columns)


def _window(at: int, count: int, room: int) -> range:
    room = max(1, min(room, count))
    first = max(0, min(at - room // 2, count - room))
    return range(first, min(count, first + room))
