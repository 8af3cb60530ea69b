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


def may_be_empty(text: str) -> str:
    """No complaint about any line: an empty one removes what was there."""
    return ""


class TextScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is the line without blanks around it, or None.

    Args:
        title: Over the box.
        text: What the line is for.
        value: What is in the line at first.
        placeholder: What stands in an empty line.
        problem: Says what is wrong with a line, or nothing if it will do; must be quick.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(  # before the line, which would copy with ctrl+c
            "escape,ctrl+c", "cancel", "Cancel", priority=True, id="text.cancel", tooltip="Change nothing."
        ),
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
    TextScreen #problem { height: auto; min-height: 1; color: $text-error; }
    TextScreen #hint { color: $text-muted; }
    """

    def __init__(
        self,
        title: str,
        text: str,
        value: str = "",
        *,
        placeholder: str = "",
        problem: Callable[[str], str] = lambda text: "" if text.strip() else "Type something first.",
    ) -> None:
        super().__init__()
        self._title, self._text, self._value = title, text, value
        self._placeholder, self._find_problem = placeholder, problem

    def compose(self) -> ComposeResult:
        """The text, the line, room for a complaint."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Static(Content(self._text), id="text")
            yield Input(self._value, placeholder=self._placeholder, select_on_focus=True, id="line")
            yield Static(id="problem", markup=False)
            yield Static(Content("enter goes on · esc cancels"), id="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line if it will do."""
        if problem := self._find_problem(event.value):
            self.query_one("#problem", Static).update(Content(one_line(problem)))
        else:
            self.dismiss(event.value.strip())

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
