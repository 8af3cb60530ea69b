"""What happened to a run, in the order in which it happened: a few lines instead of thousands of events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from backend.events import (
    CONTAINER_STRIDE,
    AttemptEvent,
    CheckpointEvent,
    CommandEvent,
    ErrorEvent,
    Event,
    Phase,
    PhaseEvent,
    SampleEvent,
    StatusEvent,
    StepEvent,
    WarningEvent,
)

Kind = Literal["status", "phase", "attempt", "moved", "checkpoint", "samples", "asked", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened.

    Attributes:
        t: When, seconds since 1970.
        kind: What.
        step: Updates done then.
        text: A few words.
    """

    t: float
    kind: Kind
    step: int
    text: str


class Timeline:
    """Takes in a run's events, in order.

    Attributes:
        entries: What happened, the oldest first.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._step = 0
        self._phase = ""
        self._container = 0
        self._round = (0, 0)  # step and pictures of the newest round of samples

    def take(self, events: Iterable[Event]) -> None:
        """Take in events."""
        for event in events:
            number = event.seq // CONTAINER_STRIDE
            if number > self._container:
                if self._container:
                    self._add(event, "moved", f"preempted: container {number} takes over")
                self._container = number
            self._take(event)

    def _add(self, event: Event, kind: Kind, text: str) -> None:
        self.entries.append(Entry(event.t, kind, self._step, text))

    def _take(self, event: Event) -> None:
        match event:
            case StepEvent():
                self._step = event.step
            case StatusEvent():
                self._add(
                    event, "status", f"{event.status}: {event.reason}" if event.reason else event.status
                )
            case PhaseEvent():
                name = event.phase
                if name != self._phase and name not in (Phase.SAMPLING, Phase.SAVING, Phase.TRAINING):
                    self._add(event, "phase", name)
                self._phase = name
            case AttemptEvent():
                self._step = event.step
                where = f" on {event.device}" if event.device else ""
                how = "began" if event.attempt == 1 else f"resumed (attempt {event.attempt})"
                self._add(event, "attempt", f"{how} at step {event.step} of {event.steps}{where}")
            case CheckpointEvent():
                marks = " (final)" if event.final else " (best)" if event.best else ""
                self._add(event, "checkpoint", event.path.rpartition("/")[2] + marks)
            case SampleEvent():
                step, count = self._round
                again = step == event.step and self.entries and self.entries[-1].kind == "samples"
                count = count + 1 if again else 1
                self._round = event.step, count
                if again:
                    self.entries.pop()
                self._add(event, "samples", f"{count} picture{'s' if count > 1 else ''} of step {event.step}")
            case CommandEvent():
                done = event.detail or ("done" if event.ok else "refused")
                self._add(event, "asked", f"{event.kind}: {done}")
            case WarningEvent():
                self._add(event, "warning", event.message)
            case ErrorEvent():
                self._add(event, "error", event.message)
            case _:
                pass
