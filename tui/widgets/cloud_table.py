"""The table of the workspace's runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets.option_list import Option

from tui.runs.status import is_live, look
from tui.text import age, fit
from tui.widgets.line_visual import LineVisual
from tui.widgets.rows import Rows, cursor_keys

if TYPE_CHECKING:
    from textual.widgets import OptionList

    from tui.cloud import CloudRun

_GAP = "  "
_STATUS, _NAME, _ID, _STEP, _WORK, _PLACE, _SAVED = 13, 12, 8, 13, 9, 10, 6
_TITLES = (
    ("Status", _STATUS),
    ("Run", 0),
    ("Id", _ID),
    ("Step", _STEP),
    ("App", _WORK),
    ("Started", _PLACE),
    ("Saved", _SAVED),
)


def _name_width(width: int) -> tuple[int, bool]:
    """Cells for the name, and whether the id has room beside it."""
    fixed = _STATUS + _STEP + _WORK + _PLACE + _SAVED + 5 * len(_GAP)
    with_id = width - fixed - _ID - len(_GAP)
    return (with_id, True) if with_id >= _NAME else (max(1, width - fixed), False)


def _row(cells: Sequence[Content], width: int) -> Content:
    _, has_id = _name_width(width)
    shown = [cell for index, cell in enumerate(cells) if has_id or index != 2]
    return Content(_GAP).join(shown)


@dataclass(frozen=True)
class CloudLine(LineVisual):
    """One row.

    Attributes:
        run: The run.
        now: Seconds since 1970.
    """

    run: CloudRun
    now: float

    def content(self, width: int) -> Content:
        """The row as text."""
        run = self.run
        status, style = run.status, look(run.status).style
        glyph = look(status).glyph
        lost = is_live(status) and not run.app  # it says that it trains, and nothing works on it
        if lost:
            glyph, style = "?", "$text-warning"
        saved = age(self.now - run.updated) if run.updated else ""
        step = f"{run.step}/{run.steps}" if run.steps else str(run.step)
        return _row(
            (
                Content.styled(fit(f"{glyph} {status}", _STATUS), style),
                Content.styled(fit(run.name, _name_width(width)[0]), "bold" if run.app else ""),
                Content.styled(fit(run.id, _ID), "dim"),
                Content(fit(step, _STEP)),
                Content.styled(fit("at work" if run.app else "none", _WORK), "" if run.app else "dim"),
                Content.styled(fit("here" if run.here else "elsewhere", _PLACE), "dim" if run.here else ""),
                Content.styled(fit(saved, _SAVED), "dim"),
            ),
            width,
        )


class CloudTableHeader(Widget):
    """The titles over the columns."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    CloudTableHeader { height: 1; padding: 0 1; }
    """

    def render(self) -> Content:
        """The titles that fit."""
        width = self.content_size.width
        name, _ = _name_width(width)
        return Content.styled(_row([Content(fit(t, w or name)) for t, w in _TITLES], width).plain, "dim")


class CloudTable(Rows, inherit_bindings=False):
    """Runs, one a row. Enter or a click posts :class:`CloudTable.Chosen`."""

    HELP: ClassVar[str] = (
        "All runs on the workspace's volume, whichever computer started them, as they were last saved there. "
        "Enter opens one; a run that was started elsewhere is taken up first, and shows here as if it was "
        "yours from the start."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Open", id="cloud.open", tooltip="Take the run up if need be, watch it."),
        *cursor_keys("cloud", "run", first=("Newest", "The newest run."), last=("Oldest", "The oldest run.")),
    ]

    class Chosen(Message):
        """A run was picked."""

        def __init__(self, run: CloudRun) -> None:
            super().__init__()
            self.run = run

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self._runs: tuple[CloudRun, ...] = ()

    def show_runs(self, runs: Sequence[CloudRun], now: float) -> None:
        """Show ``runs``; the cursor stays on its run."""
        chosen = self.highlighted_option.id if self.highlighted_option is not None else None
        self._runs = tuple(runs)
        self.set_options([Option(CloudLine(run, now), id=str(index)) for index, run in enumerate(runs)])
        if runs:
            ids = [run.id for run in runs]
            before = int(chosen) if chosen is not None else 0
            self.highlighted = min(before, len(ids) - 1)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which run was chosen."""
        event.stop()
        if event.option_id is not None:
            self.post_message(self.Chosen(self._runs[int(event.option_id)]))
