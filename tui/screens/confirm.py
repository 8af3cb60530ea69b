"""A question with two answers, in front of whatever is on the screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult


@dataclass(frozen=True)
class Question:
    """What to ask.

    Attributes:
        title: The question.
        text: What happens with a yes.
        yes: The word on the button that does it.
        no: The word on the other one.
        danger: Whether a yes loses something: then the other button has the focus.
    """

    title: str
    text: str
    yes: str
    no: str = "Cancel"
    danger: bool = False


class ConfirmScreen(ModalScreen[bool], inherit_bindings=False):
    """Asks a :class:`Question`; the result is True for yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm.yes", tooltip="Do it."),
        Binding(
            "n,escape,ctrl+c", "answer(False)", "No", id="confirm.no", tooltip="Leave things as they are."
        ),
        Binding(
            "tab,right,down",
            "app.focus_next",
            "Next",
            show=False,
            id="confirm.next",
            tooltip="The other answer.",
        ),
        Binding(
            "shift+tab,left,up",
            "app.focus_previous",
            "Previous",
            show=False,
            id="confirm.previous",
            tooltip="The other answer.",
        ),
    ]
    DEFAULT_CSS = """
    ConfirmScreen { align: center middle; }
    ConfirmScreen > Vertical {
        width: 60;
        max-width: 95%;
        height: auto;
        max-height: 95%;
        padding: 1 2;
        border: round $border;
        background: $surface;
    }
    ConfirmScreen #title { text-style: bold; margin-bottom: 1; }
    ConfirmScreen #text { margin-bottom: 1; }
    ConfirmScreen Horizontal { height: auto; align-horizontal: right; }
    ConfirmScreen Button { margin-left: 2; min-width: 12; }
    """

    def __init__(self, question: Question) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question over its two buttons."""
        question = self._question
        with Vertical():
            yield Static(Content(one_line(question.title)), id="title")
            yield Static(Content(question.text), id="text")
            with Horizontal():
                yield Button(
                    Content(f"{question.yes} (y)"),
                    id="yes",
                    variant="error" if question.danger else "primary",
                    compact=True,
                    action="screen.answer(True)",
                )
                yield Button(
                    Content(f"{question.no} (n)"),
                    id="no",
                    compact=True,
                    action="screen.answer(False)",
                )

    def on_mount(self) -> None:
        """Focus the answer that loses nothing."""
        self.query_one("#no" if self._question.danger else "#yes").focus()

    def action_answer(self, yes: bool) -> None:
        """Close with the answer."""
        self.dismiss(yes)
