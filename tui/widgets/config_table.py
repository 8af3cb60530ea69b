"""The table of a project's configs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets.option_list import Option

from tui.text import age, fit
from tui.widgets.rows import Rows, cursor_keys

if TYPE_CHECKING:
    from textual import events
    from textual.widgets import OptionList

    from backend.configs.library import ConfigEntry


@dataclass(frozen=True)
class Columns:
    """Widths in cells; 0 leaves a column out."""

    name: int
    model: int
    dataset: int
    steps: int = 7
    run: int = 16
    changed: int = 5


def columns_for(width: int) -> Columns:
    """The columns that fit into a width."""
    room = width - 7 - 5 - 4
    if width >= 100:
        room -= 17 + 2
        return Columns(
            name=room * 2 // 5, model=room * 3 // 10, dataset=room - room * 2 // 5 - room * 3 // 10
        )
    if width >= 66:
        room -= 17 + 1
        return Columns(name=room * 3 // 5, model=0, dataset=room - room * 3 // 5)
    return Columns(name=max(8, room), model=0, dataset=0, run=0)


def _row(columns: Columns, cells: tuple[str, str, str, str, str, str]) -> str:
    widths = (columns.name, columns.model, columns.dataset, columns.steps, columns.run, columns.changed)
    shown = []
    for index, (text, width) in enumerate(zip(cells, widths, strict=True)):
        if width:
            shown.append(fit(text, width) if index not in (3, 5) else f"{fit(text, width).strip():>{width}}")
    return " ".join(shown)


def entry_row(entry: ConfigEntry, width: int, now: float) -> Content:
    """One config on one line."""
    columns = columns_for(width)
    run = entry.last_run
    words = "" if run is None else f"{run.status} {age(max(0.0, now - run.updated))}"
    cells = (
        ("✗ " if entry.problem else "") + entry.name,
        entry.base_model.rpartition("/")[2],
        ", ".join(entry.datasets),
        f"{entry.steps}" if entry.steps is not None else "–",  # noqa: RUF001 - a dash
        words,
        age(max(0.0, now - entry.modified)),
    )
    return Content(_row(columns, cells))


class ConfigTableHeader(Widget):
    """The titles over the columns."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ConfigTableHeader { height: 1; padding: 0 1; }
    """

    def render(self) -> Content:
        """The titles that fit."""
        titles = ("name", "base model", "pictures", "steps", "last run", "saved")
        return Content.styled(_row(columns_for(self.content_size.width - 1), titles), "$text-muted")


class ConfigTable(Rows, inherit_bindings=False):
    """Configs, one a row."""

    HELP: ClassVar[str] = (
        "The configs in this folder and below, the last changed first. `✗`: it cannot be read."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Edit", id="configs.edit", tooltip="Open it in the editor."),
        *cursor_keys("configs", "config", first=("First", "The last changed."), last=("Last", "The oldest.")),
    ]

    @dataclass
    class Opened(Message):
        """The user wants to edit a config."""

        path: Path

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self.entries: tuple[ConfigEntry, ...] = ()
        self._now = 0.0

    @property
    def entry(self) -> ConfigEntry | None:
        """The config under the cursor."""
        at = self.highlighted
        return self.entries[at] if at is not None and at < len(self.entries) else None

    def show_entries(self, entries: Sequence[ConfigEntry], now: float, choose: Path | None = None) -> None:
        """Bring the rows up to date.

        Args:
            entries: In the order to show.
            now: Seconds since 1970.
            choose: Where the cursor goes; None leaves it on its config.
        """
        chosen = choose or (self.entry.path if self.entry is not None else None)
        at = self.highlighted or 0
        self.entries, self._now = tuple(entries), now
        width = max(30, self.size.width - 3)
        self.set_options(Option(entry_row(entry, width, now)) for entry in self.entries)
        paths = [entry.path for entry in self.entries]
        if paths:
            self.highlighted = paths.index(chosen) if chosen in paths else min(at, len(paths) - 1)

    def on_resize(self, event: events.Resize) -> None:
        """The columns have other widths."""
        self.call_after_refresh(lambda: self.show_entries(self.entries, self._now))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which."""
        event.stop()
        self.post_message(self.Opened(self.entries[event.option_index].path))
