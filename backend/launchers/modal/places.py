"""Files in the local folder of a run on Modal, beside those that every run has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from backend.runs.folder import RunFolder


@dataclass(frozen=True)
class Places:
    """Where the app and the courier of a run leave things for each other."""

    folder: RunFolder

    @property
    def lock(self) -> Path:
        """Held by the courier while it works."""
        return self.folder.state / "courier.lock"

    @property
    def outbox(self) -> Path:
        """Commands that are to be carried to the container."""
        return self.folder.state / "outbox"

    @property
    def stop(self) -> Path:
        """Asks to stop: ``{"now": bool}``."""
        return self.folder.state / "stop-request.json"

    @property
    def watched(self) -> Path:
        """Its time says when somebody last looked at the run."""
        return self.folder.state / "watched"

    @property
    def link(self) -> Path:
        """How the courier reaches Modal: ``{"online": bool, "since": seconds, "why": sentence}``."""
        return self.folder.state / "link.json"

    @property
    def manifest(self) -> Path:
        """The run's files on the volume, as last seen."""
        return self.folder.state / "manifest.json"

    @property
    def diary(self) -> Path:
        """What the courier's own process printed: for finding faults of ours."""
        return self.folder.state / "courier.log"

    def look(self) -> None:
        """Note that somebody looks at the run."""
        self.watched.touch()

    def last_look(self) -> float:
        """When somebody last looked, seconds since 1970; 0 if never."""
        try:
            return self.watched.stat().st_mtime
        except OSError:
            return 0.0

    def unwatched_for(self) -> float:
        """Seconds since somebody last looked."""
        return time.time() - self.last_look()
