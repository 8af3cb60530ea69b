"""What all main screens have: the bar of modes above, the bar of keys below, and the runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from tui.messages import OperationFailed, RunsChanged
from tui.widgets.key_bar import KeyBar
from tui.widgets.mode_bar import ModeBar

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.widget import Widget

    from tui.app import FluxLoraApp


class MainScreen(Screen[None], inherit_bindings=False):
    """Base of the screens that a number key opens."""

    MODE: ClassVar[str] = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "tab", "app.focus_next", "Next pane", show=False, id="pane.next", tooltip="Focus the next pane."
        ),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous pane",
            show=False,
            id="pane.previous",
            tooltip="Focus the previous pane.",
        ),
        Binding(
            "ctrl+c,super+c",
            "screen.copy_text",
            "Copy",
            show=False,
            id="pane.copy",
            tooltip="Copy the text selected with the mouse.",
        ),
    ]

    @property
    def flux(self) -> FluxLoraApp:
        """The app, by its own type."""
        return cast("FluxLoraApp", self.app)

    def compose(self) -> ComposeResult:
        """The screen's own widgets between the two bars."""
        yield ModeBar(self.MODE)
        yield from self.compose_body()
        yield KeyBar()

    def compose_body(self) -> Iterable[Widget]:
        """The screen's own widgets."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Follow the table of runs."""
        feed = self.flux.feed
        self.query_one(ModeBar).show_runs(RunsChanged(feed.runs, feed.live))
        feed.changed.subscribe(self, self._runs_changed)

    def _runs_changed(self, change: RunsChanged) -> None:
        self.query_one(ModeBar).show_runs(change)
        self.show_runs(change)

    def show_runs(self, change: RunsChanged) -> None:
        """Bring the screen up to date with the table of runs."""
        raise NotImplementedError


def report_failure(screen: MainScreen, event: Worker.StateChanged) -> None:
    """Say why a worker failed; what it does is no fault of the user's."""
    if event.state is WorkerState.ERROR:
        error = event.worker.error
        screen.post_message(OperationFailed("That did not work", f"{type(error).__name__}: {error}"))
