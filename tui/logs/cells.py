"""Where a line breaks when it is wrapped, and what of it a window of cells shows."""

from __future__ import annotations

from rich.cells import cell_len, get_character_cell_size

_WORD = 24  # a row ends at a space if one is this near its right edge


def row_starts(text: str, width: int) -> tuple[int, ...]:
    """Where the rows of ``text`` begin when it is wrapped at ``width`` cells, in characters.

    Rows end after a space where one is near, so that words stay whole; wide characters are never
    halved, combining ones stay with their base. There is always at least one row.
    """
    width = max(1, width)
    if len(text) <= width and text.isascii():
        return (0,)
    starts = [0]
    start = 0
    ascii_only = text.isascii()
    while True:
        end = min(len(text), start + width) if ascii_only else _end_of_row(text, start, width)
        if end >= len(text):
            return tuple(starts)
        if text[end] != " ":
            space = text.rfind(" ", max(start + 1, end - _WORD), end)
            if space >= 0 and (ascii_only or get_character_cell_size(text[space + 1])):
                end = space + 1
        starts.append(end)
        start = end


def _end_of_row(text: str, start: int, width: int) -> int:
    """The character before which ``width`` cells from ``start`` on are full; always moves on."""
    used = 0
    for index in range(start, len(text)):
        cells = get_character_cell_size(text[index])
        if used + cells > width and index > start:
            return index
        used += cells
    return len(text)


def window(text: str, column: int, width: int) -> tuple[int, int, int]:
    """The characters of ``text`` that lie wholly between cells ``column`` and ``column + width``.

    Returns:
        ``(start, end, lead)``: the characters, and the blank cells before them where a wide character
        is cut in half by the left edge.
    """
    if text.isascii():
        start = min(column, len(text))
        return start, min(len(text), column + width), 0
    start, used = 0, 0
    while start < len(text) and used < column:
        used += get_character_cell_size(text[start])
        start += 1
    while start < len(text) and column and get_character_cell_size(text[start]) == 0:
        start += 1  # its base lies outside
    lead = max(0, used - column)
    end, used = start, lead
    while end < len(text):
        cells = get_character_cell_size(text[end])
        if used + cells > width:
            break
        used += cells
        end += 1
    return start, end, min(lead, width)


def text_width(text: str) -> int:
    """Cells that ``text`` takes."""
    return len(text) if text.isascii() else cell_len(text)
