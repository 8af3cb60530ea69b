"""How many pictures a captioning run has done: what stands where a training has its loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.widget import Widget

from tui.runs.status import look
from tui.text import bar, plural

if TYPE_CHECKING:
    from backend.runs.view import RunView


class CaptionedPane(Widget):
    """Pictures done, of how many."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    CaptionedPane { border: round $border; border-title-style: bold; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.border_title = "Captions"
        self._done, self._total, self._status = 0, 0, ""

    def show_progress(self, view: RunView, status: str) -> None:
        """Show how far a run is.

        Args:
            view: What its events add up to.
            status: How it stands.
        """
        now = (view.step, view.steps, status)
        if now != (self._done, self._total, self._status):
            self._done, self._total, self._status = now
            self.refresh()

    def render(self) -> Content:
        """A bar, and the count in words."""
        if not self._total:
            return Content.styled("no picture captioned yet", "dim")
        filled, rest = bar(self._done / self._total, max(1, self.content_size.width))
        words = f"{self._done} of {plural(self._total, 'picture')} done"
        return Content.assemble((filled, look(self._status).style), (rest, "dim"), "\n\n", words)
