"""The line in which runs are searched for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.events import Blur


class RunSearch(Input):
    """Filters the table while one types; gone while it is empty and not used."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(False)", "Clear", id="jobs.clear-search", tooltip="Show all runs again."),
        Binding("down,enter", "leave(True)", "To the runs", id="jobs.keep-search",
                tooltip="Keep what was typed, and go to the table."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    RunSearch { display: none; height: 1; border: none; padding: 0 1; }
    RunSearch:focus { border: none; }
    """

    @dataclass(eq=False)
    class Ended(Message):
        """The user wants to go back to the table."""

        search: RunSearch

    def __init__(self) -> None:
        super().__init__(
            placeholder="words, #tag, status:failed, where:modal, -word", id="run-search", compact=True
        )

    def open(self) -> None:
        """Show the line, and type in it."""
        self.display = True
        self.focus()

    def action_leave(self, keep: bool) -> None:
        """Back to the table, with what was typed or without."""
        if not keep:
            self.value = ""
        self.display = bool(self.value)
        self.post_message(self.Ended(self))

    def on_blur(self, event: Blur) -> None:
        """An empty line is no use."""
        self.display = bool(self.value)
