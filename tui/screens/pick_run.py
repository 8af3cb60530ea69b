"""Picks one of the other runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.runs.status import look
from tui.text import fit, one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.services import RunRow


class PickRunScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is the id of a run; None if none was picked.

    Args:
        title: Over the box.
        runs: What there is to pick from.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+c", "cancel", "Cancel", id="pick-run.cancel", tooltip="Pick none."),
    ]
    DEFAULT_CSS = """
    PickRunScreen { align: center middle; }
    PickRunScreen > Vertical {
        width: 84;
        max-width: 96%;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    PickRunScreen OptionList { height: auto; max-height: 16; border: none; padding: 0; }
    PickRunScreen OptionList:focus { border: none; }
    PickRunScreen OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    PickRunScreen #hint { color: $text-muted; }
    """

    def __init__(self, title: str, runs: Sequence[RunRow]) -> None:
        super().__init__()
        self._title, self._runs = title, runs

    def compose(self) -> ComposeResult:
        """The runs, the newest first."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield OptionList(*(Option(_row(run), id=run.id) for run in self._runs), markup=False)
            words = "enter picks · esc cancels" if self._runs else "there is no other run · esc closes"
            yield Static(Content(words), id="hint")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Picked."""
        event.stop()
        self.dismiss(event.option_id)

    def action_cancel(self) -> None:
        """Pick none."""
        self.dismiss(None)


def _row(run: RunRow) -> Content:
    glyph, style = look(run.status)
    return Content.assemble(
        (fit(f"{glyph} {run.status}", 13), style), "  ", fit(run.name, 40), "  ", (run.id, "dim")
    )
