"""Going to places of a :class:`~tui.widgets.log_pane.LogPane`: a line, a time of day, a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.message import Message
from textual.worker import get_current_worker

from tui.logs.places import StepIndex, find_time
from tui.widgets.log_jump import LogJump
from tui.widgets.log_selection import LogSelection


class LogPlaces(LogSelection):
    """The part of a log pane that finds lines in a thread, and shows them."""

    if TYPE_CHECKING:  # the pane's own
        _jump: LogJump
        _steps: StepIndex

    @dataclass
    class _Place(Message):
        line: int | None
        what: str
        select: bool

    def action_jump(self) -> None:
        """Type where to go."""
        self._jump.open()
        self.refresh_bindings()

    @on(LogJump.GoTo)
    def _jump_to(self, event: LogJump.GoTo) -> None:
        event.stop()
        if event.kind == "line":
            self._reveal(self.store.first + event.value - 1, select=True)
        elif event.kind == "step":
            self._find_step(event.value, select=True)
        else:
            self._find_time(event.value)

    def show_step(self, step: float | None) -> None:
        """Select the line that tells of the step nearest to ``step``, without telling; None ends that."""
        if step is not None:
            self._linked = self._linked or self.follow
            self._find_step(step, select=False)
        else:
            self._end_selection()
            if self._linked:
                self.follow = True
            self._linked = False

    def _find_step(self, step: float, *, select: bool) -> None:
        index = self._steps

        def find() -> None:
            worker = get_current_worker()
            for _ in index.catch_up():
                if worker.is_cancelled:
                    return
            self.post_message(self._Place(index.line_of(step), f"step {step:g}", select))

        self._run_finder(find)

    def _find_time(self, seconds: int) -> None:
        store = self.store

        def find() -> None:
            worker, line = get_current_worker(), None
            for best in find_time(store, seconds):
                line = best
                if worker.is_cancelled:
                    return
            self.post_message(self._Place(line, "time", True))

        self._run_finder(find)

    def _run_finder(self, find: Callable[[], None]) -> None:
        self.run_worker(
            find, name="log place", group="log-place", exclusive=True, thread=True, exit_on_error=False
        )

    @on(_Place)
    def _found_place(self, event: _Place) -> None:
        event.stop()
        if event.line is not None:
            self._reveal(event.line, select=event.select)
        elif event.select:
            self.notify(f"No line of the log tells of a {event.what}.", markup=False)

    def _reveal(self, number: int, *, select: bool) -> None:
        lines = self.viewport.store
        if not len(lines):
            return
        line = min(max(self.position(number), lines.first), lines.stop - 1)
        self.viewport.reveal(line)
        self._select(line, told=select)
        self._moved()
