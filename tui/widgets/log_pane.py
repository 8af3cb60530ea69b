"""A live log: follow and pause, search, wrap or pan. Knows bytes, not runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from tui.logs.pace import Pace
from tui.logs.store import LogStore
from tui.logs.viewport import LogViewport
from tui.widgets.log_search import LogSearch
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

_FLUSH_HZ = 16


class LogPane(Vertical, can_focus=True):
    r"""Shows the log in a :class:`~tui.logs.store.LogStore`, live.

    Feed it bytes as they come (:meth:`feed`), or give it a store over a file that grows
    (:meth:`use_store`); it looks for what is new sixteen times a second and paints only what is
    visible. Colours in the log are kept, every other control sequence is removed; a progress bar
    redrawn with ``\r`` is one line that updates.

    Args:
        store: The log; an empty one of its own if None.
        placeholder: What to say while there are no lines.
    """

    HELP: ClassVar[str] = """
## Log

The run's output, live. It follows the newest line until you move up; the corner then counts what is new.

- **f** or **End** follows again; **Home** goes to the first line.
- **/** searches the whole log. Case counts only if you type capitals. **Enter** goes to the nearest match,
  **n** and **N** to the next and the one before, **Esc** ends the search.
- **w** wraps long lines; unwrapped, **left** and **right** pan. A `›` marks a line that goes on.
"""  # noqa: RUF001

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", id="log.search", tooltip="Search the whole log"),
        Binding("f", "toggle_follow", "Follow", id="log.follow", tooltip="Follow the newest line, or pause"),
        Binding("n", "next_match", "Next", id="log.next-match", tooltip="Go to the next match"),
        Binding("N", "previous_match", "Previous", id="log.previous-match", show=False,
                tooltip="Go to the match before"),
        Binding("w", "toggle_wrap", "Wrap", id="log.wrap", tooltip="Wrap long lines, or pan sideways"),
        Binding("escape", "end_search", "End search", id="log.end-search", show=False,
                tooltip="Close the search and its highlights"),
        Binding("up,k", "move(-1)", "Up", id="log.up", show=False, tooltip="One row up; stops following"),
        Binding("down,j", "move(1)", "Down", id="log.down", show=False, tooltip="One row down"),
        Binding("pageup,ctrl+u", "page(-1)", "Page up", id="log.page-up", show=False, tooltip="One page up"),
        Binding("pagedown,ctrl+d", "page(1)", "Page down", id="log.page-down", show=False,
                tooltip="One page down"),
        Binding("home,g", "top", "First line", id="log.top", show=False, tooltip="Go to the first line"),
        Binding("end,G", "end", "End", id="log.end", show=False, tooltip="Go to the end and follow"),
        Binding("left", "pan(-8)", "Pan left", id="log.pan-left", show=False,
                tooltip="Show more of the left of long lines"),
        Binding("right", "pan(8)", "Pan right", id="log.pan-right", show=False,
                tooltip="Show more of the right of long lines"),
    ]  # fmt: skip

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
        self._painted = -1
        self._problem: str | None = None
        self._search = LogSearch(self.store)

    def compose(self) -> ComposeResult:
        """The rows, and the search line below them."""
        yield self._log_view
        yield self._search

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
        self.follow = True
        self._log_view.forget_strips()

    def use_store(self, store: LogStore) -> None:
        """Show another log, following it; the caller closes the store when it is no longer needed."""
        if self._own_store:
            self.store.close()
        wrap = self.viewport.wrap
        self.store, self._own_store = store, False
        self.viewport = LogViewport(store)
        self.viewport.set_wrap(wrap)
        self._log_view.show_viewport(self.viewport)
        self._search.look_at(store)
        self._painted = -1
        self.follow = True

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
        if store.version == self._painted or not self.screen.is_current:
            return
        busy = self.app.message_queue_size > 0 or self.screen.message_queue_size > 0
        if not self._pace.may_paint(time.monotonic(), busy=busy):
            return
        self._painted = store.version
        self._log_view.update_rows()
        self._sync_search()

    def _moved(self) -> None:
        """After the viewport moved: tell and paint."""
        self.follow = self.viewport.follow
        self._log_view.update_rows()
        self._sync_search()

    def _sync_search(self) -> None:
        if self.viewport.rows:
            self._search.origin = self.viewport.rows[0][0]
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
        """Move by rows."""
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

    def action_pan(self, cells: int) -> None:
        """Shift sideways; nothing while wrapping."""
        before = self.viewport.pan
        self.viewport.pan_by(cells)
        if self.viewport.pan != before:
            self._log_view.forget_strips()

    # -- search -------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Search keys exist while there is a search, so that Esc and n are free for others otherwise."""
        if action in ("next_match", "previous_match", "end_search"):
            return self._search.active
        return True

    def action_search(self) -> None:
        """Open the search line."""
        self._search.open()
        self.refresh_bindings()

    def action_end_search(self) -> None:
        """Close the search line and remove the highlights."""
        self._search.close()
        self.refresh_bindings()

    def action_next_match(self) -> None:
        """Go to the next matching line, from the last one round to the first."""
        self._search.step(1)

    def action_previous_match(self) -> None:
        """Go to the matching line before, from the first one round to the last."""
        self._search.step(-1)

    @on(LogSearch.Left)
    def _search_left(self, event: LogSearch.Left) -> None:
        event.stop()
        self.focus()
        self.refresh_bindings()

    @on(LogSearch.Changed)
    def _search_changed(self, event: LogSearch.Changed) -> None:
        event.stop()
        results = self._search.results
        self._log_view.set_highlight(results.query if results else None, results.current if results else None)

    @on(LogSearch.GoTo)
    def _go_to_match(self, event: LogSearch.GoTo) -> None:
        event.stop()
        results, line = self._search.results, event.line
        if results is not None and self.store.first <= line < self.store.stop:
            spans = results.query.spans(self.viewport.line(line).text)
            self.viewport.reveal(line, spans[0][0] if spans else 0)
            self._moved()
            self._log_view.forget_strips()
