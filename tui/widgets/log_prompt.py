"""A line of a log pane that is typed into: what search, filter and jump share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from textual.app import ComposeResult


class LogPrompt(Horizontal):
    """A prompt, an input, and a few words after it. Hidden until :meth:`open`."""

    PROMPT: ClassVar[str] = ""
    PLACEHOLDER: ClassVar[str] = ""
    DEFAULT_CSS: ClassVar[str] = """
    LogPrompt {
        display: none;
        height: 1;
        & > .log-prompt--prompt { width: auto; color: $text-accent; }
        & > Input, & > Input:focus {
            width: 1fr; height: 1; border: none; padding: 0; background: $boost;
        }
        & > .log-prompt--words { width: auto; padding: 0 1; color: $text-muted; }
        &.-open { display: block; }
    }
    """

    class Left(Message):
        """The user left the input line; the pane takes the focus back."""

    def compose(self) -> ComposeResult:
        """Prompt, input, words."""
        yield Static(self.PROMPT, classes="log-prompt--prompt", markup=False)
        yield Input(placeholder=self.PLACEHOLDER, compact=True, select_on_focus=True)
        yield Static("", classes="log-prompt--words", markup=False)

    def on_mount(self) -> None:
        """Tab reaches the pane, and its key the input."""
        self._input.can_focus = False

    @property
    def _input(self) -> Input:
        return self.query_one(Input)

    @property
    def active(self) -> bool:
        """Whether the line is shown."""
        return self.has_class("-open")

    @property
    def typing(self) -> bool:
        """Whether the user types into it."""
        return self._input.has_focus

    def open(self) -> None:
        """Show the line and type into it."""
        self.add_class("-open")
        self._input.can_focus = True
        self._input.focus()

    def _leave(self) -> None:
        if self._input.has_focus:
            self.post_message(self.Left())
        self._input.can_focus = False

    def _set_prompt(self, text: str) -> None:
        self.query_one(".log-prompt--prompt", Static).update(Content(text))

    def say(self, words: str) -> None:
        """Put a few words after the input."""
        place = self.query_one(".log-prompt--words", Static)
        if str(place.content) != words:
            place.update(Content(words))
