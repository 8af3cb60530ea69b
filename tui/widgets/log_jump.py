"""The line of a :class:`~tui.widgets.log_pane.LogPane` in which one types where to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from tui.logs.places import parse_place

if TYPE_CHECKING:
    from textual.app import ComposeResult


class LogJump(Horizontal):
    """Takes a step, a time of day or a line number. Hidden until :meth:`open`."""

    DEFAULT_CSS: ClassVar[str] = """
    LogJump {
        display: none;
        height: 1;
        & > .log-jump--prompt { width: auto; color: $text-accent; }
        & > Input, & > Input:focus {
            width: 1fr; height: 1; border: none; padding: 0; background: $boost;
        }
        & > .log-jump--problem { width: auto; padding: 0 1; color: $text-error; }
        &.-open { display: block; }
    }
    """

    @dataclass
    class GoTo(Message):
        """The user wants to go somewhere.

        Attributes:
            kind: ``step``, ``time`` or ``line``.
            value: The step, seconds since midnight, or the line's number from 1.
        """

        kind: str
        value: int

    class Left(Message):
        """The user left the input line; the pane takes the focus back."""

    def compose(self) -> ComposeResult:
        """Prompt, input, complaint."""
        yield Static("go to ", classes="log-jump--prompt", markup=False)
        yield Input(placeholder="step 120, 14:30:05 or #line", compact=True, select_on_focus=True)
        yield Static("", classes="log-jump--problem", markup=False)

    def on_mount(self) -> None:
        """Tab reaches the pane, and its key the input."""
        self.query_one(Input).can_focus = False

    @property
    def active(self) -> bool:
        """Whether the line is shown."""
        return self.has_class("-open")

    def open(self) -> None:
        """Show it and type into it."""
        self.add_class("-open")
        self.query_one(Input).can_focus = True
        self.query_one(Input).focus()

    def close(self) -> None:
        """Hide it."""
        self.say("")
        self.remove_class("-open")
        if self.query_one(Input).has_focus:
            self.post_message(self.Left())
        self.query_one(Input).can_focus = False

    def say(self, problem: str) -> None:
        """Complain about what was typed."""
        self.query_one(".log-jump--problem", Static).update(Content(problem))

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.say("")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        place = parse_place(event.value)
        if place is not None:
            self.close()
            self.post_message(self.GoTo(*place))
        elif event.value.strip():
            self.say("no step, time or line")
        else:
            self.close()
