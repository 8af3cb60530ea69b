"""What the courier itself tells the user: phases and lines in the run's own events and log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backend.events import Event, Phase, PhaseEvent, Status, StatusEvent, WarningEvent

_INTERVAL = 0.25  # seconds between two reports of one phase


@dataclass
class Voice:
    """Writes events and log lines of the launcher's own.

    Attributes:
        event: Writes an event.
        text: Writes a line of the log.
    """

    event: Callable[[Event], None]
    text: Callable[[str], None]
    _phase: str = ""
    _said: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def status(self, status: Status, reason: str | None = None) -> None:
        """Tell a status of the run."""
        with self._lock:
            self.event(StatusEvent(status=status, reason=reason))
        self.line(
            f"{status}: {reason}" if reason else str(status), "ERROR" if status is Status.FAILED else "INFO"
        )

    def phase(self, phase: Phase, done: int = 0, total: int = 0, detail: str | None = None) -> None:
        """Tell how far a phase is; the first and the last report of one always pass."""
        now = time.monotonic()
        with self._lock:
            new = phase.value != self._phase
            if not new and done != total and now - self._said < _INTERVAL:
                return
            self._phase, self._said = phase.value, now
            self.event(PhaseEvent(phase=phase.value, done=done, total=total, detail=detail))
        if new:
            self.line(f"{phase}: {detail}" if detail else str(phase))

    def warning(self, message: str, code: str) -> None:
        """Tell that something is off while the run goes on."""
        with self._lock:
            self.event(WarningEvent(message=message, code=code))
        self.line(message, "WARNING")

    def line(self, text: str, level: str = "INFO") -> None:
        """A line of the log, with the time of day like the trainer's."""
        with self._lock:
            self.text(f"{time.strftime('%H:%M:%S')} {level:<7} {' '.join(text.split())}")
