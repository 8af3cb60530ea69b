"""Find and replace in the text view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

if TYPE_CHECKING:
    from textual.app import ComposeResult


def find_all(text: str, wanted: str) -> list[int]:
    """Offsets of every match; capitals count only if some are typed."""
    if not wanted:
        return []
    if wanted == wanted.lower() and len(text.lower()) == len(text):
        text = text.lower()
    found, at = [], text.find(wanted)
    while at >= 0:
        found.append(at)
        at = text.find(wanted, at + len(wanted))
    return found


class FindBar(Horizontal):
    """Two lines to type in; hidden until :meth:`open`."""

    HELP: ClassVar[str] = "Capitals count only if you type some."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Close", id="find.close", tooltip="Back to the text."),
        Binding("down", "step(1)", "Next", show=False, id="find.next", tooltip="The next match."),
        Binding("up", "step(-1)", "Previous", show=False, id="find.previous", tooltip="The match before."),
        Binding(
            "tab,shift+tab", "other", "Other line", show=False, id="find.other", tooltip="The other line."
        ),
        Binding("ctrl+r", "all", "Replace all", id="find.all", tooltip="Replace every match."),
    ]
    DEFAULT_CSS = """
    FindBar {
        display: none;
        height: 1;
        & > Input, & > Input:focus { width: 1fr; height: 1; border: none; padding: 0; background: $boost; }
        & > Static { width: auto; padding: 0 1; color: $text-muted; }
        &.-open { display: block; }
        &.-plain > .replace { display: none; }
    }
    """

    @dataclass
    class Changed(Message):
        """Something else is searched for."""

        text: str

    @dataclass
    class Step(Message):
        """The next (1) or previous (-1) match is wanted."""

        direction: int

    @dataclass
    class Replace(Message):
        """A match, or all, are to be replaced."""

        text: str
        everywhere: bool

    class Closed(Message):
        """The bar was closed."""

    def compose(self) -> ComposeResult:
        """Find, count, replace."""
        yield Static("find", markup=False)
        yield Input(compact=True, select_on_focus=True, id="find")
        yield Static("", id="count", markup=False)
        yield Static("replace with", classes="replace", markup=False)
        yield Input(compact=True, select_on_focus=True, id="replace", classes="replace")

    @property
    def wanted(self) -> str:
        """What is searched for; empty while the bar is closed."""
        return self.query_one("#find", Input).value if self.has_class("-open") else ""

    def open(self, *, replace: bool, text: str = "") -> None:
        """Show the bar and type into it."""
        self.add_class("-open")
        self.set_class(not replace, "-plain")
        find = self.query_one("#find", Input)
        if text:
            find.value = text
        find.focus()
        self.post_message(self.Changed(find.value))

    def show_count(self, position: int, count: int) -> None:
        """Say which match this is."""
        text = f"{position}/{count}" if count else "no match" if self.wanted else ""
        self.query_one("#count", Static).update(Content(text))

    @on(Input.Changed, "#find")
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed(event.value))

    @on(Input.Changed, "#replace")
    def _typed_replacement(self, event: Input.Changed) -> None:
        event.stop()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "replace":
            self.post_message(self.Replace(event.value, False))
        else:
            self.post_message(self.Step(1))

    def action_step(self, direction: int) -> None:
        """Go to another match."""
        self.post_message(self.Step(direction))

    def action_other(self) -> None:
        """Type into the other line."""
        find, replace = self.query_one("#find", Input), self.query_one("#replace", Input)
        (replace if find.has_focus and not self.has_class("-plain") else find).focus()

    def action_all(self) -> None:
        """Replace every match."""
        if self.has_class("-plain"):
            self.remove_class("-plain")
            self.query_one("#replace", Input).focus()
        else:
            self.post_message(self.Replace(self.query_one("#replace", Input).value, True))

    def action_close(self) -> None:
        """Back to the text."""
        self.remove_class("-open")
        self.post_message(self.Closed())
