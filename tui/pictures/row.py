"""What one line of the list, or one tile of the grid, says of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GLYPHS = {"error": "✗", "warning": "!", "info": "·"}


@dataclass(frozen=True, slots=True)
class PictureRow:
    """A picture as the list and the grid show it.

    Attributes:
        name: Its path in the dataset, which is also its id.
        path: Where the file is.
        stamp: Differs when the file's content may differ.
        size: Width and height in pixels, upright; None while it is not known.
        caption: Its caption, or None if there is none.
        severity: Of its worst problem: ``error``, ``warning``, ``info`` or nothing.
        excluded: Whether it is kept out of training.
        cropped: Whether it has a crop box of its own.
        draft: Whether its caption has changes that are not saved.
    """

    name: str
    path: Path
    stamp: object
    size: tuple[int, int] | None = None
    caption: str | None = None
    severity: str = ""
    excluded: bool = False
    cropped: bool = False
    draft: bool = False

    @property
    def marks(self) -> str:
        """Three characters: the worst problem, excluded or cropped, unsaved."""
        kept = "-" if self.excluded else "⌗" if self.cropped else " "
        return GLYPHS.get(self.severity, " ") + kept + ("*" if self.draft else " ")
