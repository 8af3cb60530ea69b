"""The list of checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets.option_list import Option

from tui.runs.status import StatusLook
from tui.text import fit
from tui.widgets.line_visual import LineVisual
from tui.widgets.rows import Rows, cursor_keys

if TYPE_CHECKING:
    from textual.widgets import OptionList

    from tui.setup import SetupCheck

LOOKS = {
    "pending": StatusLook("◌", "dim"),
    "working": StatusLook("●", "$text-primary"),
    "ok": StatusLook("✓", "$text-success"),
    "warning": StatusLook("!", "$text-warning"),
    "missing": StatusLook("○", "$text-warning"),
    "failed": StatusLook("✗", "$text-error"),
    "unknown": StatusLook("?", "dim"),
}
_WORDS = {"pending": "checking", "working": "at work"}
_GAP = "  "
_STATE, _TITLE, _KEY = 10, 25, 5


def state_words(state: str) -> Content:
    """A sign and a word, so that no colour is needed."""
    glyph, style = LOOKS[state]
    return Content.styled(f"{glyph} {_WORDS.get(state, state)}", style)


@dataclass(frozen=True)
class CheckLine(LineVisual):
    """One row.

    Attributes:
        check: The check.
        detail: What is said of it.
        fixable: Whether Enter does something about it.
    """

    check: SetupCheck
    detail: str
    fixable: bool

    def content(self, width: int) -> Content:
        """The row as text."""
        check = self.check
        room = max(1, width - _STATE - _TITLE - _KEY - 3 * len(_GAP))
        important = check.needed and not check.good
        return Content(_GAP).join(
            (
                state_words(check.state).pad_right(_STATE - len(state_words(check.state))),
                Content.styled(fit(check.title, _TITLE), "bold" if important else ""),
                Content.styled(fit(self.detail, room), "dim" if check.state == "pending" else ""),
                Content.styled(fit("enter" if self.fixable else "", _KEY), "bold $text-accent"),
            )
        )


class SetupList(Rows, inherit_bindings=False):
    """Checks, one a row. Enter or a click on the row under the cursor posts :class:`SetupList.Chosen`."""

    HELP: ClassVar[str] = (
        "What a launch needs, as it is right now. Rows that say enter can be mended from here. All is looked "
        "at by a process of its own: nothing of it can hold the screen up."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Fix", id="setup.fix", tooltip="Do something about this row."),
        *cursor_keys("setup", "row"),
    ]
    DEFAULT_CSS = "SetupList { height: auto; scrollbar-gutter: auto; }"

    class Chosen(Message):
        """A row was picked."""

        def __init__(self, check_id: str) -> None:
            super().__init__()
            self.check_id = check_id

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self._shown: dict[str, CheckLine] = {}

    @property
    def chosen_id(self) -> str | None:
        """The check under the cursor."""
        option = self.highlighted_option
        return option.id if option is not None else None

    def show_lines(self, lines: Sequence[CheckLine]) -> None:
        """Show the rows; the cursor stays on its check."""
        new = {line.check.id: line for line in lines}
        if list(new) != list(self._shown):
            chosen = self.chosen_id
            self.set_options([Option(line, id=name) for name, line in new.items()])
            if new:
                self.highlighted = list(new).index(chosen) if chosen in new else 0
        else:
            for name, line in new.items():
                if line != self._shown[name]:
                    self.replace_option_prompt(name, line)
        self._shown = new

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which check was chosen."""
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Chosen(event.option_id))
