"""Where the tiles of a grid of pictures stand, and where the cursor goes from one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """A grid of equal tiles, filled row by row.

    Attributes:
        count: How many tiles there are.
        width: Cells that a row of tiles may take.
        tile_width: Cells of one tile, its gap to the right included.
        tile_height: Lines of one tile, its words included.
    """

    count: int
    width: int
    tile_width: int = 18
    tile_height: int = 8

    @property
    def columns(self) -> int:
        """Tiles side by side, one at least."""
        return max(1, self.width // self.tile_width)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return math.ceil(self.count / self.columns)

    @property
    def height(self) -> int:
        """Lines of all tiles."""
        return self.rows * self.tile_height

    def place(self, index: int) -> tuple[int, int]:
        """Column and line of a tile's upper left cell."""
        row, column = divmod(index, self.columns)
        return column * self.tile_width, row * self.tile_height

    def at(self, x: int, y: int) -> int | None:
        """The tile that covers a cell, if one does."""
        column, row = x // self.tile_width, y // self.tile_height
        index = row * self.columns + column
        return index if 0 <= column < self.columns and 0 <= index < self.count and y >= 0 else None

    def seen(self, top: int, lines: int, around: int = 0) -> range:
        """The tiles of which something lies in ``lines`` lines from ``top``.

        Args:
            top: First line.
            lines: How many.
            around: Further tiles' lines above and below that count as seen.
        """
        first = max(0, top - around) // self.tile_height * self.columns
        last = math.ceil((top + lines + around) / self.tile_height) * self.columns
        return range(min(first, self.count), max(0, min(last, self.count)))

    def step(self, index: int, columns: int, rows: int) -> int:
        """The tile that lies so many columns and rows away.

        Sideways goes on at the next row; up and down stays in its column, and in the last row takes
        the last tile if the column has none there.
        """
        if not self.count:
            return 0
        moved = index + columns
        if rows:
            row, column = divmod(moved, self.columns)
            row = max(0, min(row + rows, self.rows - 1))
            moved = row * self.columns + column
        return max(0, min(moved, self.count - 1))
