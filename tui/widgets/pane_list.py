"""A list in a frame at the side of the datasets screens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.widgets.rows import cursor_keys

if TYPE_CHECKING:
    from textual.binding import BindingType
    from textual.content import Content


class PaneList(OptionList, inherit_bindings=False):
    """A list of the datasets screens: the keys to move in it."""

    BINDINGS: ClassVar[list[BindingType]] = [*cursor_keys("datasets", "line")]
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
