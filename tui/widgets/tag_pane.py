"""How often each tag occurs in a dataset's captions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tui.text import clip, plural
from tui.widgets.pane_list import PaneList

if TYPE_CHECKING:
    from textual.widgets import OptionList

_MOST = 2000  # lines; the rarest tags of thousands are found by the filter


class TagPane(PaneList):
    """Tags, the most frequent first."""

    HELP: ClassVar[str] = (
        "Tags are what stands between the commas of a caption. Renaming or removing one changes all captions "
        "that have it, after a preview, and `u` takes it back."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Filter", id="tags.filter", tooltip="Show the pictures with this tag."),
        Binding("n", "rename", "Rename", id="tags.rename", tooltip="Give the tag another name everywhere."),
        Binding(
            "delete,backspace",
            "remove",
            "Remove",
            id="tags.remove",
            tooltip="Take the tag out of all captions.",
        ),
    ]

    @dataclass
    class Wanted(Message):
        """Something is to be done with a tag: ``filter``, ``rename`` or ``remove``."""

        tag: str
        what: str

    def __init__(self) -> None:
        super().__init__(id="tags")
        self.border_title = "Tags"
        self._tags: list[tuple[str, int]] = []

    def show_tags(self, counts: Counter[str], pictures: int) -> None:
        """Show how often each tag occurs in so many captions."""
        found = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:_MOST]
        self.border_subtitle = plural(len(counts), "tag")
        if found == self._tags:
            return
        self._tags = found
        wide = len(str(max((count for _, count in found), default=0)))
        self.show_lines(
            [
                Content.assemble(
                    (f"{count:>{wide}} ", "bold" if count == pictures else "dim"), clip(tag, 200)
                )
                for tag, count in found
            ]
        )

    def _want(self, what: str) -> None:
        if self.highlighted is not None and self.highlighted < len(self._tags):
            self.post_message(self.Wanted(self._tags[self.highlighted][0], what))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click filters."""
        event.stop()
        self._want("filter")

    def action_rename(self) -> None:
        """Rename it everywhere."""
        self._want("rename")

    def action_remove(self) -> None:
        """Remove it everywhere."""
        self._want("remove")
