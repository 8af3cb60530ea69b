"""Other runs over the loss of the one that a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on, work
from textual.worker import get_current_worker

from tui.messages import OperationFailed
from tui.runs.follower import RunFollower
from tui.screens.run_keys import RunKeys
from tui.widgets.chart_legend import Entry, LegendScreen
from tui.widgets.loss_chart import LossChart

if TYPE_CHECKING:
    from backend.events import Event


class RunOverlays(RunKeys):
    """Base of a screen with a loss chart, over which other runs are laid; they are followed too."""

    @on(LossChart.OverlayWanted)
    def _choose_overlays(self, event: LossChart.OverlayWanted) -> None:
        shown = event.chart.overlays
        others = [run for run in self.flux.feed.runs if run.id != self._run_id]
        if not others:
            self.notify("There is no other run to lay over this one.")
            return
        entries = [Entry(run.id, f"{run.name} · {run.id}", run.id in shown) for run in others]
        self.app.push_screen(LegendScreen(entries, self._toggle_overlay, "Other runs"))

    def _toggle_overlay(self, run_id: str, shown: bool) -> None:
        chart, row = self.query_one(LossChart), self.flux.feed.get(run_id)
        if shown and row is not None:
            chart.overlay(run_id, row.name, ())
            self._follow_overlay(run_id, row.name)
        else:
            chart.remove_overlay(run_id)

    @work(group="follow-overlay", exit_on_error=False)
    async def _follow_overlay(self, run_id: str, name: str) -> None:
        chart, watched = self.query_one(LossChart), self._run_id

        def take(events: Sequence[Event]) -> None:
            if self._run_id != watched or run_id not in chart.overlays:
                worker.cancel()
            else:
                chart.overlay(run_id, name, events)

        worker = get_current_worker()
        try:
            await RunFollower(run_id, take, lambda data: None).events(await self.flux.feed.service())
        except Exception as error:
            self.post_message(
                OperationFailed(f"The run {name} cannot be read", str(error) or type(error).__name__)
            )
