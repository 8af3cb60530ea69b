"""Selecting, copying and saving lines of a :class:`~tui.widgets.log_pane.LogPane`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import on
from textual.containers import Vertical
from textual.message import Message

from tui.exports import export_path
from tui.logs.filtered import FilteredLog
from tui.logs.places import step_at
from tui.runs.log_saving import write_lines
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from pathlib import Path

    from textual.reactive import reactive

    from tui.logs.store import LogStore
    from tui.logs.viewport import LogViewport

_COPY_LINES = 10_000  # terminals refuse far larger clipboards


class LogSelection(Vertical):
    """The part of a log pane that knows which lines are selected, and what to do with them."""

    if TYPE_CHECKING:  # the pane's own
        store: LogStore
        viewport: LogViewport
        follow: reactive[bool]
        export_name: str
        export_folder: Path | None
        _log_view: LogView

        def _moved(self) -> None: ...

    @dataclass
    class LineSelected(Message):
        """The user selected a line.

        Attributes:
            pane: The pane.
            line: Its number in the log; None if nothing is selected any more.
            step: The training step that it, or the nearest line before it, tells of; None if none does.
        """

        pane: LogSelection
        line: int | None
        step: int | None

        @property
        def control(self) -> LogSelection:
            """The pane, for ``@on`` selectors."""
            return self.pane

    @dataclass
    class _Saved(Message):
        text: str
        problem: bool

    def __init__(self, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(name=name, id=id, classes=classes)
        self._selection: tuple[int, int] | None = None  # anchor and end, in the viewport's numbers
        self._linked = False  # whether a step from outside is shown, and following waits

    def number(self, line: int) -> int:
        """The number in the whole log of a line of the viewport."""
        lines = self.viewport.store
        return lines.number(line) if isinstance(lines, FilteredLog) else line

    def position(self, number: int) -> int:
        """The viewport's line that is at ``number`` of the whole log, or after it if a filter hides it."""
        lines = self.viewport.store
        return lines.position(number) if isinstance(lines, FilteredLog) else number

    def _move_selection(self, lines: int) -> None:
        assert self._selection is not None
        log = self.viewport.store
        line = min(max(self._selection[1] + lines, log.first), log.stop - 1)
        self._select(line)
        self.viewport.reveal(line)
        self._moved()

    def _select(self, line: int, *, extend: bool = False, told: bool = True) -> None:
        anchor = self._selection[0] if extend and self._selection else line
        self._selection = (anchor, line)
        self._log_view.set_selected(range(min(anchor, line), max(anchor, line) + 1))
        self.refresh_bindings()
        if told:
            self._linked = False
            number = self.number(line)
            self.post_message(self.LineSelected(self, number, step_at(self.store, number)))

    def _end_selection(self, *, told: bool = False) -> None:
        if self._selection is not None:
            self._selection = None
            self._log_view.set_selected(range(0))
            self.refresh_bindings()
            if told:
                self.post_message(self.LineSelected(self, None, None))

    @on(LogView.Pressed)
    def _pressed(self, event: LogView.Pressed) -> None:
        event.stop()
        self.follow = False
        self._select(event.line, extend=event.extend)

    def action_select(self) -> None:
        """Select the newest line on the screen; if there is a selection, end it."""
        if self._selection is not None:
            self._end_selection(told=True)
        elif self.viewport.rows:
            self.follow = False
            self._select(self.viewport.rows[-1][0])

    def action_extend(self, direction: int) -> None:
        """Select one line more, or one less."""
        if self._selection is None:
            self.action_select()
            return
        lines = self.viewport.store
        line = min(max(self._selection[1] + direction, lines.first), lines.stop - 1)
        self._select(line, extend=True)
        self.viewport.reveal(line)
        self._moved()

    def selected_text(self) -> str:
        """What is selected, as it is shown; the newest line on the screen if nothing is."""
        if self._selection is None:
            lines = (
                range(self.viewport.rows[-1][0], self.viewport.rows[-1][0] + 1) if self.viewport.rows else []
            )
        else:
            low, high = sorted(self._selection)
            lines = range(max(low, self.viewport.store.first), min(high + 1, low + _COPY_LINES))
        return "\n".join(self.viewport.line(line).text for line in lines)

    def action_copy(self) -> None:
        """Copy what is selected to the terminal's clipboard (OSC 52)."""
        text = self.selected_text()
        if text:
            self.app.copy_to_clipboard(text)
            count = text.count("\n") + 1
            self.notify(f"Copied {count:,} line{'s' if count > 1 else ''}.", timeout=2, markup=False)

    def action_save(self) -> None:
        """Write the lines shown to a file, in a thread."""
        if not len(self.viewport.store):
            self.notify("There are no lines to save.", markup=False)
            return
        lines, store = self.viewport.store, self.store
        numbers = (
            list(map(lines.number, range(lines.first, lines.stop)))
            if isinstance(lines, FilteredLog)
            else None
        )

        def save() -> None:
            try:
                path = export_path(self.export_name, ".log", self.export_folder)
                count = write_lines(store, path, numbers)
            except OSError as error:
                self.post_message(self._Saved(f"The log cannot be saved: {error.strerror or error}", True))
            else:
                self.post_message(self._Saved(f"Saved {count:,} lines to {path}", False))

        self.run_worker(save, name="log save", group="log-save", thread=True, exit_on_error=False)

    @on(_Saved)
    def _tell_saved(self, event: _Saved) -> None:
        event.stop()
        self.notify(event.text, severity="error" if event.problem else "information", markup=False)
