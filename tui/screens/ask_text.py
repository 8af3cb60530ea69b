"""Asks for a line of text."""

from __future__ import annotations

from collections.abc import Callable
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
    """The result is the text, or None.

    Args:
        title: Over the box.
        text: What it is for.
        value: What is in the line at first.
        check: Says what is wrong with a text; empty if nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="ask-text.cancel", tooltip="Change nothing."),
    ]
    DEFAULT_CSS = """
    TextScreen { align: center middle; }
    TextScreen > Vertical {
        width: 76;
        max-width: 96%;
        height: auto;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    TextScreen #problem { height: auto; min-height: 1; color: $text-error; }
    TextScreen #hint { color: $text-muted; }
    """

    def __init__(
        self, title: str, text: str, value: str = "", check: Callable[[str], str] = lambda typed: ""
    ) -> None:
        super().__init__()
        self._title, self._text, self._value, self._check = title, text, value, check

    def compose(self) -> ComposeResult:
        """The text, the line, room for a complaint."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Static(Content(self._text), id="text")
            yield Input(self._value, select_on_focus=True, id="line")
            yield Static(id="problem", markup=False)
            yield Static(Content("enter goes on · esc cancels"), id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the text if it will do."""
        text = event.value.strip()
        problem = "Type something first." if not text else self._check(text)
        if problem:
            self.query_one("#problem", Static).update(Content(one_line(problem)))
        else:
            self.dismiss(text)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
