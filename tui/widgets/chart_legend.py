"""Which curves a chart shows, to tick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import SelectionList

from tui.text import one_line
from tui.widgets.radio import TickList

if TYPE_CHECKING:
    from textual.app import ComposeResult


@dataclass(frozen=True)
class Entry:
    """Something to tick.

    Attributes:
        key: Tells it from the others.
        label: What it is.
        shown: Whether it is ticked at first.
    """

    key: str
    label: str
    shown: bool


class LegendScreen(ModalScreen[None], inherit_bindings=False):
    """A list to tick; every tick counts at once.

    Args:
        entries: What there is.
        toggled: Called with an entry's key, and whether it is ticked now.
        title: Over the box.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,g,A", "close", "Close", id="legend.close", tooltip="Back to the chart."),
    ]
    DEFAULT_CSS = """
    LegendScreen { align: center middle; }
    LegendScreen > SelectionList {
        width: 44;
        max-width: 95%;
        height: auto;
        max-height: 80%;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    """

    def __init__(
        self, entries: Sequence[Entry], toggled: Callable[[str, bool], None], title: str = "Curves"
    ) -> None:
        super().__init__()
        self._entries = entries
        self._toggled = toggled
        self._title = title

    def compose(self) -> ComposeResult:
        """The list."""
        ticks = TickList(
            *((Content(one_line(entry.label)), entry.key, entry.shown) for entry in self._entries)
        )
        ticks.border_title = Content(self._title)
        ticks.border_subtitle = Content("space ticks · esc closes")
        yield ticks

    @on(SelectionList.SelectionToggled)
    def _tick(self, event: SelectionList.SelectionToggled[str]) -> None:
        event.stop()
        key = event.selection.value
        self._toggled(key, key in event.selection_list.selected)

    def action_close(self) -> None:
        """Back to the chart."""
        self.dismiss(None)
