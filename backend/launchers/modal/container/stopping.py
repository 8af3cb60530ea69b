"""Making the trainer stop: asked once, with the reason, and ended if it takes too long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from backend.launchers.modal.container.child import Child
from backend.runs.stop_request import StopRequest, write_stop


class Stopping:
    """Requests to stop; safe to use from several threads.

    Args:
        grace: Seconds that the trainer has, by the request's ``why``.
    """

    def __init__(self, grace: Mapping[str, float]) -> None:
        self._grace = grace
        self._lock = threading.Lock()
        self._stop_file: Path | None = None
        self._child: Child | None = None
        self._ends = float("inf")
        self._request: StopRequest | None = None

    @property
    def request(self) -> StopRequest | None:
        """What the trainer was asked to stop for first; None if it was not."""
        return self._request

    @property
    def overdue(self) -> bool:
        """Whether the trainer has had its time."""
        return time.monotonic() >= self._ends

    @property
    def in_a_hurry(self) -> bool:
        """Whether the container itself is taken away."""
        return self._request is not None and self._request.why in ("preempted", "cancelled")

    def ask(self, request: StopRequest) -> None:
        """Ask the trainer to save and stop. A second request can only leave it less time."""
        with self._lock:
            self._ends = min(self._ends, time.monotonic() + self._grace[request.why])
            if self._request is None:
                self._request = request
                self._tell()

    def attach(self, child: Child, stop_file: Path) -> None:
        """From now on, this is the process to ask."""
        with self._lock:
            self._child, self._stop_file = child, stop_file
            if self._request is not None:
                self._tell()

    def _tell(self) -> None:
        if self._child is None or self._stop_file is None or self._request is None:
            return
        with contextlib.suppress(OSError):  # a full volume: the signal alone has to do
            write_stop(self._stop_file, self._request)
        self._child.terminate()
