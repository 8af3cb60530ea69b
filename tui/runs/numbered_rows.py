"""Rows of numbers in the order of their events, in one block of memory. No numpy here."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

_EVENT = 0  # the column of the event's number


class NumberedRows:
    """A table that grows at its end, now and then in its middle.

    All of it is one array: many that grow side by side leave holes between them whenever one has to move.
    Whole numbers are exact up to 2^53.

    Args:
        columns: Names of the columns, beside that of the event's number.
    """

    def __init__(self, *columns: str) -> None:
        self._places = {name: place for place, name in enumerate(columns, _EVENT + 1)}
        self._width = len(columns) + 1
        self._cells = array("d")

    def __len__(self) -> int:
        return len(self._cells) // self._width

    @property
    def last(self) -> int:
        """The highest number of an event; 0 while there are no rows."""
        return int(self._cells[-self._width + _EVENT]) if self._cells else 0

    def row_after(self, number: int) -> int:
        """How many rows have numbers up to ``number``."""
        if number >= self.last:
            return len(self)
        return bisect_right(range(len(self)), number, key=lambda row: self._cells[row * self._width + _EVENT])

    def put(self, number: int, values: tuple[float, ...]) -> int | None:
        """Put a row where its number belongs.

        Args:
            number: Of the event.
            values: One for each column.

        Returns:
            Its place; None if there was one of that number.
        """
        row = self.row_after(number)
        if row and self._cells[(row - 1) * self._width + _EVENT] == number:
            return None
        cells = array("d", (number, *values))
        if row == len(self):
            self._cells.extend(cells)
        else:
            self._cells[row * self._width : row * self._width] = cells
        return row

    def value(self, name: str, row: int) -> float:
        """One value; negative rows count from the end."""
        row = row if row >= 0 else len(self) + row
        return self._cells[row * self._width + self._places[name]]

    def column(self, name: str, start: int = 0, stop: int | None = None) -> array[float]:
        """A copy of the values of a column, of the rows from ``start`` up to ``stop`` (the end if None)."""
        start, stop, _ = slice(start, stop).indices(len(self))
        first = start * self._width + self._places[name]
        return self._cells[first : stop * self._width : self._width]

    def rows(self) -> Iterator[tuple[float, ...]]:
        """All rows, without the events' numbers; what comes meanwhile may be missing."""
        for first in range(0, len(self._cells), self._width):
            yield tuple(self._cells[first + 1 : first + self._width])
