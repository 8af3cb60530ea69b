"""Asks for a whole number."""

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


class NumberScreen(ModalScreen[int | None], inherit_bindings=False):
    """The result is the number, or None.

    Args:
        title: Over the box.
        text: What the number is for.
        value: What is in the line at first.
        least: The smallest number that will do.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="number.cancel", tooltip="Change nothing."),
    ]
    DEFAULT_CSS = """
    NumberScreen { align: center middle; }
    NumberScreen > Vertical {
        width: 60;
        max-width: 95%;
        height: auto;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    NumberScreen #problem { height: 1; color: $text-error; }
    NumberScreen #hint { color: $text-muted; }
    """

    def __init__(self, title: str, text: str, value: int, least: int) -> None:
        super().__init__()
        self._title, self._text, self._value, self._least = title, text, value, least

    def compose(self) -> ComposeResult:
        """The text, the line, room for a complaint."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Static(Content(self._text), id="text")
            yield Input(str(self._value), type="integer", max_length=9, select_on_focus=True, id="number")
            yield Static(id="problem", markup=False)
            yield Static(Content("enter goes on · esc cancels"), id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the number if it will do."""
        text = event.value.strip()
        if text.isdecimal() and int(text) >= self._least:
            self.dismiss(int(text))
        else:
            problem = f"It must be a whole number of at least {self._least}."
            self.query_one("#problem", Static).update(Content(problem))

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
