"""Finds any line of a log by number without remembering where each one starts."""

from __future__ import annotations

from array import array
from bisect import bisect_right

BLOCK = 8 * 1024
"""Bytes after which a new block starts, at the next line."""


class LineIndex:
    """Positions of about every 8 KiB's first line, over bytes that only grow.

    Memory is 16 bytes per block, 0.2 % of the log, whatever the length of its lines. How the bytes
    are cut into chunks makes no difference.

    Attributes:
        lines: Whole lines, those that a newline ends.
        size: Bytes seen.
        tail: Offset where the unfinished last line starts; equal to ``size`` if there is none.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.size = 0
        self.tail = 0
        self._offsets = array("Q", [0])
        self._numbers = array("Q", [0])

    def add(self, data: bytes) -> None:
        """Take note of the next ``data`` of the log."""
        base, position = self.size, 0
        while True:
            # A block closes at the first newline that makes it at least BLOCK bytes long.
            earliest = max(position, self._offsets[-1] + BLOCK - 1 - base)
            newline = data.find(b"\n", earliest)
            if newline < 0:
                break
            self.lines += data.count(b"\n", position, newline + 1)
            position = newline + 1
            self._offsets.append(base + position)
            self._numbers.append(self.lines)
        self.lines += data.count(b"\n", position)
        last = data.rfind(b"\n")
        if last >= 0:
            self.tail = base + last + 1
        self.size = base + len(data)

    def block_of(self, line: int) -> tuple[int, int, int]:
        """The block that holds ``line``.

        Returns:
            ``(start, end, first)``: its bytes, and the number of its first line.
        """
        block = bisect_right(self._numbers, line) - 1
        end = self._offsets[block + 1] if block + 1 < len(self._offsets) else self.size
        return self._offsets[block], end, self._numbers[block]
