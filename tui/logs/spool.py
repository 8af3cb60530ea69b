"""Bytes that can be read again by offset: a file that grows elsewhere, or a temporary one of our own."""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from typing import BinaryIO, cast

from tui.logs.index import LineIndex

_BUFFER = 64 * 1024


class Segment:
    """A stretch of the log with its own index; line numbers start at ``first``.

    Reads may come from any thread. A segment that was closed reads as empty, so that a search which
    is still at it ends quietly.
    """

    def __init__(self, file: BinaryIO, first: int = 0) -> None:
        self.index = LineIndex()
        self.first = first
        self._file = file
        self._lock = threading.Lock()
        self._written = 0
        self._buffer = bytearray()  # what follows the file's end: small chunks cost no system call each

    @property
    def stop(self) -> int:
        """The number after its last whole line."""
        return self.first + self.index.lines

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` to ``end``, or fewer where the file has no more."""
        with self._lock, contextlib.suppress(ValueError, OSError):
            if not self._buffer:
                self._file.seek(start)
                return self._file.read(max(0, end - start)) or b""
            data = b""
            if start < self._written:
                self._file.seek(start)
                data = self._file.read(min(end, self._written) - start) or b""
            return data + self._buffer[max(0, start - self._written) : max(0, end - self._written)]
        return b""

    def append(self, data: bytes) -> None:
        """Put ``data`` at the end and index it.

        Raises:
            OSError: The disk is full. ``data`` counts and can be read, but it and what came before it is
                in memory: better append no more.
        """
        with self._lock:
            self._buffer += data
            self.index.add(data)
            if len(self._buffer) >= _BUFFER:
                self._file.seek(self._written)
                while self._buffer:
                    written = self._file.write(self._buffer)
                    self._written += written
                    del self._buffer[:written]

    def close(self) -> None:
        """Let go of the file; a temporary one is gone then."""
        with self._lock:
            self._buffer.clear()
            self._file.close()


def temporary_file() -> BinaryIO:
    """A nameless temporary file (it cannot outlive the process); memory if there is no room for one."""
    try:
        return cast("BinaryIO", tempfile.TemporaryFile(prefix="fluxlora-log-", buffering=0))
    except OSError:
        return io.BytesIO()
