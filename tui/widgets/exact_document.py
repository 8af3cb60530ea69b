"""Documents for Textual's text area that change nothing of what they were given."""

from __future__ import annotations

from rich.cells import cell_len
from textual.document._document import Document, EditResult, Location
from textual.document._wrapped_document import WrappedDocument
from textual.geometry import Size


class ExactDocument(Document):
    r"""A document that gives back exactly what it was given.

    Textual's own splits at every separator that Unicode knows, and forgets which one it was. Here lines end
    with ``\r\n`` if all do, else with ``\n``; any other character stays where it is.
    """

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._newline = "\r\n" if "\r\n" in text and text.count("\r\n") == text.count("\n") else "\n"
        self._lines = text.split(self._newline)
        self._widths: list[int] = []  # of the lines, with tabs of _tab_width cells; kept, as each key asks
        self._tab_width = 0

    def _width(self, line: str) -> int:
        plain = line.isascii() and "\t" not in line
        return len(line) if plain else cell_len(line.expandtabs(self._tab_width))

    def get_size(self, tab_width: int) -> Size:
        """Widest line and number of lines."""
        if tab_width != self._tab_width:
            self._tab_width = tab_width
            self._widths = [self._width(line) for line in self._lines]
        return Size(max(self._widths), len(self._lines))

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Replace a range; ``text`` has either kind of line ends."""
        top, bottom = sorted((start, end))
        if self._newline == "\r\n":
            text = text.replace("\r\n", "\n")
        replaced = self.get_text_range(top, bottom)
        lines = self._lines
        before = lines[top[0]][: top[1]] if top[0] < len(lines) else ""
        after = lines[bottom[0]][bottom[1] :] if bottom[0] < len(lines) else ""
        new = text.split("\n")
        new[0] = before + new[0]
        column = len(new[-1])
        new[-1] += after
        lines[top[0] : bottom[0] + 1] = new
        if self._widths:
            self._widths[top[0] : bottom[0] + 1] = [self._width(line) for line in new]
        return EditResult((top[0] + len(new) - 1, column), replaced)


class PlainRows(WrappedDocument):
    """Rows of a document that is never wrapped.

    Textual's own adds up the rows of all lines each time it is asked for the height, which is once for every
    line that it paints: most of a key's time in a long file.
    """

    @property
    def height(self) -> int:
        """One row a line."""
        return len(self._wrap_offsets)
