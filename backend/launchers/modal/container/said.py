"""What a run has said of itself so far, as far as the supervisor must know it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.events import Status
from backend.launchers.modal import wire


@dataclass
class Said:
    """A few facts that the events lead to.

    Attributes:
        status: The last status.
        reason: The sentence that came with it.
        status_seq: Number of the event that said so.
        error: Code of the last error since the last status that is no end.
        step: Updates done.
        steps: Updates of the whole run.
        saved: Updates done at the last checkpoint that a resume can begin from.
        seq: Highest number seen.
        reached: For each container, the last step that it is known to have done.
    """

    status: Status = Status.QUEUED
    reason: str | None = None
    status_seq: int = 0
    error: str | None = None
    step: int = 0
    steps: int = 0
    saved: int = 0
    seq: int = 0
    reached: dict[int, int] = field(default_factory=dict)

    def apply(self, record: dict[str, Any]) -> None:
        """Take in an event."""
        seq = _whole(record.get("seq"))
        self.seq = max(self.seq, seq)
        match record.get("type"):
            case "step":
                self.step = _whole(record.get("step"))
                self.reached[seq // wire.SEQ_STRIDE] = self.step
            case "attempt":
                self.step, self.steps = _whole(record.get("step")), _whole(record.get("steps"))
            case "checkpoint" if not record.get("best"):
                self.saved = _whole(record.get("step"))
            case "error":
                self.error = str(record.get("code") or "") or None
            case "status":
                try:
                    self.status = Status(str(record.get("status")))
                except ValueError:
                    return
                reason = record.get("reason")
                self.reason = reason if isinstance(reason, str) else None
                self.status_seq = seq
                if not self.status.ended:
                    self.error = None

    @property
    def ended_for_good(self) -> bool:
        """Whether the run said that nothing more is to be done, even if a container begins anew."""
        return self.status in (Status.FINISHED, Status.STOPPED, Status.FAILED)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def parse_event(line: bytes) -> dict[str, Any] | None:
    """The event's JSON object; None for a line that is none."""
    if not line.startswith(b"{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("type"), str) else None


def read_said(path: Path) -> tuple[Said, int]:
    """What the events in a file say, and the file's size at that time."""
    said, offset = Said(), 0
    try:
        with path.open("rb") as file:
            for line in file:
                offset += len(line)
                record = parse_event(line)
                if record is not None:
                    said.apply(record)
    except FileNotFoundError:
        pass
    return said, offset
