"""What the monitor knows of the run that it shows; no screen in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.events import PhaseEvent
from backend.runs.insight import RunInsight
from backend.runs.view import RunView
from tui.runs.status import is_live
from tui.widgets.run_header import RunFacts

if TYPE_CHECKING:
    from backend.events import Event
    from backend.launchers.base import RunState
    from tui.runs.place_watch import Look
    from tui.services import RunRow


class WatchedRun:
    """A run's events added up, with what the table and the launcher know better than they do.

    Attributes:
        view: What the events add up to.
        insight: Signals, time left and timeline.
        truth: How the run stands, once nothing more comes; None before.
        saved: The step of the last resume state that the events tell of.
    """

    def __init__(self) -> None:
        self.view = RunView()
        self.insight = RunInsight()
        self.truth: RunState | None = None
        self.saved: int | None = None
        self._phase: tuple[str, float] = ("", 0.0)  # the present phase, and when it began

    def take(self, events: Sequence[Event]) -> None:
        """Add what ``events`` say; the run goes on."""
        self.truth = None
        for event in events:
            if event.TYPE in ("attempt", "checkpoint"):
                self.saved = getattr(event, "step", self.saved)
            if isinstance(event, PhaseEvent) and event.phase != self._phase[0]:
                self._phase = (event.phase, event.t)
        self.view.apply(events)
        self.insight.take(events)

    def status(self, row: RunRow, *, live: bool) -> tuple[str, str | None]:
        """Status and reason: what the launcher found at the end, or else what fits what is known.

        Args:
            row: The run in the table.
            live: Whether the table is up to date.
        """
        view = self.view
        if self.truth is not None:
            return self.truth.status, self.truth.reason or view.reason
        if live and (is_live(row.status) != is_live(view.status) or row.status == "stopping"):
            return row.status, row.reason  # the table knows about the process, events do not
        return (view.status, view.reason) if view.seq else (row.status, row.reason)

    def facts(self, row: RunRow, now: float, *, live: bool, place: Look | None, asked: str) -> RunFacts:
        """What the header and the overview show.

        Args:
            row: The run in the table.
            now: Seconds since 1970.
            live: Whether the table is up to date.
            place: What is known of the place where it trains.
            asked: What was asked of the trainer, as a sentence.
        """
        status, reason = self.status(row, live=live)
        return RunFacts(
            row,
            self.view,
            status,
            reason,
            now,
            saved=self.view.step if status == "stopped" else self.saved,
            place=place.facts if place is not None else None,
            phase_since=self._phase[1] if self.view.phase == self._phase[0] else None,
            asked=asked,
            other_gpus=place.other_gpus if place is not None else (),
        )
