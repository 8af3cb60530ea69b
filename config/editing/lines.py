"""Changes of whole lines, whatever stands in them."""

from __future__ import annotations

import re

from config.editing.edits import Edited
from config.editing.tree import Edit, apply

_COMMENTED = re.compile(r"([ \t]*)#( ?)")


def comment_toggle(text: str, first: int, last: int) -> Edited:
    """Comment out the lines ``first`` to ``last`` (0-based, both included), or bring them back.

    They come back only if every one of them that is not blank is a comment.
    """
    starts = [0]
    for match in re.finditer("\n", text):
        starts.append(match.end())
    rows = [
        (start, text[start : text.find("\n", start) if "\n" in text[start:] else len(text)])
        for start in starts[first : last + 1]
    ]
    rows = [(start, row) for start, row in rows if row.strip("\ufeff \t\r")]
    if not rows:
        return Edited(text, ())
    edits = []
    if all(_COMMENTED.match(row) for _, row in rows):
        for start, row in rows:
            found = _COMMENTED.match(row)
            assert found is not None
            edits.append(Edit(start + found.end(1), start + found.end(), ""))
    else:
        indent = min(len(row) - len(row.lstrip(" \t\ufeff")) for _, row in rows)
        edits = [Edit(start + indent, start + indent, "# ") for start, _ in rows]
    return Edited(apply(text, edits), tuple(edits))
