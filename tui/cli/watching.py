"""A run as a command watches it: its own words, and what its launcher knows of it."""

from __future__ import annotations

from collections.abc import Sequence

from backend.events import Event
from backend.launchers.base import RunFacts, RunState
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.service import RunService
from backend.runs.stream import EventTail
from backend.runs.view import RunView


class RunWatch:
    """Reads a run's events bit by bit; every method is a look at small files, without network.

    Attributes:
        record: The run.
        view: What the events read so far add up to.
    """

    def __init__(self, service: RunService, record: RunRecord) -> None:
        self.record = record
        self.view = RunView()
        self._launcher = service.launcher(record)
        self._tail = EventTail(RunFolder(record.path).events)

    def read(self) -> Sequence[Event]:
        """The events that have come since the last look."""
        fresh: list[Event] = []
        while events := self._tail.read():
            fresh += events
        self.view.apply(fresh)
        return fresh

    def state(self) -> RunState:
        """How the run stands, going by the events read so far."""
        return self._launcher.judge(self.record, self.view)

    def facts(self) -> RunFacts:
        """What its launcher knows, going by the events read so far."""
        return self._launcher.facts(self.record, self.view)

    def look(self) -> tuple[Sequence[Event], RunState, RunFacts]:
        """Read on, and judge."""
        return self.read(), self.state(), self.facts()
