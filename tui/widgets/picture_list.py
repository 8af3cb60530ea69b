"""The pictures of a dataset as a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.strip import Strip

from tui.text import fit
from tui.widgets.picture_view import PictureView

if TYPE_CHECKING:
    from tui.pictures.row import PictureRow


class PictureList(PictureView):
    """A line a picture: marks, name, size, caption."""

    def content_height(self) -> int:
        """A line each."""
        return len(self.shelf)

    def index_at(self, x: int, y: int) -> int | None:
        """The picture of a line."""
        return y if 0 <= y < len(self.shelf) else None

    def lines_of(self, index: int) -> tuple[int, int]:
        """A line each."""
        return index, 1

    def stepped(self, columns: int, rows: int) -> int:
        """Sideways is up and down too: there is one column."""
        return max(0, min(self.shelf.cursor + columns + rows, len(self.shelf) - 1))

    def painted(self, y: int) -> Strip:
        """The line of a picture."""
        width = self.size.width - 1  # the scroll bar's
        if not 0 <= y < len(self.shelf):
            return Strip.blank(width, self._base)
        name = self.shelf.names[y]
        row, chosen, at_cursor = self.row_of(name), self.shelf.is_chosen(name), y == self.shelf.cursor
        look = (name, row, chosen, at_cursor, width)
        return self.kept(look, lambda: [self._line(name, row, width, chosen=chosen, at_cursor=at_cursor)])[0]

    def _line(self, name: str, row: PictureRow | None, width: int, *, chosen: bool, at_cursor: bool) -> Strip:
        base = self._base
        if at_cursor:
            base = base + self.look("cursor")
        muted = base + self.look("muted")
        tick = Segment("✓" if chosen else " ", base + self.look("chosen"))
        if row is None:
            return Strip([tick, Segment(fit(f"    {name}", width - 1), base)])
        marks = row.marks
        severity = base + self.look(row.severity) if row.severity else base
        size = f"{row.size[0]}x{row.size[1]}" if row.size else ""
        room = width - 5
        name_width = max(8, min(28, room * 2 // 5))
        size_width = max(10, len(size) + 1) if room > 30 else 0
        words = "(no caption)" if row.caption is None else row.caption
        segments = [
            tick,
            Segment(marks[0], severity),
            Segment(marks[1:] + " ", muted),
            Segment(fit(row.name, name_width), muted if row.excluded else base),
        ]
        if size_width:
            segments.append(Segment(size.rjust(size_width), muted))
        rest = room - name_width - size_width - 1
        segments.append(
            Segment(" " + fit(words[:500], rest) if rest > 0 else "", muted if row.caption is None else base)
        )
        return Strip(segments)
