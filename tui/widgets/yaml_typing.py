"""A text area whose keys know YAML: pairs, lists, indentation, comments, lines as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.document._document import Selection
from textual.message import Message
from textual.widgets import TextArea

from tui.configs.yaml_lines import (
    closing,
    empty_pair,
    indent_after,
    shift_lines,
    starts_item,
    toggle_comments,
    types_over,
)
from tui.widgets.yaml_keys import YAML_KEYS

if TYPE_CHECKING:
    from textual import events
    from textual.binding import BindingType


class TypingArea(TextArea, inherit_bindings=False):
    """Text with the keys of a YAML editor.

    Attributes:
        popup_open: While a list of completions is open, the keys that belong to it are posted as
            :class:`PopupKey` instead of moving the cursor.
    """

    HELP: ClassVar[str] = (
        "Whatever is typed goes into the file; the screen's own keys are function keys and ctrl. "
        "Tab indents; F6 goes to the next pane, Esc leaves the editor. Completions come by themselves: "
        "Enter or Tab takes one, Esc closes the list."
    )
    BINDINGS: ClassVar[list[BindingType]] = YAML_KEYS

    popup_open = False

    @dataclass
    class PopupKey(Message):
        """A key for the list of completions; ``key`` is up, down, pageup, pagedown, enter or escape."""

        key: str

    class Typed(Message):
        """A character was typed: completions may be wanted."""

    class CompletionWanted(Message):
        """Completions are asked for."""

    class HelpWanted(Message):
        """Help for the key under the cursor is asked for."""

    def action_copy(self) -> None:
        """Copy the selection; without one nothing, so that ctrl+c never ends the app from within a text."""
        if self.selected_text:
            super().action_copy()

    async def _on_paste(self, event: events.Paste) -> None:
        """Terminals send a paste's line ends as carriage returns; Textual's own handler does the rest."""
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")

    async def _on_key(self, event: events.Key) -> None:
        if self.popup_open and event.key in ("up", "down", "pageup", "pagedown", "enter", "tab", "escape"):
            event.stop()
            event.prevent_default()
            self.post_message(self.PopupKey("enter" if event.key == "tab" else event.key))
            return
        if event.key == "tab":
            return  # a binding
        char = event.character if event.is_printable else None
        if event.key == "enter" or char is not None:
            event.stop()
            event.prevent_default()
            self._restart_blink()
            if event.key == "enter":
                self._new_line()
            elif char is not None:
                self._type(char)
            return
        await super()._on_key(event)

    def _around(self) -> tuple[str, str]:
        row, column = self.selection.end
        line = self.document[row]
        return line[:column], line[column:]

    def _new_line(self) -> None:
        start, end = self.selection
        before, after = self._around()
        if start == end and before.strip() == "-" and not after.strip():  # an empty item ends the list
            self._replace_via_keyboard("", (end[0], 0), (end[0], len(self.document[end[0]])))
            return
        insert = "\n" + indent_after(before)
        if start == end and not after.strip() and starts_item(before):
            insert += "- "
        self._replace_via_keyboard(insert, start, end)

    def _type(self, char: str) -> None:
        start, end = self.selection
        before, after = self._around()
        if start == end and types_over(char, after):
            self.move_cursor((end[0], end[1] + 1))
            return
        if start != end and char in "\"'[{":
            close = closing(char, "", "")
            text = self.get_text_range(*sorted((start, end)))
            if "\n" not in text:  # put round what is selected
                self._replace_via_keyboard(f"{char}{text}{close}", start, end)
                return
        close = closing(char, before, after) if start == end else ""
        self._replace_via_keyboard(char + close, start, end)
        if close:
            row, column = self.selection.end
            self.move_cursor((row, column - 1))
        self.post_message(self.Typed())

    def action_delete_left(self) -> None:
        """Both halves of an empty pair; a step of the indentation; else one character."""
        start, end = self.selection
        before, after = self._around()
        if start == end and empty_pair(before, after):
            self._delete_via_keyboard((end[0], end[1] - 1), (end[0], end[1] + 1))
        elif start == end and len(before) >= 2 and not before.strip(" ") and len(before) % 2 == 0:
            self._delete_via_keyboard((end[0], end[1] - 2), end)
        else:
            super().action_delete_left()
        self.post_message(self.Typed())

    def action_edge(self, direction: int) -> None:
        """Go to the first or the last line."""
        self.move_cursor(self.document.end if direction > 0 else (0, 0))

    def action_help_here(self) -> None:
        """Ask for help on the key under the cursor."""
        self.post_message(self.HelpWanted())

    def action_complete(self) -> None:
        """Ask for completions."""
        self.post_message(self.CompletionWanted())

    def _rows(self) -> tuple[int, int]:
        """The first and last line of the selection, or the cursor's."""
        top, bottom = sorted(self.selection)
        last = bottom[0]
        if last > top[0] and bottom[1] == 0:
            last -= 1
        return top[0], last

    def _replace_rows(self, first: int, last: int, lines: Sequence[str], selection: Selection) -> None:
        self.history.checkpoint()
        end = (last, len(self.document[last]))
        self.replace("\n".join(lines), (first, 0), end, maintain_selection_offset=False)
        self.history.checkpoint()
        self.selection = selection

    def _shifted(self, row: int, columns: Sequence[int]) -> Selection:
        """The selection with its rows moved by ``row`` and its columns by what each line gained."""
        (a, b), (c, d) = self.selection
        first, last = self._rows()

        def column(line: int, at: int) -> int:
            gained = columns[line - first] if columns and first <= line <= last else 0
            return max(0, at + gained)

        return Selection((a + row, column(a, b)), (c + row, column(c, d)))

    def _change_rows(self, new: Sequence[str]) -> None:
        first, last = self._rows()
        old = self.document.lines[first : last + 1]
        if list(new) != list(old):
            gained = [len(n) - len(o) for n, o in zip(new, old, strict=True)]
            self._replace_rows(first, last, new, self._shifted(0, gained))

    def action_toggle_comment(self) -> None:
        """Make comments of the lines, or lines of the comments."""
        first, last = self._rows()
        self._change_rows(toggle_comments(self.document.lines[first : last + 1]))

    def action_indent(self, direction: int) -> None:
        """Indent the lines of a selection; without one, go to the next stop or lift the line."""
        first, last = self._rows()
        if self.selection.is_empty and direction > 0:
            before, _ = self._around()
            start, end = self.selection
            self._replace_via_keyboard(" " * (2 - len(before) % 2), start, end)
        else:
            self._change_rows(shift_lines(self.document.lines[first : last + 1], direction))

    def action_move_lines(self, direction: int) -> None:
        """Change places with the line above (-1) or below (1)."""
        first, last = self._rows()
        lines = self.document.lines
        other = first - 1 if direction < 0 else last + 1
        if not 0 <= other < len(lines):
            return
        mine = list(lines[first : last + 1])
        new = [*mine, lines[other]] if direction < 0 else [lines[other], *mine]
        self._replace_rows(min(first, other), max(last, other), new, self._shifted(direction, ()))

    def action_duplicate_lines(self) -> None:
        """The lines once more, below; the cursor goes to the copy."""
        first, last = self._rows()
        mine = list(self.document.lines[first : last + 1])
        self._replace_rows(first, last, [*mine, *mine], self._shifted(len(mine), ()))
