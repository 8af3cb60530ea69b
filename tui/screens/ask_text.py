"""Asks for a line of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult


class TextScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is the line; None if nothing is to be changed.

    Args:
        title: Over the box.
        text: What to type.
        value: What stands there at first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="text.cancel", tooltip="Change nothing."),
    ]
    DEFAULT_CSS = """
    TextScreen { align: center middle; }
    TextScreen > Vertical {
        width: 80;
        max-width: 95%;
        height: auto;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    TextScreen #hint { color: $text-muted; }
    """

    def __init__(self, title: str, text: str, value: str = "") -> None:
        super().__init__()
        self._title, self._text, self._value = title, text, value

    def compose(self) -> ComposeResult:
        """What to type, and the line."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Static(Content(self._text))
            yield Input(self._value, max_length=4000, id="line")
            yield Static(Content("enter goes on · esc cancels"), id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line."""
        self.dismiss(event.value)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
