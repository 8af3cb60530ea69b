"""A live log: follow and pause, search, wrap or pan. Knows bytes, not runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from tui.logs.pace import Pace
from tui.logs.places import StepIndex
from tui.logs.store import LogStore
from tui.logs.viewport import Lines, LogViewport
from tui.widgets import log_keys
from tui.widgets.log_filter import LogFilter
from tui.widgets.log_jump import LogJump
from tui.widgets.log_places import LogPlaces
from tui.widgets.log_prompt import LogPrompt
from tui.widgets.log_search import LogSearch
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from pathlib import Path

    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType

_FLUSH_HZ = 16


class LogPane(LogPlaces, can_focus=True):
    r"""Shows the log in a :class:`~tui.logs.store.LogStore`, live.

    Feed it bytes as they come (:meth:`feed`), or give it a store over a file that grows
    (:meth:`use_store`); it looks for what is new sixteen times a second and paints only what is
    visible. Colours in the log are kept, every other control sequence is removed; a progress bar
    redrawn with ``\r`` is one line that updates.

    Args:
        store: The log; an empty one of its own if None.
        placeholder: What to say while there are no lines.
    """

    HELP: ClassVar[str] = log_keys.HELP
    BINDINGS: ClassVar[list[BindingType]] = log_keys.BINDINGS

    DEFAULT_CSS = """
    LogPane {
        height: 1fr;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        &:focus, &:focus-within { border: round $primary; border-title-style: bold; }
        &:nocolor:focus, &:nocolor:focus-within { border: heavy $primary; }
    }
    """

    follow: reactive[bool] = reactive(True, init=False)
    """Whether the view stays at the newest line."""

    @dataclass
    class FollowChanged(Message):
        """Following began or was let go.

        Attributes:
            pane: The pane.
            follow: Whether it follows now.
        """

        pane: LogPane
        follow: bool

        @property
        def control(self) -> LogPane:
            """The pane, for ``@on`` selectors."""
            return self.pane

    def __init__(
        self,
        store: LogStore | None = None,
        *,
        placeholder: str = "no log lines yet",
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.store = LogStore() if store is None else store
        self._own_store = store is None
        self.viewport = LogViewport(self.store)
        self.border_title = "Log"
        self._log_view = LogView(self.viewport, placeholder)
        self._pace = Pace()
        self._painted: object = -1
        self._problem: str | None = None
        self._search = LogSearch(self.store)
        self._filter = LogFilter(self.store)
        self._jump = LogJump()
        self._steps = StepIndex(self.store)
        self.export_name = "log"
        self.export_folder: Path | None = None

    def compose(self) -> ComposeResult:
        """The rows, and the lines to type into below them."""
        yield self._log_view
        yield self._search
        yield self._filter
        yield self._jump

    def on_mount(self) -> None:
        """Start looking for new lines."""
        self.set_interval(1 / _FLUSH_HZ, self._flush)

    def on_unmount(self) -> None:
        """Let go of the lines, if they are the pane's own."""
        if self._own_store:
            self.store.close()

    # -- lines --------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Append a chunk of the log, cut anywhere; cheap, it paints nothing by itself.

        Raises:
            ValueError: The pane shows a store that reads a file.
        """
        self.store.feed(data)

    def clear(self) -> None:
        """Remove all lines and follow."""
        self.store.clear()
        self._end_selection()
        self.follow = True
        self._log_view.forget_strips()

    def use_store(self, store: LogStore) -> None:
        """Show another log, following it; the caller closes the store when it is no longer needed."""
        if self._own_store:
            self.store.close()
        self.store, self._own_store = store, False
        self._steps = StepIndex(store)
        self._end_selection()
        self._show_lines(store)
        self._filter.look_at(store)
        self._search.look_at(store, self._filter.shown)
        self.follow = True

    def _show_lines(self, lines: Lines) -> None:
        viewport = LogViewport(lines)
        viewport.like(self.viewport)
        viewport.follow = self.follow
        self.viewport = viewport
        self._log_view.show_viewport(viewport)
        self._painted = -1

    def note_input(self) -> None:
        """Say that the user pressed a key somewhere: painting waits a moment, so that it acts at once.

        The pane notices its own keys; an app may call this for all others.
        """
        self._pace.note_input(time.monotonic())

    def _flush(self) -> None:
        store = self.store
        store.poll(0.02)
        if store.problem != self._problem:
            self._problem = store.problem
            self.border_subtitle = Content(store.problem) if store.problem else None
        # A hidden pane has no size; an inactive screen paints nothing.
        self._filter.catch_up()
        lines = self.viewport.store
        if lines.version == self._painted or not self.screen.is_current:
            return
        busy = self.app.message_queue_size > 0 or self.screen.message_queue_size > 0
        if not self._pace.may_paint(time.monotonic(), busy=busy):
            return
        self._painted = lines.version
        self._log_view.update_rows()
        self._sync_search()

    def _moved(self) -> None:
        """After the viewport moved: tell and paint."""
        self.follow = self.viewport.follow
        self._log_view.update_rows()
        self._sync_search()

    def _sync_search(self) -> None:
        if self.viewport.rows:
            self._search.origin = self.number(self.viewport.rows[0][0])
        self._search.update_results()

    def watch_follow(self, follow: bool) -> None:
        """Hold or release the view."""
        self.viewport.follow = follow
        self.set_class(not follow, "-paused")
        self._log_view.update_rows()
        self._log_view.refresh()  # the pill comes or goes
        self.post_message(self.FollowChanged(self, follow))

    # -- moving -------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """Note that the user is busy; bindings do the rest."""
        self.note_input()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Three rows up."""
        event.stop()
        self.note_input()
        self.action_move(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Three rows down."""
        event.stop()
        self.note_input()
        self.action_move(3)

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        """Pan left."""
        event.stop()
        self.action_pan(-8)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        """Pan right."""
        event.stop()
        self.action_pan(8)

    @on(LogView.Moved)
    def _view_moved(self, event: LogView.Moved) -> None:
        event.stop()
        self._moved()

    def action_move(self, rows: int) -> None:
        """Move by rows, or a selected line by lines."""
        if self._selection is not None and abs(rows) == 1:
            self._move_selection(rows)
            return
        self.viewport.move(rows)
        self._moved()

    def action_page(self, pages: int) -> None:
        """Move by pages, keeping one row of the last."""
        self.action_move(pages * max(1, self.viewport.height - 1))

    def action_top(self) -> None:
        """Go to the first line."""
        self.viewport.go_to_top()
        self._moved()

    def action_end(self) -> None:
        """Go to the end and follow."""
        self.follow = True

    def action_toggle_follow(self) -> None:
        """Follow, or pause where the view is."""
        self.follow = not self.follow

    def action_toggle_wrap(self) -> None:
        """Wrap long lines, or not."""
        self.viewport.set_wrap(not self.viewport.wrap)
        self._log_view.forget_strips()

    def action_toggle_times(self) -> None:
        """Show or hide the times at the beginnings of lines."""
        self.viewport.set_times(not self.viewport.times)
        self._log_view.forget_strips()

    def action_pan(self, cells: int) -> None:
        """Shift sideways; nothing while wrapping."""
        before = self.viewport.pan
        self.viewport.pan_by(cells)
        if self.viewport.pan != before:
            self._log_view.forget_strips()

    # -- search -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Search keys exist while there is a search, so that Esc and n are free for others otherwise."""
        if action in ("next_match", "previous_match"):
            return self._search.active
        if action == "end_search":
            return bool(self._selection) or self._search.active or self._filter.active or self._jump.active
        return True

    def action_search(self) -> None:
        """Open the search line."""
        self._search.open()
        self.refresh_bindings()

    def action_end_search(self) -> None:
        """Close what is typed into; or else end the selection, then the search, then the filter."""
        if self._jump.active:
            self._jump.close()
        elif self._selection and not (self._search.typing or self._filter.typing):
            self._end_selection(told=True)
        elif self._search.active and not self._filter.typing:
            self._search.close()
        else:
            self._filter.close()
        self.refresh_bindings()

    def action_next_match(self) -> None:
        """Go to the next matching line, from the last one round to the first."""
        self._search.step(1)

    def action_previous_match(self) -> None:
        """Go to the matching line before, from the first one round to the last."""
        self._search.step(-1)

    @on(LogPrompt.Left)
    def _line_left(self, event: Message) -> None:
        event.stop()
        self.focus()
        self.refresh_bindings()

    @on(LogSearch.Changed)
    def _search_changed(self, event: LogSearch.Changed) -> None:
        event.stop()
        results = self._search.results
        current = results.current if results is not None else None
        if current is not None and current < self.store.stop:
            current = self.position(current)
        self._log_view.set_highlight(results.query if results else None, current)

    @on(LogSearch.GoTo)
    def _go_to_match(self, event: LogSearch.GoTo) -> None:
        event.stop()
        results = self._search.results
        if results is not None and self.store.first <= event.line < self.store.stop:
            line = self.position(event.line)
            spans = results.query.spans(self.viewport.line(line).text)
            self.viewport.reveal(line, spans[0][0] if spans else 0)
            self._moved()
            self._log_view.forget_strips()

    # -- filter -------------------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Type which lines to show."""
        self._filter.open()
        self.refresh_bindings()

    def action_next_level(self) -> None:
        """Show only lines from the next level on."""
        self._filter.next_level()
        self.refresh_bindings()

    def action_toggle_regex(self) -> None:
        """Search and filter by regular expression, or by plain text."""
        if self._filter.typing or not self._search.active:
            self._filter.toggle_regex()
        if not self._filter.typing:
            self._search.toggle_regex()

    @on(LogFilter.Changed)
    def _filter_changed(self, event: LogFilter.Changed) -> None:
        event.stop()
        top = self.number(self.viewport.rows[0][0]) if self.viewport.rows and not self.follow else None
        self._end_selection(told=True)
        filtered = self._filter.filtered
        self._show_lines(self.store if filtered is None else filtered)
        self._search.look_at(self.store, self._filter.shown)
        if top is not None and filtered is None:
            self.viewport.go_to(min(top, self.store.stop - 1))
            self._moved()
