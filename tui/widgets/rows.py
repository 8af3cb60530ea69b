"""What lists of rows with a cursor share: the keys that move it, and how it is shown."""

from __future__ import annotations

from textual.binding import Binding
from textual.widgets import OptionList


def cursor_keys(
    prefix: str,
    noun: str,
    *,
    first: tuple[str, str] | None = None,
    last: tuple[str, str] | None = None,
) -> list[Binding]:
    """The keys that move the cursor.

    Args:
        prefix: Of the ids in the keymap, such as ``jobs``.
        noun: What a row is, such as ``run``.
        first: What the key to the first row is called, and what it does; in the noun's words if None.
        last: The same of the last row.
    """
    first = first or ("First", f"The first {noun}.")
    last = last or ("Last", f"The last {noun}.")
    return [
        Binding(keys, action, title, show=False, id=f"{prefix}.{name}", tooltip=tooltip)
        for keys, action, title, name, tooltip in (
            ("down,j", "cursor_down", "Down", "down", f"Next {noun}."),
            ("up,k", "cursor_up", "Up", "up", f"Previous {noun}."),
            ("pagedown", "page_down", "Page down", "page-down", "A page down."),
            ("pageup", "page_up", "Page up", "page-up", "A page up."),
            ("home,g", "first", first[0], "first", first[1]),
            ("end,G", "last", last[0], "last", last[1]),
        )
    ]


class Rows(OptionList, inherit_bindings=False):
    """A list without a frame; the row under the cursor can be told in any number of colours."""

    DEFAULT_CSS = """
    Rows {
        height: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted {
            background: $foreground 8%; color: $foreground; text-style: none;
        }
        &:focus { border: none; background-tint: transparent; }
        &:focus > .option-list--option-highlighted {
            background: $primary-muted; color: $foreground; text-style: bold;
        }
        &:nocolor:focus > .option-list--option-highlighted { text-style: bold underline; }
        &:ansi:focus > .option-list--option-highlighted {  /* a background could swallow the text */
            background: transparent; text-style: bold underline;
        }
    }
    """

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to open in an empty list."""
        return self.highlighted is not None if action == "select" else True
