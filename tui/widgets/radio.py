"""Radio button, checkbox and list of ticks whose state can be told without colour."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip
from textual.widgets import Checkbox, RadioButton, SelectionList


class Radio(RadioButton):
    """Textual's, with a dot only where it is chosen."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's name
        """The dot, or nothing."""
        return "●" if self.value else " "


class Tick(Checkbox):
    """Textual's, with a cross only where it is chosen."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's name
        """The cross, or nothing."""
        return "X" if self.value else " "


class TickList(SelectionList[str]):
    """Textual's, with a cross only where something is ticked."""

    def render_line(self, y: int) -> Strip:
        """A line; its second segment is the cross."""
        segments = list(super().render_line(y))
        place = self.scroll_offset.y + y
        if place < self.option_count and self.get_option_at_index(place).value not in self.selected:
            segments[1] = Segment(" " * len(segments[1].text), segments[1].style)
        return Strip(segments)
