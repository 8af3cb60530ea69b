"""One line that shows a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from tui.text import bar, size

if TYPE_CHECKING:
    from tui.runs.downloads import Download

_LABEL = "downloading "
_BAR = 24  # cells at most


class TransferBar(Widget):
    """How far a download is; takes no room while there is none.

    Args:
        hint: The key that ends it.
    """

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    TransferBar { height: 1; padding: 0 2; display: none; }
    """

    def __init__(self, hint: str = "b cancels") -> None:
        super().__init__(id="transfer")
        self._hint = hint
        self._shown: tuple[int, int] = (0, 0)

    def show_download(self, download: Download | None) -> None:
        """Show how far ``download`` is; None hides the line."""
        self.display = download is not None
        if download is not None and (download.done, download.total) != self._shown:
            self._shown = (download.done, download.total)
            self.refresh()

    def render(self) -> Content:
        """The words, a bar, and the key that ends it."""
        done, total = self._shown
        if not total:
            return Content(f"downloading: asking what there is… · {self._hint}")
        words = f" {size(done)} of {size(total)} · {100 * done // total} % · {self._hint}"
        room = self.content_size.width - len(_LABEL) - len(words)
        filled, rest = bar(done / total, min(_BAR, max(0, room)))
        return Content.assemble(_LABEL, (filled, "$text-primary"), (rest, "dim"), words)
