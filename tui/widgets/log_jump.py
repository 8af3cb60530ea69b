"""The line of a :class:`~tui.widgets.log_pane.LogPane` in which one types where to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.message import Message
from textual.widgets import Input

from tui.logs.places import parse_place
from tui.widgets.log_prompt import LogPrompt


class LogJump(LogPrompt):
    """Takes a step, a time of day or a line number."""

    PROMPT = "go to "
    PLACEHOLDER = "step 120, 14:30:05 or #line"
    DEFAULT_CSS: ClassVar[str] = "LogJump > .log-prompt--words { color: $text-error; }"

    @dataclass
    class GoTo(Message):
        """The user wants to go somewhere.

        Attributes:
            kind: ``step``, ``time`` or ``line``.
            value: The step, seconds since midnight, or the line's number from 1.
        """

        kind: str
        value: int

    def close(self) -> None:
        """Hide it."""
        self.say("")
        self.remove_class("-open")
        self._leave()

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
