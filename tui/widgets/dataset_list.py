"""The dataset folders that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tui.text import fit, one_line, plural, size
from tui.widgets.pane_list import PaneList

if TYPE_CHECKING:
    from textual.widgets import OptionList

    from backend.datasets.library import Entry
    from backend.datasets.uses import RunUse
    from tui.datasets.counts import Counts


class DatasetList(PaneList):
    """Folders with what is in them; two lines each."""

    HELP: ClassVar[str] = (
        "The folders of pictures that you added. Removing one here leaves its files alone. "
        "You can also drop folders or pictures on the terminal: they are pasted as paths."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Open", id="datasets.open", tooltip="See its pictures and captions."),
    ]
    DEFAULT_CSS = "DatasetList { height: 1fr; }"

    @dataclass
    class Opened(Message):
        """A dataset is to be opened."""

        path: Path

    def __init__(self) -> None:
        super().__init__(id="library")
        self.border_title = "Datasets"
        self._entries: list[Entry] = []

    @property
    def current(self) -> Entry | None:
        """The one under the cursor."""
        at = self.highlighted
        return self._entries[at] if at is not None and at < len(self._entries) else None

    def show_entries(
        self,
        entries: Sequence[Entry],
        counts: Mapping[Path, Counts],
        uses: Mapping[Path, RunUse],
    ) -> None:
        """Show the folders, and what is known of them so far."""
        self._entries = list(entries)
        self.border_subtitle = plural(len(entries), "dataset")
        self.show_lines([self._line(e, counts.get(e.path), uses.get(e.path)) for e in entries])

    def _line(self, entry: Entry, counts: Counts | None, use: RunUse | None) -> Content:
        summary = counts.summary if counts is not None else None
        if counts is None or summary is None:
            facts = Content.styled("counting…", "dim")
        elif not summary.exists:
            facts = Content.styled("✗ the folder is not there", "$text-error")
        else:
            words = [plural(summary.pictures, "picture"), plural(summary.captions, "caption")]
            if missing := summary.pictures - summary.captions:
                words.append(f"{missing} without")
            if summary.excluded:
                words.append(f"{summary.excluded} excluded")
            problems = (" · ✓", "$text-success")
            if counts.problems:
                problems = (f" · ✗ {plural(counts.problems, 'problem')}", "$text-warning")
            facts = Content.assemble(" · ".join([*words, size(summary.bytes)]), problems)
        used = "not used by any run yet"
        if use is not None:
            used = f"last used by {one_line(use.name)}" if use.id else f"in the config {one_line(use.name)}"
        name = fit(entry.name, 30).rstrip()
        return Content.assemble(
            (name, "bold"),
            "  ",
            facts,
            "\n",
            (f"  {used} · {one_line(str(entry.path))}", "dim"),
        )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open it."""
        event.stop()
        if (entry := self.current) is not None:
            self.post_message(self.Opened(entry.path))
