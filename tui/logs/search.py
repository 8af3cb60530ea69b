"""Searching and filtering a whole log, away from the event loop."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from tui.logs.levels import Level, level_of
from tui.logs.lines import visible_text
from tui.logs.pattern_cost import is_cheap
from tui.logs.pattern_process import PatternProcess, TooSlow
from tui.logs.store import LogStore

# Bytes that mean "this is not simply its own text": every C0 control but the newline, and DEL.
_CONTROLS = bytes(code for code in range(32) if code != 10) + b"\x7f"


@dataclass(frozen=True)
class Query:
    """What is searched for: a literal text or a pattern, in smart case.

    Attributes:
        text: Not empty. Upper-case letters in it (in a pattern those that no backslash precedes) make the
            search respect case.
        regex: Whether it is a regular expression.
    """

    text: str
    regex: bool = False

    @property
    def folds(self) -> bool:
        """Whether case is ignored."""
        plain = re.sub(r"\\.", "", self.text) if self.regex else self.text
        return plain == plain.lower()

    @cached_property
    def problem(self) -> str | None:
        """Why nothing is found with the pattern, in a few words; None if it is a good one."""
        if not self.regex:
            return None
        try:
            re.compile(self.text)
        except (re.error, RecursionError, OverflowError) as error:
            return f"no pattern: {error}"
        return None

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What finds it in a line; nothing matches if there is a :attr:`problem`."""
        source = self.text if self.regex else re.escape(self.text)
        return re.compile("(?!)" if self.problem else source, re.IGNORECASE if self.folds else 0)

    @cached_property
    def _process(self) -> PatternProcess:
        return PatternProcess(self.pattern)

    def found_in(self, lines: list[str]) -> list[int]:
        """The indices of the lines in which the pattern occurs; none once it has taken too long.

        A pattern that may be slow on the longest of them runs in a process of its own, with a time limit;
        if it goes beyond that, :attr:`problem` says so from then on. For a thread.
        """
        if self.problem:
            return []
        if is_cheap(self.text, max(map(len, lines), default=0)):
            found = self.pattern.search
            return [index for index, line in enumerate(lines) if found(line)]
        try:
            return self._process.search(lines)
        except TooSlow:
            self.__dict__["problem"] = "takes too long: make the pattern simpler"
            return []

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where it occurs in ``text``, in characters, without overlaps.

        Of a pattern that might be slow on this text nothing is told: the caller is painting.
        """
        if self.regex and not is_cheap(self.text, len(text)):
            return []
        return [match.span() for match in self.pattern.finditer(text) if match.end() > match.start()]

    def matches(self, text: str) -> bool:
        """Whether it occurs in ``text``; False if finding out might be slow."""
        if self.regex:
            return is_cheap(self.text, len(text)) and self.pattern.search(text) is not None
        return self.text in (text.lower() if self.folds else text)


def matching_lines(query: Query, number: int, chunk: bytes) -> array[int]:
    """The numbers of the lines of ``chunk`` that match as they are shown; ``number`` is its first line's.

    Text in overwritten frames of a progress line or inside escape sequences does not match; text
    that a colour change interrupts does.
    """
    if query.regex:
        if query.problem:
            return array("Q")
        lines = visible_text(chunk.decode("utf-8", "replace")).split("\n")
        if chunk.endswith(b"\n"):
            lines.pop()
        return array("Q", [number + index for index in query.found_in(lines)])
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


def search(
    store: LogStore, query: Query, start: int, among: LineFilter | None = None
) -> Iterator[tuple[int, array[int]]]:
    """Search the whole lines from number ``start`` on; for a thread.

    Args:
        store: The log.
        query: What is searched for.
        start: The first line's number.
        among: Leave out the lines that this filter hides.

    Yields:
        After every chunk (about 256 KiB, so a caller can give up in between): the number of the line
        to go on from, and the matching lines.
    """
    level = level_before(store, start) if among is not None else Level.INFO
    for number, chunk in store.chunks(start):
        found = matching_lines(query, number, chunk)
        if among is not None:
            kept, level = among.keep(number, chunk, level)
            if len(kept) < chunk.count(b"\n"):
                visible = set(kept)
                found = array("Q", [line for line in found if line in visible])
        yield number + chunk.count(b"\n"), found


@dataclass(frozen=True)
class LineFilter:
    """Which lines of a log are shown.

    Attributes:
        level: The least serious level shown; a line that names none has that of the line before it, so that
            a traceback stays with its error. None shows all.
        query: What a line must contain; None for anything.
    """

    level: Level | None = None
    query: Query | None = None

    @property
    def active(self) -> bool:
        """Whether it hides anything at all."""
        return self.level is not None or self.query is not None

    def keep(self, number: int, chunk: bytes, level: Level) -> tuple[array[int], Level]:
        """The numbers of the lines of ``chunk`` that are shown.

        Args:
            number: Its first line's.
            chunk: Whole lines.
            level: The level that holds before it.

        Returns:
            The lines, and the level that holds after them.
        """
        kept = (
            matching_lines(self.query, number, chunk)
            if self.query is not None
            else array("Q", range(number, number + chunk.count(b"\n")))
        )
        if self.level is None:
            return kept, level
        shown, by_level = array("Q"), []
        lines = visible_text(chunk.decode("utf-8", "replace")).split("\n")
        for line in lines[: chunk.count(b"\n")]:
            level = level_of(line) or level
            by_level.append(level.rank >= self.level.rank)
        shown.extend(line for line in kept if by_level[line - number])
        return shown, level

    def shows(self, text: str, level: Level) -> bool:
        """Whether one line is shown, if ``level`` holds before it."""
        if self.level is not None and (level_of(text) or level).rank < self.level.rank:
            return False
        return self.query is None or self.query.matches(text)


def level_before(store: LogStore, line: int, look_back: int = 200) -> Level:
    """The level that holds before ``line``: that of the nearest of ``look_back`` lines that names one."""
    for number in range(line - 1, max(store.first, line - look_back) - 1, -1):
        try:
            level = level_of(store.line(number).text)
        except IndexError:
            break
        if level is not None:
            return level
    return Level.INFO


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
