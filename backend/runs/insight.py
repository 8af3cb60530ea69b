"""All that can be learnt from a run's events while it is watched."""

from __future__ import annotations

from collections.abc import Sequence

from backend.events import Event
from backend.runs.eta import EtaEstimate
from backend.runs.signals import LearningSignals
from backend.runs.timeline import Timeline


class RunInsight:
    """Takes in a run's events, in order and in any portions; one that was seen before is skipped.

    Attributes:
        signals: What its curves say.
        eta: When it will be done.
        timeline: What happened to it.
    """

    def __init__(self) -> None:
        self.signals = LearningSignals()
        self.eta = EtaEstimate()
        self.timeline = Timeline()
        self._seq = 0

    def take(self, events: Sequence[Event]) -> None:
        """Take in events."""
        fresh = []
        for event in events:
            if event.seq and event.seq <= self._seq:
                continue
            self._seq = max(self._seq, event.seq)
            fresh.append(event)
        self.signals.take(fresh)
        self.eta.take(fresh)
        self.timeline.take(fresh)
