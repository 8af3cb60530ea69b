"""How often each tag occurs in a dataset's captions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.text import clip, plural

_MOST = 2000  # lines; the rarest tags of thousands are found by the filter


class PaneList(OptionList, inherit_bindings=False):
    """A list of the datasets screens: the keys to move in it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "Down", show=False, id="datasets.down", tooltip="Next line."),
        Binding("up,k", "cursor_up", "Up", show=False, id="datasets.up", tooltip="Line before."),
        Binding(
            "pagedown", "page_down", "Page down", show=False, id="datasets.page-down", tooltip="A page down."
        ),
        Binding("pageup", "page_up", "Page up", show=False, id="datasets.page-up", tooltip="A page up."),
        Binding("home,g", "first", "First", show=False, id="datasets.first", tooltip="The first line."),
        Binding("end,G", "last", "Last", show=False, id="datasets.last", tooltip="The last line."),
    ]
    DEFAULT_CSS = """
    PaneList {
        height: 1fr;
        padding: 0;
        background: transparent;
        scrollbar-size-vertical: 1;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted {
            background: $foreground 8%; color: $foreground; text-style: none;
        }
        &:focus {
            border: round $primary;
            border-title-style: bold;
            background-tint: transparent;
            & > .option-list--option-highlighted {
                background: $primary-muted; color: $foreground; text-style: bold;
            }
        }
        &:nocolor:focus {
            border: heavy $primary;
            & > .option-list--option-highlighted { text-style: bold reverse; }
        }
        &:ansi:focus {
            & > .option-list--option-highlighted { background: transparent; text-style: bold underline; }
        }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)

    def show_lines(self, lines: list[Content]) -> None:
        """Have these lines; the cursor stays at its line's number."""
        at = self.highlighted
        self.set_options([Option(line) for line in lines])
        if lines:
            self.highlighted = min(at or 0, len(lines) - 1)


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
