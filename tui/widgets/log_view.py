"""Paints the visible rows of a log; the part of :class:`~tui.widgets.log_pane.LogPane` that scrolls."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.logs.cells import text_width, window
from tui.logs.levels import level_words, phase_span
from tui.logs.lines import LogLine
from tui.logs.search import Query
from tui.logs.viewport import LogViewport

if TYPE_CHECKING:
    from textual import events
    from textual.scrollbar import ScrollTo

LEFT, RIGHT = "\u2039", "\u203a"  # single angle quotation marks: the line goes on there

Span = tuple[int, int, Style]


class LogView(ScrollView, can_focus=False):
    """The rows of a :class:`LogViewport`, painted when they are visible and only then."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log-view--match",
        "log-view--match-current",
        "log-view--warning",
        "log-view--error",
        "log-view--phase",
        "log-view--selected",
        "log-view--mark",
        "log-view--empty",
        "log-view--pill",
    }
    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        background: transparent;
        & > .log-view--match { color: $warning; background: $background; text-style: reverse; }
        & > .log-view--match-current {
            color: $success; background: $background; text-style: bold underline reverse;
        }
        & > .log-view--warning { color: $text-warning; text-style: bold; }
        & > .log-view--error { color: $text-error; text-style: bold underline; }
        & > .log-view--phase { color: $text-accent; text-style: bold; }
        & > .log-view--selected { color: $foreground; background: $primary 30%; text-style: reverse; }
        & > .log-view--mark { color: $text-muted; text-style: dim; }
        & > .log-view--empty { color: $text-muted; text-style: italic; }
        & > .log-view--pill { color: $primary; background: $background; text-style: bold reverse; }
    }
    """

    class Moved(Message):
        """The mouse moved the view with its scroll bar."""

    class Pressed(Message):
        """A line was clicked.

        Args:
            line: Its number in the viewport's log.
            extend: Whether what was selected before stays selected.
        """

        def __init__(self, line: int, extend: bool) -> None:
            super().__init__()
            self.line = line
            self.extend = extend

    def __init__(self, viewport: LogViewport, placeholder: str) -> None:
        super().__init__()
        self.viewport = viewport
        self.placeholder = placeholder
        self._highlight: Query | None = None
        self._current: int | None = None
        self._selected: range = range(0)
        self._pressed: int | None = None
        # A few screens: while a run talks, thousands of rows that nobody sees again would come and go.
        self._strips: LRUCache[tuple[int, int], Strip] = LRUCache(256)
        self._styles: dict[str, Style] = {}
        self._base = Style()
        self._area = Size(0, 0)
        self._in_pass = False
        self._painted: tuple[object, ...] = ()
        self._syncing = False

    # -- what to show -------------------------------------------------------------------------------

    def show_viewport(self, viewport: LogViewport) -> None:
        """Show another log."""
        self.viewport = viewport
        self.forget_strips()

    def set_highlight(self, query: Query | None, current: int | None) -> None:
        """Highlight the matches of ``query``, those of line ``current`` more strongly."""
        if (query, current) != (self._highlight, self._current):
            self._highlight, self._current = query, current
            self.forget_strips()

    def set_selected(self, lines: range) -> None:
        """Show ``lines`` as selected."""
        if lines != self._selected:
            self._selected = lines
            self.forget_strips()

    def forget_strips(self) -> None:
        """Paint everything anew."""
        self._strips.clear()
        self._painted = ()
        self.update_rows()

    def notify_style_update(self) -> None:
        """The theme or a style changed."""
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    def update_rows(self) -> None:
        """Lay out the log as it is now and repaint what differs from what is on the screen."""
        viewport = self.viewport
        if not self.size:
            return
        viewport.resize(self.size.width, self.size.height)
        rows = viewport.layout()
        self._sync_scroll_bar()
        # The unfinished last line changes in place; while it is off the screen only the pill does.
        unfinished = bool(rows) and rows[-1][0] >= viewport.store.complete
        state = (tuple(rows), viewport.pan, viewport.store.generation, unfinished and viewport.store.version)
        if state != self._painted:
            self._painted = state
            self.refresh()
        elif not viewport.follow:
            self.refresh(Region(0, self.size.height - 1, self.size.width, 1))  # the pill counts on

    def _sync_scroll_bar(self) -> None:
        position, total = self.viewport.scroll_extent()
        self._syncing = True
        try:
            if total != self.virtual_size.height:
                # Set past the reactive: its layout pass of the whole screen is for scroll bars that come
                # and go, and this one is always there.
                self.set_reactive(Widget.virtual_size, Size(self.size.width, total))
                self.vertical_scrollbar.window_virtual_size = total
                self.vertical_scrollbar.window_size = self.size.height
            self.scroll_y = position
        finally:
            self._syncing = False

    # -- mouse --------------------------------------------------------------------------------------

    def _on_scroll_to(self, message: ScrollTo) -> None:
        message.stop()
        message.prevent_default()
        if message.y is not None:
            viewport = self.viewport
            line = viewport.store.first + round(message.y)
            if message.y >= self.max_scroll_y:
                viewport.follow = True
            else:
                viewport.go_to(line)
            self.post_message(self.Moved())

    def _on_scroll_up(self, event: Message) -> None:
        event.stop()
        event.prevent_default()
        self.viewport.move(-self.viewport.height)
        self.post_message(self.Moved())

    def _on_scroll_down(self, event: Message) -> None:
        event.stop()
        event.prevent_default()
        self.viewport.move(self.viewport.height)
        self.post_message(self.Moved())

    def _line_at(self, y: int) -> int | None:
        rows = self.viewport.rows
        return rows[min(y, len(rows) - 1)][0] if rows and y >= 0 else None

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click selects a line; with shift, or dragged, all up to it."""
        line = self._line_at(event.y)
        if event.button == 1 and line is not None and event.x < self.size.width:
            self._pressed = line
            self.capture_mouse()
            self.post_message(self.Pressed(line, event.shift))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """A drag selects."""
        line = self._line_at(max(0, event.y))
        if self._pressed is not None and line is not None and line != self._pressed:
            self._pressed = line
            self.post_message(self.Pressed(line, True))

    def on_mouse_up(self) -> None:
        """The drag ends."""
        if self._pressed is not None:
            self._pressed = None
            self.release_mouse()

    # The wheel bubbles to the pane, which moves the viewport.
    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.prevent_default()

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.prevent_default()

    def on_resize(self) -> None:
        """Paint for the new size."""
        self.forget_strips()

    # -- painting -----------------------------------------------------------------------------------

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            # Overlays change only what they name; the others bring their background, for auto colours.
            overlay = name in ("match", "match-current", "warning", "error", "phase")
            style = self.get_component_rich_style(f"log-view--{name}", partial=overlay)
            self._styles[name] = style
        return style

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows in ``crop``; what they have in common is looked up once, since Textual works it out."""
        self._base, self._area, self._in_pass = self.rich_style, self.size, True
        try:
            return super().render_lines(crop)
        finally:
            self._in_pass = False

    def render_line(self, y: int) -> Strip:
        """One visible row."""
        if not self._in_pass:
            self._base, self._area = self.rich_style, self.size
        viewport, base = self.viewport, self._base
        width, height = self._area
        if y < len(viewport.rows):
            strip = self._row(*viewport.rows[y], base)
        elif y == 0 and not viewport.store.stop:
            text = self.placeholder[: max(0, width)]
            strip = Strip([Segment(text, base + self._style("empty"))]).adjust_cell_length(width, base)
        else:
            strip = Strip.blank(width, base)
        if y == height - 1 and not viewport.follow:
            strip = self._with_pill(strip, width)
        return strip

    def _with_pill(self, strip: Strip, width: int) -> Strip:
        new = self.viewport.new_lines
        text = f" {new:,} new ↓ " if new else " paused "
        if len(text) + 4 > width:
            text = f"{new:,}↓"[:width] if new else ""
        pill = Strip([Segment(text, self._base + self._style("pill"))], len(text))
        return Strip.join([strip.crop(0, width - len(text)), pill])

    def _row(self, number: int, row: int, base: Style) -> Strip:
        cached = self._strips.get((number, row))
        if cached is not None:
            return cached
        viewport = self.viewport
        if number in self._selected:
            base += self._style("selected")
        try:
            line = viewport.line(number)
        except IndexError:  # dropped between layout and painting
            return Strip.blank(self._area.width, base)
        if viewport.wrap:
            starts = viewport.starts(number)
            start = starts[row] if row < len(starts) else len(line.text)
            end = starts[row + 1] if row + 1 < len(starts) else len(line.text)
            segments = self._segments(line, number, start, end, base)
            if line.hidden and end == len(line.text):
                segments.append(self._cut_mark(line, base))
        else:
            segments = self._panned(line, number, base)
        strip = Strip(segments).adjust_cell_length(self._area.width, base)
        if number < viewport.store.complete:
            self._strips[(number, row)] = strip
        return strip

    def _panned(self, line: LogLine, number: int, base: Style) -> list[Segment]:
        """The part of an unwrapped line that the window shows, with arrows where it goes on."""
        width, pan = self._area.width, self.viewport.pan
        mark = base + self._style("mark")
        total = text_width(line.text)
        left = int(pan > 0 and total > 0)
        right = int(total > pan + width or (line.hidden > 0 and total > pan + width - 1))
        start, end, lead = window(line.text, pan + left, max(0, width - left - right))
        segments = [Segment(LEFT, mark)] if left else []
        if lead:
            segments.append(Segment(" " * lead, base))
        segments += self._segments(line, number, start, end, base)
        if right:
            used = sum(segment.cell_length for segment in segments)
            segments.append(Segment(" " * max(0, width - 1 - used) + RIGHT, mark))
        elif line.hidden:
            segments.append(self._cut_mark(line, base))
        return segments

    def _cut_mark(self, line: LogLine, base: Style) -> Segment:
        return Segment(f"… +{line.hidden:,}", base + self._style("mark") + Style(reverse=True))

    def _segments(self, line: LogLine, number: int, start: int, end: int, base: Style) -> list[Segment]:
        """Characters ``start`` to ``end`` of a line with colours, level words and matches."""
        text = line.text
        overlays: list[Span] = [span for span in line.spans if span[0] < end and span[1] > start]
        overlays += [(a, b, self._style(level.value)) for a, b, level in level_words(text)]
        phase = phase_span(text)
        if phase is not None:
            overlays.append((*phase, self._style("phase")))
        if self._highlight is not None:
            style = self._style("match-current" if number == self._current else "match")
            overlays += [(a, b, style) for a, b in self._highlight.spans(text)]
        overlays = [span for span in overlays if span[0] < end and span[1] > start]
        if not overlays:
            return [Segment(text[start:end], base)] if end > start else []
        cuts = sorted(
            {start, end, *(max(start, a) for a, _, _ in overlays), *(min(end, b) for _, b, _ in overlays)}
        )
        segments = []
        for left, right in pairwise(cuts):
            style = base
            for a, b, overlay in overlays:
                if a <= left and b >= right:
                    style += overlay
            segments.append(Segment(text[left:right], style))
        return segments
