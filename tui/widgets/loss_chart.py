"""The chart of a run's loss: events in, curve and marks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backend.events import AttemptEvent, CheckpointEvent, StepEvent, ValidationEvent
from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from backend.events import Event
    from tui.charts.curve import Curve


class LossChart(Chart):
    """Loss over steps, and validation loss where there is one; where a run went back, the curves do too."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(x_label="step", y_label="loss", id=id, classes=classes)
        self.border_title = "Loss"
        self._loss = self.add_series("loss", "loss")
        self._validation: Curve | None = None

    def take_events(self, events: Sequence[Event]) -> None:
        """Add what ``events`` say about the loss."""
        steps: list[float] = []
        losses: list[float] = []
        for event in events:
            if isinstance(event, StepEvent):
                steps.append(event.step)
                losses.append(event.loss)
            elif isinstance(event, AttemptEvent) and (event.attempt > 1 or event.step):
                self._flush(steps, losses)
                self._loss.truncate_after(event.step)
                if self._validation is not None:
                    self._validation.truncate_after(event.step)
                self.mark(event.step, f"attempt {event.attempt}", "resume")
            elif isinstance(event, ValidationEvent):
                if self._validation is None:  # most runs have none: no legend for nothing
                    self._validation = self.add_series("validation", "val", smooth=False)
                self._validation.visible = True
                self._validation.append(event.step, event.loss)
            elif isinstance(event, CheckpointEvent):
                self.mark(event.step, event.path.rpartition("/")[2], "checkpoint")
        self._flush(steps, losses)

    def clear(self) -> None:
        """Remove all points and markers; without points the validation leaves the legend."""
        super().clear()
        if self._validation is not None:
            self._validation.visible = False

    def _flush(self, steps: list[float], losses: list[float]) -> None:
        if steps:
            self._loss.extend(steps, losses)
            steps.clear()
            losses.clear()
