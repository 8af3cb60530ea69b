"""The container's standard output, written in few, large pieces.

Whatever reads it must never be able to hold up training: what cannot be written for a while is kept up
to a limit and then dropped. Nothing is lost by that: events and log are on the volume as well, and the
viewer fills gaps from there.
"""

from __future__ import annotations

import os
import threading
import time

INTERVAL = 0.04
"""Seconds between two writes."""

_LIMIT = 32 << 20  # characters that may wait
_PIECE = 64 << 10  # bytes of one write


class Output:
    """Writes whole lines to a file descriptor from a thread of its own.

    Args:
        descriptor: Where to; standard output by default. It stays open.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._waiting: list[str] = []
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def write(self, lines: str) -> None:
        """Print ``lines``, each with its newline; returns at once."""
        if not lines:
            return
        with self._changed:
            if self._broken or self._size + len(lines) > _LIMIT:
                return
            self._waiting.append(lines)
            self._size += len(lines)
            self._changed.notify()

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, for at most ``patience`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                text = "".join(self._waiting)
                self._waiting.clear()
                self._size = 0
                closed = self._closed
            try:
                self._write(text.encode("utf-8", "replace"))
            except OSError:  # nobody reads any more
                with self._changed:
                    self._broken = True
                    return
            if not closed:
                time.sleep(INTERVAL)

    def _write(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            end = min(start + _PIECE, len(data))
            if end < len(data):  # a piece ends with a line where that is possible
                end = data.rfind(b"\n", start, end) + 1 or end
            try:
                start += os.write(self._descriptor, data[start:end])
            except BlockingIOError:
                time.sleep(INTERVAL)
