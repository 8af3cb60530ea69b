"""Which rows of a log are on the screen, and what moving through it does."""

from __future__ import annotations

from collections import OrderedDict

from tui.logs.cells import row_starts, text_width
from tui.logs.filtered import FilteredLog
from tui.logs.levels import time_width
from tui.logs.lines import LogLine, without
from tui.logs.store import LogStore

Lines = LogStore | FilteredLog

_CACHED_LINES = 2000


class LogViewport:
    """A window of ``width`` x ``height`` cells over the rows of a log.

    A row is a line, or with :attr:`wrap` a piece of one. The window is held by its top row, not by a
    count of rows from the start, so that a million lines need not be measured to show fifty.

    Attributes:
        store: The log, or what a filter shows of it.
        times: Whether the time at a line's beginning is shown.
        width: Cells of a row.
        height: Rows of the window.
        wrap: Whether long lines continue on the next row.
        pan: Cells hidden on the left of every row; 0 while wrapping.
        follow: Whether the window stays at the end while lines come in.
        rows: What is visible, from the top: ``(line, row of that line)``. Set by :meth:`layout`.
    """

    def __init__(self, store: Lines) -> None:
        self.store = store
        self.times = True
        self.width = 80
        self.height = 24
        self.wrap = False
        self.pan = 0
        self.rows: list[tuple[int, int]] = []
        self._follow = True
        self._top = (0, 0)
        self._seen = 0
        self._lines: OrderedDict[int, LogLine] = OrderedDict()
        self._starts: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._generation: object = store.generation

    # -- lines and their rows -----------------------------------------------------------------------

    def line(self, number: int) -> LogLine:
        """The line as it is shown, from a cache where possible."""
        if self._generation != self.store.generation:
            self._generation = self.store.generation
            self._lines.clear()
            self._starts.clear()
        found = self._lines.get(number)
        if found is None:
            found = self.store.line(number)
            if not self.times:
                found = without(found, time_width(found.text))
            if number < self.store.complete:  # the unfinished line still changes
                self._lines[number] = found
                if len(self._lines) > _CACHED_LINES:
                    self._lines.popitem(last=False)
        return found

    def starts(self, number: int) -> tuple[int, ...]:
        """Where the rows of a line begin, in characters; one row unless wrapping."""
        if not self.wrap:
            return (0,)
        line = self.line(number)
        found = self._starts.get(number)
        if found is None:
            found = row_starts(line.text, self.width)
            if number < self.store.complete:
                self._starts[number] = found
                if len(self._starts) > _CACHED_LINES:
                    self._starts.popitem(last=False)
        return found

    def resize(self, width: int, height: int) -> None:
        """Change the window's size; the top line stays where it is."""
        if width != self.width:
            self._top = (self._top[0], 0)
            self._starts.clear()
        self.width, self.height = max(1, width), max(1, height)

    def set_wrap(self, wrap: bool) -> None:
        """Switch wrapping; the top line stays where it is."""
        self.wrap = wrap
        self.pan = 0
        self._top = (self._top[0], 0)
        self._starts.clear()

    def set_times(self, times: bool) -> None:
        """Show or hide the times; the top line stays where it is."""
        self.times = times
        self._top = (self._top[0], 0)
        self._lines.clear()
        self._starts.clear()

    def like(self, other: LogViewport) -> None:
        """Show what is shown in the way in which ``other`` does."""
        self.resize(other.width, other.height)
        self.set_wrap(other.wrap)
        self.set_times(other.times)

    # -- following ----------------------------------------------------------------------------------

    @property
    def follow(self) -> bool:
        """Whether the window stays at the end while lines come in."""
        return self._follow

    @follow.setter
    def follow(self, follow: bool) -> None:
        if self._follow and not follow:
            self._seen = self.store.stop
        self._follow = follow

    @property
    def new_lines(self) -> int:
        """Lines that came in since following was let go."""
        return 0 if self._follow else max(0, self.store.stop - self._seen)

    # -- layout -------------------------------------------------------------------------------------

    def layout(self) -> list[tuple[int, int]]:
        """Work out :attr:`rows` for the log as it is now."""
        if self._seen > self.store.stop:  # cleared or replaced
            self._seen = 0
        if self._follow:
            self.rows = self._last_page()
        else:
            if self._top[0] < self.store.first:
                self._top = (self.store.first, 0)
            self.rows = self._page_from(*self._top)
            if len(self.rows) < self.height:
                self.rows = self._last_page()
        self._top = self.rows[0] if self.rows else (self.store.first, 0)
        return self.rows

    def _page_from(self, line: int, row: int) -> list[tuple[int, int]]:
        rows: list[tuple[int, int]] = []
        while line < self.store.stop and len(rows) < self.height:
            rows.extend((line, r) for r in range(row, len(self.starts(line))))
            line, row = line + 1, 0
        return rows[: self.height]

    def _last_page(self) -> list[tuple[int, int]]:
        rows: list[tuple[int, int]] = []
        line = self.store.stop - 1
        while line >= self.store.first and len(rows) < self.height:
            rows.extend((line, r) for r in reversed(range(len(self.starts(line)))))
            line -= 1
        return rows[self.height - 1 :: -1] if len(rows) > self.height else rows[::-1]

    @property
    def at_end(self) -> bool:
        """Whether the last row of the log is visible."""
        last = self.store.stop - 1
        return last < self.store.first or (
            bool(self.rows) and self.rows[-1] == (last, len(self.starts(last)) - 1)
        )

    def scroll_extent(self) -> tuple[int, int]:
        """For a scroll bar that counts lines: ``(position, total)``; at the end they differ by height."""
        page = self._last_page()
        lines_on_page = page[-1][0] - page[0][0] + 1 if page else 0
        return self._top[0] - self.store.first, len(self.store) - lines_on_page + self.height

    # -- moving -------------------------------------------------------------------------------------

    def move(self, rows: int) -> None:
        """Move by rows, down if positive.

        Any move up lets go of following; a move down from the very end takes it up again.
        """
        if rows > 0 and (self._follow or self.at_end):
            self.follow = True
            return
        self.layout()
        self.follow = False
        line, row = self._top
        row += rows
        while row < 0 and line > self.store.first:
            line -= 1
            row += len(self.starts(line))
        while line < self.store.stop and row >= len(self.starts(line)):
            row -= len(self.starts(line))
            line += 1
        self._top = (line, max(0, row))
        self.layout()

    def go_to_top(self) -> None:
        """Show the first lines."""
        self.go_to(self.store.first)

    def go_to(self, line: int) -> None:
        """Put ``line`` at the top, or as near to it as the end of the log allows."""
        self.follow = False
        self._top = (min(max(line, self.store.first), max(self.store.first, self.store.stop - 1)), 0)
        self.layout()

    def reveal(self, line: int, character: int = 0) -> None:
        """Stop following and make a place in the log visible, a third down if it was not."""
        self.layout()
        self.follow = False
        starts = self.starts(line)
        row = max(index for index, start in enumerate(starts) if start <= character)
        if (line, row) not in self.rows:
            self._top = (line, row)
            self.move(-(self.height // 3))
        if not self.wrap:
            column = text_width(self.line(line).text[:character])
            if not self.pan <= column < self.pan + self.width - 1:
                self.pan = max(0, column - self.width // 3)

    def pan_by(self, cells: int) -> None:
        """Shift the window sideways, as far as the longest visible line; nothing while wrapping."""
        if self.wrap:
            return
        longest = max((text_width(self.line(line).text) for line, _ in self.rows), default=0)
        self.pan = max(0, min(self.pan + cells, max(self.pan if cells < 0 else 0, longest - self.width + 1)))
