"""Searching a whole log for a text, away from the event loop."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from tui.logs.lines import visible_text
from tui.logs.store import LogStore

# Bytes that mean "this is not simply its own text": every C0 control but the newline, and DEL.
_CONTROLS = bytes(code for code in range(32) if code != 10) + b"\x7f"


@dataclass(frozen=True)
class Query:
    """What is searched for: a literal text, in smart case.

    Attributes:
        text: Not empty. Upper-case letters in it make the search respect case.
    """

    text: str

    @property
    def folds(self) -> bool:
        """Whether case is ignored."""
        return self.text == self.text.lower()

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where it occurs in ``text``, in characters, without overlaps."""
        pattern = re.compile(re.escape(self.text), re.IGNORECASE if self.folds else 0)
        return [match.span() for match in pattern.finditer(text)]

    def matches(self, text: str) -> bool:
        """Whether it occurs in ``text``."""
        return self.text in (text.lower() if self.folds else text)


def matching_lines(query: Query, number: int, chunk: bytes) -> array[int]:
    """The numbers of the lines of ``chunk`` that match as they are shown; ``number`` is its first line's.

    Text in overwritten frames of a progress line or inside escape sequences does not match; text
    that a colour change interrupts does.
    """
    if chunk.isascii() and query.text.isascii() and len(chunk.translate(None, _CONTROLS)) == len(chunk):
        # Nothing to clean: stay with bytes, which is several times faster.
        return _scan(chunk.lower() if query.folds else chunk, query.text.encode(), number, b"\n")
    text = visible_text(chunk.decode("utf-8", "replace"))
    return _scan(text.lower() if query.folds else text, query.text, number, "\n")


def _scan(hay: str | bytes, needle: str | bytes, number: int, newline: str | bytes) -> array[int]:
    hits = array("Q")
    counted = 0
    position = hay.find(needle)  # type: ignore[arg-type]
    while position >= 0:
        number += hay.count(newline, counted, position)  # type: ignore[arg-type]
        hits.append(number)
        counted = hay.find(newline, position)  # type: ignore[arg-type]
        if counted < 0:
            break
        position = hay.find(needle, counted)  # type: ignore[arg-type]
    return hits


def search(store: LogStore, query: Query, start: int) -> Iterator[tuple[int, array[int]]]:
    """Search the whole lines from number ``start`` on; for a thread.

    Yields:
        After every chunk (about 256 KiB, so a caller can give up in between): the number of the line
        to go on from, and the matching lines.
    """
    for number, chunk in store.chunks(start):
        yield number + chunk.count(b"\n"), matching_lines(query, number, chunk)


@dataclass
class SearchResults:
    """The lines found so far, and the one that the reader looks at.

    Attributes:
        query: What was searched for.
        searched: Number of the line from which the search has to go on.
        current: The line that :meth:`step` went to last.
        wrapped: Whether the last step went round an end of the log.
    """

    query: Query
    searched: int = 0
    current: int | None = None
    wrapped: bool = False
    _lines: array[int] = field(default_factory=lambda: array("Q"))
    _tail: int | None = None

    def add(self, lines: array[int], searched: int) -> None:
        """Take in what one chunk gave; ``searched`` is the line after it."""
        if lines and self._lines and lines[0] == self._lines[-1]:
            lines = lines[1:]
        self._lines.extend(lines)
        self.searched = max(self.searched, searched)

    def set_tail(self, line: int | None) -> None:
        """Say whether the unfinished last line matches (its number) or not (None)."""
        self._tail = line

    def drop_before(self, first: int) -> None:
        """Forget matches in lines that the log no longer holds."""
        if self._lines and self._lines[0] < first:
            del self._lines[: bisect_left(self._lines, first)]

    @property
    def count(self) -> int:
        """How many lines match."""
        return len(self._lines) + (self._tail is not None)

    @property
    def position(self) -> int:
        """Which match :attr:`current` is, from 1; 0 if it is none."""
        if self.current is None:
            return 0
        if self.current == self._tail:
            return self.count
        index = bisect_left(self._lines, self.current)
        found = index < len(self._lines) and self._lines[index] == self.current
        return index + 1 if found else 0

    def _at(self, index: int) -> int:
        return self._lines[index] if index < len(self._lines) else int(self._tail or 0)

    def nearest(self, origin: int, *, complete: bool) -> int | None:
        """Go to the first match from line ``origin`` on, or else to the last one before it.

        Args:
            origin: A line.
            complete: Whether everything was searched; if not, matches may still come.

        Returns:
            The line, or None if there is none or it cannot be known yet.
        """
        index = bisect_left(self._lines, origin)
        if index >= len(self._lines) and not complete:
            return None
        if index >= self.count:
            index = self.count - 1
        if index < 0:
            return None
        self.wrapped = False
        self.current = self._at(index)
        return self.current

    def step(self, direction: int, origin: int) -> int | None:
        """Go to the next (1) or previous (-1) matching line, round the ends of the log.

        Args:
            direction: 1 or -1.
            origin: The line to start from where there is no current match; it counts itself.

        Returns:
            The line, or None if nothing matches.
        """
        if not self.count:
            return None
        if self.current is not None:
            before = bisect_left(self._lines, self.current)
            after = before + (self.position > 0 and self.current != self._tail)
            if self.current == self._tail:
                before = len(self._lines)
                after = before + 1
        else:
            before = bisect_left(self._lines, origin + (direction < 0))
            after = before
        index = after if direction > 0 else before - 1
        self.wrapped = not 0 <= index < self.count
        self.current = self._at(index % self.count)
        return self.current
