"""The search line of a :class:`~tui.widgets.log_pane.LogPane`: what is typed, what was found."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.message import Message
from textual.widgets import Input
from textual.worker import Worker, get_current_worker

from tui.logs.search import LineFilter, Query, SearchResults, level_before, search
from tui.widgets.log_prompt import LogPrompt

if TYPE_CHECKING:
    from textual import events

    from tui.logs.store import LogStore

_RESEARCH = 0.25  # seconds between looks at what came in after a search
_REPORT = 0.05  # seconds between the search thread's reports


class LogSearch(LogPrompt):
    """Searches a whole log in a thread while one types, and walks through the matches.

    Hidden until :meth:`open`. It searches the log that it was told of last (:meth:`look_at`).

    Attributes:
        results: What was found so far; None while nothing is searched for.
        regex: Whether what is typed is a regular expression.
        among: Matches in lines that this filter hides do not count; None counts all.
        origin: The line from which the nearest match is looked for: the top one on the screen.
    """

    PROMPT = "/"
    PLACEHOLDER = "search"
    DEFAULT_CSS: ClassVar[str] = "LogSearch > .log-prompt--prompt { color: $foreground; }"

    class Changed(Message):
        """What is searched for, or what was found, changed."""

    @dataclass
    class GoTo(Message):
        """The user wants to see a match.

        Attributes:
            line: Its line.
        """

        line: int

    @dataclass
    class _Found(Message):
        results: SearchResults
        lines: array[int]
        searched: int
        done: bool

    def __init__(self, store: LogStore) -> None:
        super().__init__()
        self.results: SearchResults | None = None
        self.origin = 0
        self.regex = False
        self.among: LineFilter | None = None
        self._store = store
        self._thread: Worker[None] | None = None
        self._started = 0.0
        self._jump_pending = False

    # -- opening and closing ------------------------------------------------------------------------

    def close(self) -> None:
        """Hide it and forget what was found."""
        if self.active:
            self._leave()
            self.remove_class("-open")
            self._set_query("")

    def toggle_regex(self) -> None:
        """Take what is typed as a regular expression, or as it stands."""
        self.regex = not self.regex
        self._set_prompt("regex/" if self.regex else "/")
        self._set_query(self._input.value if self.active else "")

    def look_at(self, store: LogStore, among: LineFilter | None = None) -> None:
        """Search another log, or among other lines of it, from now on."""
        self._store, self.among = store, among
        self._set_query(self.results.query.text if self.results else "")

    # -- typing -------------------------------------------------------------------------------------

    def on_key(self, event: events.Key) -> None:
        """The arrows walk through the matches without leaving the input."""
        if event.key in ("up", "down") and self._input.has_focus:
            event.stop()
            event.prevent_default()
            self.step(-1 if event.key == "up" else 1)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.active:
            self._set_query(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()
        if not event.value:
            self.close()
            return
        if self.results is None or self.results.query.text != event.value:
            self._set_query(event.value)
        self._jump_pending = True
        self._try_jump()

    # -- searching ----------------------------------------------------------------------------------

    def _set_query(self, text: str) -> None:
        self._jump_pending = False
        if self._thread is not None:
            self._thread.cancel()
            self._thread = None
        self.results = SearchResults(Query(text, self.regex), self._store.first) if text else None
        self._start()
        self._show()

    def _start(self) -> None:
        results, store = self.results, self._store
        if results is None:
            return
        self._started = time.monotonic()
        self._thread = self.run_worker(
            lambda: self._search(store, results),
            name="log search",
            group="log-search",
            exclusive=True,
            thread=True,
            exit_on_error=False,
        )

    def _search(self, store: LogStore, results: SearchResults) -> None:
        """Search from where ``results`` ends; report now and then. Runs in a thread."""
        worker, among = get_current_worker(), self.among
        lines, searched = array("Q"), results.searched
        reported = time.monotonic()
        for searched, found in search(store, results.query, results.searched, among):
            if worker.is_cancelled:
                return
            lines.extend(found)
            if time.monotonic() - reported >= _REPORT:
                self.post_message(self._Found(results, lines, searched, False))
                lines, reported = array("Q"), time.monotonic()
        self.post_message(self._Found(results, lines, searched, True))

    @on(_Found)
    def _take_results(self, event: _Found) -> None:
        event.stop()
        if event.results is not self.results:
            return  # of a search that was given up
        event.results.add(event.lines, event.searched)
        if event.done:
            self._thread = None
        self._look_at_ends()
        self._try_jump()
        self._show()

    def update_results(self) -> None:
        """Take in what came to the log since, or went from it; cheap enough for every repaint."""
        results, store = self.results, self._store
        if results is None:
            return
        if results.searched > store.complete:  # cleared, or the file was replaced
            self._set_query(results.query.text)
            return
        self._look_at_ends()
        due = time.monotonic() - self._started >= _RESEARCH
        if self._thread is None and results.searched < store.complete and due:
            self._start()
        self._show()

    def _look_at_ends(self) -> None:
        """Forget matches in lines that were dropped; look at the unfinished last line."""
        results, store = self.results, self._store
        if results is None:
            return
        results.drop_before(store.first)
        last = store.stop - 1
        matches = store.stop > store.complete and results.query.matches(store.line(last).text)
        if matches and self.among is not None:
            matches = self.among.shows(store.line(last).text, level_before(store, last))
        results.set_tail(last if matches else None)

    # -- going --------------------------------------------------------------------------------------

    def step(self, direction: int) -> None:
        """Go to the next (1) or previous (-1) matching line, round the ends of the log."""
        if self.results is not None:
            self._go(self.results.step(direction, self.origin))

    def _try_jump(self) -> None:
        """After Enter: go to the nearest match as soon as the search has come far enough to know it."""
        if self._jump_pending and self.results is not None:
            line = self.results.nearest(self.origin, complete=self._thread is None)
            if line is not None or self._thread is None:
                self._jump_pending = False
                self._go(line)

    def _go(self, line: int | None) -> None:
        if line is not None:
            self.post_message(self.GoTo(line))
        self._show()

    def _show(self) -> None:
        """Bring the count up to date."""
        results = self.results
        text = ""
        if results is not None:
            more = "…" if self._thread is not None else ""
            if results.query.problem:
                text = results.query.problem
            elif results.position:
                text = f"{results.position:,}/{results.count:,}{more}"
                text += " wrapped" if results.wrapped else ""
            elif results.count or more:
                text = f"{results.count:,}{more} match{'' if results.count == 1 else 'es'}"
            else:
                text = "no match"
        self.say(text)
        self.post_message(self.Changed())
