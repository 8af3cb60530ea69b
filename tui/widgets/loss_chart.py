"""The chart of a run's loss: events in, curve and marks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.events import AttemptEvent, CheckpointEvent, StepEvent
from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from backend.events import Event


class LossChart(Chart):
    """Loss over steps; where a resume went back, the curve goes back too."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(x_label="step", y_label="loss", id=id, classes=classes)
        self.border_title = "Loss"
        self._loss = self.add_series("loss", "loss")

    def take_events(self, events: Sequence[Event]) -> None:
        """Add what ``events`` say about the loss."""
        steps: list[float] = []
        losses: list[float] = []
        for event in events:
            if isinstance(event, StepEvent):
                steps.append(event.step)
                losses.append(event.loss)
            elif isinstance(event, AttemptEvent) and event.attempt > 1:
                self._flush(steps, losses)
                self._loss.truncate_after(event.step)
                self.mark(event.step, f"attempt {event.attempt}", "resume")
            elif isinstance(event, CheckpointEvent):
                self.mark(event.step, event.path.rpartition("/")[2], "checkpoint")
        self._flush(steps, losses)

    def _flush(self, steps: list[float], losses: list[float]) -> None:
        if steps:
            self._loss.extend(steps, losses)
            steps.clear()
            losses.clear()
