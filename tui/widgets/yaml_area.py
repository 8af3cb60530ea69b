"""The text view of a config: YAML with colours, line numbers, marks at problems, and keys that know YAML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.cache import LRUCache
from textual.document._document_navigator import DocumentNavigator
from textual.geometry import Offset, Region, Size
from textual.strip import Strip
from textual.widgets import TextArea

from tui.configs.yaml_lines import indent_of, is_block_text, opens_block, tokens
from tui.widgets.exact_document import ExactDocument, PlainRows
from tui.widgets.yaml_typing import TypingArea

if TYPE_CHECKING:
    from textual.document._document import EditResult, Location

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


class YamlArea(TypingArea):
    """The text of a config."""

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
