"""One of several things, chosen from a list that narrows while one types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult


@dataclass(frozen=True)
class Choice:
    """A line of the list.

    Attributes:
        text: What it is called; what is typed is looked for here.
        detail: Said behind it.
    """

    text: str
    detail: str = ""


def fitting(choices: Sequence[Choice], typed: str) -> list[int]:
    """Indices of the choices that hold every typed word; those that begin with it first."""
    words = typed.lower().split()
    found = []
    for index, choice in enumerate(choices):
        text = f"{choice.text} {choice.detail}".lower()
        if all(word in text for word in words):
            name = choice.text.lower()
            starts = name.startswith(words[0]) or f".{words[0]}" in name if words else True
            found.append((not starts, index))
    return [index for _, index in sorted(found)]


class ChooseScreen(ModalScreen[int | None], inherit_bindings=False):
    """The result is the index of the choice, or None.

    Args:
        title: Over the box.
        choices: In the order to show.
        hint: Below the list.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="choose.cancel", tooltip="Choose nothing."),
        Binding("down", "move(1)", "Down", show=False, id="choose.down", tooltip="The next line."),
        Binding("up", "move(-1)", "Up", show=False, id="choose.up", tooltip="The line before."),
        Binding("pagedown", "move(10)", "Page down", show=False, id="choose.page-down", tooltip="Ten down."),
        Binding("pageup", "move(-10)", "Page up", show=False, id="choose.page-up", tooltip="Ten up."),
    ]
    DEFAULT_CSS = """
    ChooseScreen { align: center middle; }
    ChooseScreen > Vertical {
        width: 90;
        max-width: 96%;
        height: auto;
        max-height: 94%;
        padding: 0 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    ChooseScreen Input { border: none; height: 1; padding: 0; background: $boost; margin-top: 1; }
    ChooseScreen OptionList {
        height: auto;
        max-height: 60vh;
        border: none;
        padding: 0;
        margin-top: 1;
        background: transparent;
        scrollbar-size-vertical: 1;
    }
    ChooseScreen OptionList > .option-list--option-highlighted {
        background: $primary-muted; text-style: bold;
    }
    ChooseScreen OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    ChooseScreen #hint { color: $text-muted; margin: 1 0; }
    """

    def __init__(
        self, title: str, choices: Sequence[Choice], hint: str = "↑ ↓ enter choose · esc leaves"
    ) -> None:
        super().__init__()
        self._title, self._choices, self._hint = title, list(choices), hint
        self._shown: list[int] = []

    def compose(self) -> ComposeResult:
        """A line to type in, the list, the hint."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Input(placeholder="type to narrow", compact=True, id="typed")
            options = OptionList(markup=False)
            options.can_focus = False
            yield options
            yield Static(Content(self._hint), id="hint")

    def on_mount(self) -> None:
        """All choices at first."""
        self._narrow("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits."""
        self._narrow(event.value)

    def _narrow(self, typed: str) -> None:
        self._shown = fitting(self._choices, typed)
        options = self.query_one(OptionList)
        options.set_options(
            Option(
                Content.assemble(
                    one_line(self._choices[index].text),
                    ("   " + one_line(self._choices[index].detail), "dim"),
                )
            )
            for index in self._shown
        )
        options.highlighted = 0 if self._shown else None

    def action_move(self, by: int) -> None:
        """Move the cursor of the list."""
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = max(0, min(len(self._shown) - 1, (options.highlighted or 0) + by))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line under the cursor."""
        at = self.query_one(OptionList).highlighted
        if at is not None:
            self.dismiss(self._shown[at])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click."""
        self.dismiss(self._shown[event.option_index])

    def action_cancel(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
