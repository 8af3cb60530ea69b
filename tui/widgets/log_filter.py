"""The filter line of a :class:`~tui.widgets.log_pane.LogPane`: which lines are shown."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.message import Message
from textual.widgets import Input
from textual.worker import Worker, get_current_worker

from tui.logs.filtered import FilteredLog
from tui.logs.levels import Level
from tui.logs.search import LineFilter, Query, level_before
from tui.widgets.log_prompt import LogPrompt

if TYPE_CHECKING:
    from tui.logs.store import LogStore

_REPORT = 0.05  # seconds between the thread's reports
_LEVELS = (None, Level.INFO, Level.WARNING, Level.ERROR)


class LogFilter(LogPrompt):
    """Finds the lines that a level and a text let through, in a thread, also while the log grows.

    Hidden until there is a level or :meth:`open` was called.

    Attributes:
        filtered: The lines let through; None while nothing is filtered.
        regex: Whether what is typed is a regular expression.
        level: The least serious level shown; None shows all.
    """

    PROMPT = "filter "
    PLACEHOLDER = "only lines with this text"

    class Changed(Message):
        """Other lines are let through now."""

    @dataclass
    class _Found(Message):
        filtered: FilteredLog
        lines: array[int]
        searched: int
        done: bool

    def __init__(self, store: LogStore) -> None:
        super().__init__()
        self.filtered: FilteredLog | None = None
        self.regex = False
        self.level: Level | None = None
        self._store = store
        self._thread: Worker[None] | None = None

    @property
    def shown(self) -> LineFilter | None:
        """What is let through; None for everything."""
        return self.filtered.shown if self.filtered is not None else None

    # -- choosing -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Hide it and let everything through."""
        if self.active:
            self._leave()
            self.remove_class("-open")
            self.level = None
            with self._input.prevent(Input.Changed):
                self._input.value = ""
            self._apply()

    def next_level(self) -> None:
        """All lines, then info and worse, warnings and worse, errors."""
        self.level = _LEVELS[(_LEVELS.index(self.level) + 1) % len(_LEVELS)]
        self.set_class(self.level is not None or bool(self._input.value) or self.typing, "-open")
        self._apply()

    def toggle_regex(self) -> None:
        """Take what is typed as a regular expression, or as it stands."""
        self.regex = not self.regex
        self._apply()

    def look_at(self, store: LogStore) -> None:
        """Filter another log from now on."""
        self._store = store
        self._apply()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self.active:
            self._apply()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._leave()
        if self.filtered is None:
            self.close()

    # -- finding ------------------------------------------------------------------------------------

    def _apply(self) -> None:
        if self._thread is not None:
            self._thread.cancel()
            self._thread = None
        text = self._input.value if self.active else ""
        shown = LineFilter(self.level, Query(text, self.regex) if text else None)
        self.filtered = FilteredLog(self._store, shown) if shown.active else None
        words = "filter " + (f"{self.level}+ " if self.level else "") + ("regex " if self.regex else "")
        self._set_prompt(words)
        self.post_message(self.Changed())
        self.catch_up()

    def catch_up(self) -> None:
        """Look at the lines that came since; cheap enough for every repaint."""
        filtered = self.filtered
        if filtered is None:
            return
        filtered.refresh()
        if self._thread is None and filtered.searched < self._store.complete:
            self._thread = self.run_worker(
                lambda: self._find(filtered),
                name="log filter",
                group="log-filter",
                exclusive=True,
                thread=True,
                exit_on_error=False,
            )
        self._show()

    def _find(self, filtered: FilteredLog) -> None:
        """Go on from where ``filtered`` ends; report now and then. Runs in a thread."""
        worker, store = get_current_worker(), filtered.store
        lines, searched = array("Q"), filtered.searched
        level = level_before(store, searched)
        reported = time.monotonic()
        for number, chunk in store.chunks(searched):
            if worker.is_cancelled:
                return
            found, level = filtered.shown.keep(number, chunk, level)
            lines.extend(found)
            searched = number + chunk.count(b"\n")
            if time.monotonic() - reported >= _REPORT:
                self.post_message(self._Found(filtered, lines, searched, False))
                lines, reported = array("Q"), time.monotonic()
        self.post_message(self._Found(filtered, lines, searched, True))

    @on(_Found)
    def _take(self, event: _Found) -> None:
        event.stop()
        if event.filtered is not self.filtered:
            return  # of a filter that was given up
        event.filtered.add(event.lines, event.searched)
        if event.done:
            self._thread = None
        self._show()

    def _show(self) -> None:
        filtered = self.filtered
        text = ""
        if filtered is not None:
            problem = filtered.shown.query.problem if filtered.shown.query else None
            more = "…" if self._thread is not None else ""
            text = problem or f"{len(filtered):,} of {len(self._store):,}{more}"
        self.say(text)
