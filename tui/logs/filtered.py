"""The lines of a log that a filter lets through, numbered as if there were no others."""

from __future__ import annotations

from array import array
from bisect import bisect_left

from tui.logs.levels import Level
from tui.logs.lines import LogLine
from tui.logs.search import LineFilter, level_before
from tui.logs.store import LogStore


class FilteredLog:
    """Looks like a :class:`LogStore` of the lines that a filter shows; holds their numbers, no text.

    The lines found come from a thread by :meth:`add`. Line numbers here count shown lines only; they stay
    valid when old lines are dropped.

    Args:
        store: The log.
        shown: Which of its lines are shown.

    Attributes:
        searched: The number, in the log, of the line from which on nothing is known yet.
    """

    def __init__(self, store: LogStore, shown: LineFilter) -> None:
        self.store = store
        self.shown = shown
        self.searched = store.first
        self._numbers = array("Q")
        self._dropped = 0
        self._resets = 0
        self._tail: tuple[int, bool] = (-1, False)
        self._generation = store.generation

    def add(self, lines: array[int], searched: int) -> None:
        """Take in what the thread found up to the line ``searched``."""
        if self._numbers and lines and lines[0] <= self._numbers[-1]:
            lines = lines[bisect_left(lines, self._numbers[-1] + 1) :]
        self._numbers.extend(lines)
        self.searched = max(self.searched, searched)

    def refresh(self) -> None:
        """Forget lines that the log no longer holds."""
        store = self.store
        if self._generation != store.generation or self.searched > store.complete:
            self._generation = store.generation
            self._resets += 1
            self._numbers, self._dropped, self.searched = array("Q"), 0, store.first
        gone = bisect_left(self._numbers, store.first)
        if gone:
            del self._numbers[:gone]
            self._dropped += gone

    # What a viewport wants of a log

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever a line may have come or changed."""
        return self.store.version, len(self._numbers) + self._dropped

    @property
    def generation(self) -> tuple[int, int]:
        """Changes when line numbers become invalid."""
        return self.store.generation, self._resets

    @property
    def first(self) -> int:
        """The oldest line's number."""
        return self._dropped

    @property
    def complete(self) -> int:
        """The number after the last whole line."""
        return self._dropped + len(self._numbers)

    @property
    def stop(self) -> int:
        """The number after the last line; an unfinished one counts once everything before it is known."""
        return self.complete + self._shows_tail()

    def __len__(self) -> int:
        return self.stop - self.first

    def _shows_tail(self) -> bool:
        store = self.store
        if store.stop == store.complete or self.searched < store.complete:
            return False
        if self._tail[0] != store.version:
            last = store.stop - 1
            level = level_before(store, last) if self.shown.level is not None else Level.INFO
            self._tail = (store.version, self.shown.shows(store.line(last).text, level))
        return self._tail[1]

    def line(self, line: int) -> LogLine:
        """A line as it is shown.

        Raises:
            IndexError: There is no such line, or it was dropped.
        """
        return self.store.line(self.number(line))

    def number(self, line: int) -> int:
        """The number in the whole log of the shown line ``line``.

        Raises:
            IndexError: There is no such line, or it was dropped.
        """
        index = line - self._dropped
        if index < 0:
            raise IndexError(f"line {line} was dropped")
        return self._numbers[index] if index < len(self._numbers) else self.store.stop - 1

    def position(self, number: int) -> int:
        """The first shown line that is at ``number`` of the whole log, or after it."""
        return min(self._dropped + bisect_left(self._numbers, number), max(self.first, self.stop - 1))
