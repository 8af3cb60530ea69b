"""Where in a log a training step or a time of day is."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

from tui.logs.levels import step_of, time_of
from tui.logs.lines import visible_text
from tui.logs.store import LogStore

_MOST = 200_000  # steps remembered; beyond it every other one is forgotten
_STEP = re.compile(rb"\bstep \d|\d/\d+ \[")


class StepIndex:
    """Remembers which lines of a log tell of which step; catches up with the log when asked.

    Args:
        store: The log.
    """

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._generation = store.generation
        self._searched = store.first
        self._lines = array("Q")
        self._steps = array("q")

    def catch_up(self) -> Iterator[None]:
        """Look at the lines that came since; for a thread, which may give up at every yield."""
        store = self._store
        if self._generation != store.generation or self._searched > store.complete:
            self.__init__(store)  # type: ignore[misc]
        for number, chunk in store.chunks(self._searched):
            count = chunk.count(b"\n")
            if _STEP.search(chunk):
                lines = visible_text(chunk.decode("utf-8", "replace")).split("\n")
                for index, text in enumerate(lines[:count]):
                    step = step_of(text)
                    if step is not None and not (self._steps and self._steps[-1] == step):
                        self._lines.append(number + index)
                        self._steps.append(step)
            self._searched = number + count
            if len(self._steps) > _MOST:
                self._lines, self._steps = self._lines[::2], self._steps[::2]
            yield

    def line_of(self, step: float) -> int | None:
        """The line that tells of the step nearest to ``step``; of several the last: a resumed run repeats."""
        best, distance = None, float("inf")
        for line, known in zip(reversed(self._lines), reversed(self._steps), strict=True):
            away = abs(known - step)
            if away < distance and line >= self._store.first:
                best, distance = line, away
                if not away:
                    break
        return best


def step_at(store: LogStore, line: int, look_back: int = 2000) -> int | None:
    """The step that ``line`` tells of, or the nearest of the ``look_back`` lines before it."""
    for number in range(line, max(store.first, line - look_back) - 1, -1):
        try:
            step = step_of(store.line(number).text)
        except IndexError:
            return None
        if step is not None:
            return step
    return None


def parse_place(text: str) -> tuple[str, int] | None:
    """What somebody typed who wants to go somewhere.

    Returns:
        ``("time", seconds since midnight)`` for ``14:30`` or ``14:30:05``, ``("line", number from 1)`` for
        ``#120``, ``("step", step)`` for ``120`` or ``step 120``; None for anything else.
    """
    text = text.strip().lower()
    clock = re.fullmatch(r"(\d{1,2}):(\d\d)(?::(\d\d))?", text)
    if clock:
        hours, minutes, seconds = int(clock[1]), int(clock[2]), int(clock[3] or 0)
        return ("time", hours * 3600 + minutes * 60 + seconds) if max(minutes, seconds) < 60 else None
    plain = re.fullmatch(r"(#|line |step )? *(\d[\d,]{0,17})", text)
    if not plain:
        return None
    return ("line" if plain[1] in ("#", "line ") else "step"), int(plain[2].replace(",", ""))


def find_time(store: LogStore, seconds: int) -> Iterator[int | None]:
    """Look for the line from which on it was ``seconds`` past midnight; for a thread.

    Of several days the last one that has the time counts.

    Yields:
        The best line so far (None: none yet) after every chunk.
    """
    best: int | None = None
    before: int | None = None
    nearest: tuple[int, int] | None = None  # how much later, line
    for number, chunk in store.chunks(store.first):
        for index, text in enumerate(visible_text(chunk.decode("utf-8", "replace")).split("\n")):
            now = time_of(text)
            if now is None:
                continue
            if now >= seconds and (before is None or before < seconds or now < before):
                best = number + index
            away = abs(now - seconds)
            if nearest is None or away < nearest[0]:
                nearest = (away, number + index)
            before = now
        yield best if best is not None else (nearest[1] if nearest else None)
