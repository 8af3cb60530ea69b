"""The text view of a config: YAML with colours, line numbers, marks at problems, and keys that know YAML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.document._document import Document, EditResult, Location, Selection
from textual.document._document_navigator import DocumentNavigator
from textual.document._wrapped_document import WrappedDocument
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from tui.configs.yaml_lines import (
    closing,
    empty_pair,
    indent_after,
    indent_of,
    is_block_text,
    opens_block,
    shift_lines,
    starts_item,
    toggle_comments,
    tokens,
    types_over,
)

if TYPE_CHECKING:
    from textual import events

_LOOK = 20_000  # characters in which the partner of a bracket is looked for
_JUMP = 16  # columns that the text moves at once where the cursor would leave the pane
_STEP = 32  # columns by which the width that can be scrolled grows
_RANK = {"error": 0, "warning": 1, "info": 2}
GLYPHS = {"error": "✗", "warning": "!", "info": "·"}
_CONTROLS = dict.fromkeys((*range(9), *range(10, 32), *range(127, 160)), "�") | {0x0D: "␍"}


class TextEdit(Protocol):
    """A splice: the characters from ``start`` to ``end`` become ``text``."""

    @property
    def start(self) -> int:
        """First character."""

    @property
    def end(self) -> int:
        """Behind the last character."""

    @property
    def text(self) -> str:
        """What stands there then."""


@dataclass(frozen=True)
class Mark:
    """A place with a problem, in lines and columns from 0."""

    line: int
    start: int
    end: int
    severity: str


class ExactDocument(Document):
    r"""A document that gives back exactly what it was given.

    Textual's own splits at every separator that Unicode knows, and forgets which one it was. Here lines end
    with ``\r\n`` if all do, else with ``\n``; any other character stays where it is.
    """

    def __init__(self, text: str) -> None:
        super().__init__("")
        self._newline = "\r\n" if "\r\n" in text and text.count("\r\n") == text.count("\n") else "\n"
        self._lines = text.split(self._newline)
        self._widths: list[int] = []  # of the lines, with tabs of _tab_width cells; kept, as each key asks
        self._tab_width = 0

    def _width(self, line: str) -> int:
        plain = line.isascii() and "\t" not in line
        return len(line) if plain else cell_len(line.expandtabs(self._tab_width))

    def get_size(self, tab_width: int) -> Size:
        """Widest line and number of lines."""
        if tab_width != self._tab_width:
            self._tab_width = tab_width
            self._widths = [self._width(line) for line in self._lines]
        return Size(max(self._widths), len(self._lines))

    def replace_range(self, start: Location, end: Location, text: str) -> EditResult:
        """Replace a range; ``text`` has either kind of line ends."""
        top, bottom = sorted((start, end))
        if self._newline == "\r\n":
            text = text.replace("\r\n", "\n")
        replaced = self.get_text_range(top, bottom)
        lines = self._lines
        before = lines[top[0]][: top[1]] if top[0] < len(lines) else ""
        after = lines[bottom[0]][bottom[1] :] if bottom[0] < len(lines) else ""
        new = text.split("\n")
        new[0] = before + new[0]
        column = len(new[-1])
        new[-1] += after
        lines[top[0] : bottom[0] + 1] = new
        if self._widths:
            self._widths[top[0] : bottom[0] + 1] = [self._width(line) for line in new]
        return EditResult((top[0] + len(new) - 1, column), replaced)


class PlainRows(WrappedDocument):
    """Rows of a document that is never wrapped.

    Textual's own adds up the rows of all lines each time it is asked for the height, which is once for every
    line that it paints: most of a key's time in a long file.
    """

    @property
    def height(self) -> int:
        """One row a line."""
        return len(self._wrap_offsets)


def _key(key: str, action: str, title: str, name: str, tooltip: str, *, show: bool = False) -> Binding:
    return Binding(key, action, title, show=show, id=f"text.{name}", tooltip=tooltip)


class YamlArea(TextArea, inherit_bindings=False):
    """The text of a config.

    While a list of completions is open (:attr:`popup_open`), the keys that belong to it are posted as
    :class:`PopupKey` instead of moving the cursor.
    """

    HELP: ClassVar[str] = (
        "Whatever is typed goes into the file; the screen's own keys are function keys and ctrl. "
        "Tab indents; F6 goes to the next pane, Esc leaves the editor. Completions come by themselves: "
        "Enter or Tab takes one, Esc closes the list."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        _key("ctrl+k", "help_here", "Key help", "help", "What the key under the cursor means.", show=True),
        _key("ctrl+@,ctrl+space", "complete", "Complete", "complete", "What can stand here."),
        _key(
            "ctrl+underscore,ctrl+slash",
            "toggle_comment",
            "Comment",
            "comment",
            "Lines to comments and back.",
        ),
        _key("alt+up,ctrl+shift+up", "move_lines(-1)", "Line up", "line-up", "Move the lines up."),
        _key("alt+down,ctrl+shift+down", "move_lines(1)", "Line down", "line-down", "Move the lines down."),
        _key("ctrl+d", "duplicate_lines", "Duplicate", "duplicate", "The lines once more, below."),
        _key("tab", "indent(1)", "Indent", "indent", "One step deeper; completes where a list is open."),
        _key("shift+tab", "indent(-1)", "Indent less", "dedent", "One step less deep."),
        _key("ctrl+z,super+z", "undo", "Undo", "undo", "Take the last change back."),
        _key("ctrl+y,ctrl+shift+z,super+y", "redo", "Redo", "redo", "Make it again."),
        _key("ctrl+x,super+x", "cut", "Cut", "cut", "Cut the selection, or the line."),
        _key("ctrl+c,super+c", "copy", "Copy", "copy", "Copy the selection."),
        _key("ctrl+v", "paste", "Paste", "paste", "Paste."),
        _key("ctrl+t", "select_all", "Select all", "select-all", "Select everything."),
        _key("ctrl+shift+k", "delete_line", "Delete line", "delete-line", "Delete the line."),
        _key("up", "cursor_up", "Up", "up", "A line up."),
        _key("down", "cursor_down", "Down", "down", "A line down."),
        _key("left", "cursor_left", "Left", "left", "A character to the left."),
        _key("right", "cursor_right", "Right", "right", "A character to the right."),
        _key("ctrl+left", "cursor_word_left", "Word left", "word-left", "A word to the left."),
        _key("ctrl+right", "cursor_word_right", "Word right", "word-right", "A word to the right."),
        _key("home,ctrl+a", "cursor_line_start", "Line start", "home", "To the line's first character."),
        _key("end,ctrl+e", "cursor_line_end", "Line end", "end", "To the line's end."),
        _key("ctrl+home", "edge(-1)", "Top", "top", "To the first line."),
        _key("ctrl+end", "edge(1)", "Bottom", "bottom", "To the last line."),
        _key("pageup", "cursor_page_up", "Page up", "page-up", "A page up."),
        _key("pagedown", "cursor_page_down", "Page down", "page-down", "A page down."),
        _key("shift+up", "cursor_up(True)", "Select up", "select-up", "Select a line up."),
        _key("shift+down", "cursor_down(True)", "Select down", "select-down", "Select a line down."),
        _key("shift+left", "cursor_left(True)", "Select left", "select-left", "Select to the left."),
        _key("shift+right", "cursor_right(True)", "Select right", "select-right", "Select to the right."),
        _key(
            "ctrl+shift+left",
            "cursor_word_left(True)",
            "Select word left",
            "select-word-left",
            "Select a word to the left.",
        ),
        _key(
            "ctrl+shift+right",
            "cursor_word_right(True)",
            "Select word right",
            "select-word-right",
            "Select a word to the right.",
        ),
        _key(
            "shift+home", "cursor_line_start(True)", "Select to start", "select-home", "Select to the start."
        ),
        _key("shift+end", "cursor_line_end(True)", "Select to end", "select-end", "Select to the end."),
        _key("backspace", "delete_left", "Delete left", "backspace", "Delete to the left."),
        _key("delete", "delete_right", "Delete right", "delete", "Delete to the right."),
        _key(
            "ctrl+w,ctrl+backspace,alt+backspace",
            "delete_word_left",
            "Delete word left",
            "delete-word-left",
            "Delete a word to the left.",
        ),
        _key("alt+delete", "delete_word_right", "Delete word", "delete-word", "Delete a word to the right."),
        _key(
            "ctrl+u",
            "delete_to_start_of_line",
            "Delete to start",
            "delete-to-start",
            "Delete to the line's start.",
        ),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = TextArea.COMPONENT_CLASSES | {
        "yaml--key",
        "yaml--string",
        "yaml--number",
        "yaml--word",
        "yaml--anchor",
        "yaml--mark",
        "yaml--comment",
        "yaml--error",
        "yaml--warning",
        "yaml--info",
        "yaml--match",
    }
    DEFAULT_CSS = """
    YamlArea {
        border: none;
        padding: 0;
        height: 1fr;
        background: transparent;
        scrollbar-size: 1 1;
        & .yaml--key { color: $text-primary; }
        & .yaml--string { color: $text-success; }
        & .yaml--number { color: $text-accent; }
        & .yaml--word { color: $text-accent; text-style: bold; }
        & .yaml--anchor { color: $text-warning; text-style: italic; }
        & .yaml--mark { color: $text-muted; }
        & .yaml--comment { color: $text-muted; text-style: italic; }
        & .yaml--error { color: $text-error; text-style: bold underline; }
        & .yaml--warning { color: $text-warning; text-style: underline; }
        & .yaml--info { text-style: underline; }
        & .yaml--match { text-style: reverse; }
        &:focus { border: none; }
    }
    """

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

    def __init__(self, text: str = "", *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        self._text_version = 0
        self._text_cache: tuple[int, str] = (-1, "")
        self._one_row = False
        self._look: dict[str, Style] = {}
        self._painted: LRUCache[object, Strip] = LRUCache(512)
        self._marks: dict[int, list[Mark]] = {}
        self._matches: dict[int, list[tuple[int, int]]] = {}
        self.document: ExactDocument
        super().__init__(text, id=id, soft_wrap=False, show_line_numbers=True, tab_behavior="focus")
        self.indent_width = 2
        self.popup_open = False

    # -- the text -----------------------------------------------------------------------------------

    def _set_document(self, text: str, language: str | None) -> None:
        self._text_version += 1
        self._marks, self._matches = {}, {}
        self.document = ExactDocument(text)
        self.wrapped_document = PlainRows(self.document, tab_width=self.indent_width)
        self.navigator = DocumentNavigator(self.wrapped_document)
        self.move_cursor((0, 0))
        self._rewrap_and_refresh_virtual_size()

    @property
    def text(self) -> str:
        """The whole text; made once after each change, as Textual asks for it once a line."""
        version, text = self._text_cache
        if version != self._text_version:
            text = self.document.text
            self._text_cache = (self._text_version, text)
        return text

    @text.setter
    def text(self, value: str) -> None:
        self.load_text(value)

    @property
    def version(self) -> int:
        """Counts changes: a result for another version is stale."""
        return self._text_version

    def edit(self, edit: object) -> EditResult:
        """Textual's, counted; a change inside one line paints that line alone."""
        self._text_version += 1
        plain = not self._matches and self._matching_bracket_location is None
        self._matches = {}
        self._shift_marks(edit)
        row = edit.to_location[0]  # type: ignore[attr-defined]
        rows = {row, edit.from_location[0], *(place[0] for place in self.selection)}  # type: ignore[attr-defined]
        plain = plain and len(rows) == 1 and "\n" not in edit.text  # type: ignore[attr-defined]
        before = self.document[row]
        self._one_row = plain
        try:
            result = super().edit(edit)  # type: ignore[arg-type]
        finally:
            self._one_row = False
        if plain:
            after = self.document[row]
            told = opens_block(before) == opens_block(after) and indent_of(before) == indent_of(after)
            if told and self._matching_bracket_location is None:
                self.refresh_lines(row)
            else:  # lines below may have other colours, or a bracket in another line is marked
                self.refresh()
        return result

    def refresh(
        self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Self:
        """Textual's; what would paint everything for a change inside one line is left to :meth:`edit`."""
        if self._one_row and not regions and not layout and not recompose:
            return self
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _undo_batch(self, edits: Sequence[object]) -> None:
        self._text_version += 1
        self._matches = {}
        super()._undo_batch(edits)  # type: ignore[arg-type]

    def _redo_batch(self, edits: Sequence[object]) -> None:
        self._text_version += 1
        self._matches = {}
        super()._redo_batch(edits)  # type: ignore[arg-type]

    def _shift_marks(self, edit: object) -> None:
        """Marks below a change of the number of lines go with their lines, until the next check."""
        top, bottom = sorted((edit.from_location, edit.to_location))  # type: ignore[attr-defined]
        more = edit.text.count("\n") - (bottom[0] - top[0])  # type: ignore[attr-defined]
        if more and self._marks:
            self._marks = {line + more if line > top[0] else line: m for line, m in self._marks.items()}

    def apply_edits(self, edits: Sequence[TextEdit]) -> None:
        """Make several splices as one step for undo."""
        if not edits:
            return
        ordered = sorted(edits, key=lambda e: e.start)
        start, end = ordered[0].start, max(e.end for e in ordered)
        text = self.text
        parts, at = [], start
        for one in ordered:
            parts += [text[at : one.start], one.text]
            at = max(at, one.end)
        self.replace_span(start, end, "".join(parts))

    def replace_span(self, start: int, end: int, text: str) -> None:
        """Replace characters by their offsets; one step for undo."""
        locate = self.document.get_location_from_index
        self.history.checkpoint()
        self.replace(text, locate(start), locate(end), maintain_selection_offset=True)
        self.history.checkpoint()

    def replace_all_text(self, text: str) -> None:
        """Another text, as one step for undo; only what differs is replaced."""
        old = self.text
        if old == text:
            return
        head = 0
        most = min(len(old), len(text))
        while head < most and old[head] == text[head]:
            head += 1
        while head and old[head - 1] == "\r":  # never between the two halves of a line end
            head -= 1
        tail = 0
        while tail < most - head and old[-1 - tail] == text[-1 - tail]:
            tail += 1
        while (
            tail
            and old[len(old) - tail] == "\n"
            and tail > 0
            and old[len(old) - tail - 1 : len(old) - tail] == "\r"
        ):
            tail -= 1
        self.replace_span(head, len(old) - tail, text[head : len(text) - tail])

    def go_to(self, line: int, column: int = 0) -> None:
        """Put the cursor there, in the middle of the pane."""
        line = max(0, min(line, self.document.line_count - 1))
        self.move_cursor((line, min(column, len(self.document[line]))), center=True)

    # -- what is shown --------------------------------------------------------------------------------

    def show_marks(self, marks: Iterable[Mark]) -> None:
        """Mark the problems."""
        found: dict[int, list[Mark]] = {}
        for mark in marks:
            found.setdefault(mark.line, []).append(mark)
        if found != self._marks:
            self._marks = found
            self._repaint()

    def show_matches(self, matches: Iterable[tuple[int, int, int]]) -> None:
        """Highlight what was searched for: ``(line, start, end)``."""
        found: dict[int, list[tuple[int, int]]] = {}
        for line, start, end in matches:
            found.setdefault(line, []).append((start, end))
        if found != self._matches:
            self._matches = found
            self._repaint()

    def _repaint(self) -> None:
        self._line_cache.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """The theme or a style changed."""
        self._look.clear()
        self._painted.clear()
        super().notify_style_update()

    def _refresh_size(self) -> None:
        """Textual's, in steps of some columns: each new size lays out the whole screen."""
        width, height = self.document.get_size(self.indent_width)
        width += self.gutter_width + 1  # the cursor may stand behind the last character
        room = self.scrollable_content_region.width
        stepped = -(-(width + _JUMP) // _STEP) * _STEP
        self.virtual_size = Size(room if width <= room < stepped else stepped, height)
        self._refresh_scrollbars()

    def scroll_cursor_visible(self, center: bool = False, animate: bool = False) -> Offset:
        """Textual's; sideways in jumps, as each paints every row."""
        before = self.scroll_offset.x
        moved = super().scroll_cursor_visible(center, animate)
        by = self.scroll_offset.x - before
        if 0 < abs(by) < _JUMP and not animate:
            self.scroll_to(x=self.scroll_offset.x + (_JUMP if by > 0 else -_JUMP), animate=False)
        return moved

    def _style(self, kind: str) -> Style:
        style = self._look.get(kind)
        if style is None:
            component = self.get_component_rich_style(f"yaml--{kind}", partial=True)
            self._look[kind] = style = Style(
                color=component.color,
                bold=component.bold or None,
                italic=component.italic or None,
                underline=component.underline or None,
                reverse=component.reverse or None,
            )
        return style

    def get_line(self, line_index: int) -> Text:
        """A line with its colours; characters that a terminal obeys are replaced on the screen only."""
        line = self.document.get_line(line_index)
        shown = line if line.isprintable() else line.translate(_CONTROLS)
        text = Text(shown, end="", no_wrap=True)
        if is_block_text(self.document.lines, line_index):
            text.stylize(self._style("string"))
        else:
            for start, end, kind in tokens(line):
                text.stylize(self._style(kind), start, end)
        for mark in self._marks.get(line_index, ()):
            text.stylize(self._style(mark.severity), mark.start, max(mark.end, mark.start + 1))
        for start, end in self._matches.get(line_index, ()):
            text.stylize(self._style("match"), start, end)
        return text

    def _render_line(self, y: int) -> Strip:
        """A row; one that neither cursor nor selection touches is taken from those painted before.

        Textual forgets every row with each change of the text, which would be most of a key's time.
        """
        row = y + self.scroll_offset.y
        top, bottom = sorted(self.selection)
        bracket = self._matching_bracket_location
        if (
            row >= self.document.line_count
            or top[0] <= row <= bottom[0]
            or (bracket is not None and bracket[0] == row)
        ):
            return self._paint_line(y)
        key = (
            row,
            self.document[row],
            is_block_text(self.document.lines, row),
            tuple(self._marks.get(row, ())),
            tuple(self._matches.get(row, ())),
            self.size,
            self.gutter_width,
            self.scroll_offset.x,
        )
        strip = self._painted.get(key)
        if strip is None:
            strip = self._painted[key] = self._paint_line(y)
        return strip

    def _paint_line(self, y: int) -> Strip:
        strip = super()._render_line(y)
        marks = self._marks.get(y + self.scroll_offset.y)
        if not marks:
            return strip
        worst = min(marks, key=lambda mark: _RANK.get(mark.severity, 3)).severity
        at = self.gutter_width - 2
        style = Style(color=self._style(worst).color, bold=True)
        sign = Strip([Segment(GLYPHS.get(worst, "·"), style)], 1)
        return Strip.join([strip.crop(0, at), sign, strip.crop(at + 1)])

    def _yield_character_locations(self, start: Location) -> Iterable[tuple[str, Location]]:
        return islice(super()._yield_character_locations(start), _LOOK)

    def _yield_character_locations_reverse(self, start: Location) -> Iterable[tuple[str, Location]]:
        return islice(super()._yield_character_locations_reverse(start), _LOOK)

    # -- keys -----------------------------------------------------------------------------------------

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
