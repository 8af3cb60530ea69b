"""Events that the supervisor writes in the trainer's stead, when that is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backend.events import ErrorEvent, Event, StatusEvent, encode
from backend.launchers.modal import wire
from backend.launchers.modal.container.events import EventFollower
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.said import Said, parse_event
from backend.launchers.modal.container.verdict import Verdict
from backend.runs.stream import EventWriter


class LastWords:
    """Says how a run ended.

    Args:
        path: The events' file; nobody else may write to it any more.
        boot: Number of this container.
        said: What the run said; the follower keeps it up to date.
        follower: Prints what is appended to the file.
        output: Where events are printed that the disk does not take.
    """

    def __init__(self, path: Path, boot: int, said: Said, follower: EventFollower, output: Output) -> None:
        self._path = path
        self._first = boot * wire.SEQ_STRIDE + 1
        self._said = said
        self._follower = follower
        self._output = output

    def speak(self, verdict: Verdict) -> None:
        """Write the verdict's events; on a full disk they are only printed."""
        if verdict.status is None:
            return
        if verdict.error is not None:
            self._write(ErrorEvent(message=verdict.reason, code=verdict.error))
        self._write(StatusEvent(status=verdict.status, reason=verdict.reason))

    def _write(self, event: Event) -> None:
        number = max(self._first, self._said.seq + 1)
        try:
            with EventWriter(self._path, first=number) as writer:
                writer.write(event)
        except OSError:
            line = encode(replace(event, seq=number))
            self._output.write(wire.event_line(line.decode()))
            record = parse_event(line.strip())
            if record is not None:
                self._said.apply(record)
        else:
            self._follower.poll()
