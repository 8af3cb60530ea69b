"""What the trainer prints, from a pipe into the log, however it prints it."""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from backend.launchers.modal import wire

_INTERVAL = 0.03  # seconds between two looks, so that lines come in batches
_UNFINISHED = 3.0  # seconds after which a line without an end is shown as far as it has come
_LONG = 4 * wire.MAX_LINE  # characters
_PIPE = 1 << 20


class Lines(Protocol):
    """Where lines go."""

    def add(self, lines: Sequence[str]) -> None:
        """Take lines as they were printed, without their ends."""
        ...


class LineSplitter:
    """Cuts a stream of bytes into lines.

    Invalid UTF-8 is replaced; of a line that progress bars overwrite, what they showed last is kept; a
    line that is far too long is cut.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._skipping = False  # the rest of a line that is too long
        self._shown = False  # the beginning of this line was given away already

    @property
    def waiting(self) -> bool:
        """Whether there is the beginning of a line."""
        return bool(self._partial)

    def feed(self, data: bytes, *, final: bool = False) -> list[str]:
        """The lines that ``data`` completes; with ``final``, the unfinished one too."""
        text = self._decoder.decode(data, final)
        lines: list[str] = []
        while text:
            piece, newline, text = text.partition("\n")
            if not self._skipping:
                self._partial += piece
                if len(self._partial) > _LONG:
                    self._shorten()
            if newline:
                self._skipping = False
                if self._partial or not self._shown:
                    lines.append(self._partial)
                self._partial, self._shown = "", False
        if final:
            lines += self.unfinished()
        return lines

    def unfinished(self) -> list[str]:
        """The line that has no end yet; what comes after it will be a line of its own."""
        if not self._partial.strip("\r"):
            return []
        line, self._partial, self._shown = self._partial, "", True
        return [line]

    def _shorten(self) -> None:
        self._partial = self._partial.rstrip("\r").rpartition("\r")[2]
        if len(self._partial) > _LONG:
            self._partial, self._skipping = self._partial[: wire.MAX_LINE + 1], True


class Pump:
    """Reads a pipe until its end and appends its lines to the log.

    Args:
        descriptor: The reading end; closed at the end.
        log: Where lines go.
    """

    def __init__(self, descriptor: int, log: Lines) -> None:
        self._descriptor = descriptor
        self._log = log
        with contextlib.suppress(OSError, AttributeError, ImportError):
            import fcntl

            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)  # Linux: a burst does not stop the trainer
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)
        self._thread.start()

    def join(self, patience: float) -> bool:
        """Wait for the pipe's end; whether it came."""
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        splitter = LineSplitter()
        since = 0.0
        with os.fdopen(self._descriptor, "rb", buffering=0):
            while True:
                timeout = max(0.0, since + _UNFINISHED - time.monotonic()) if splitter.waiting else None
                if not select.select([self._descriptor], [], [], timeout)[0]:
                    self._log.add(splitter.unfinished())
                    since = time.monotonic()
                    continue
                data = os.read(self._descriptor, _PIPE)
                waited = splitter.waiting
                lines = splitter.feed(data, final=not data)
                if lines or not waited:
                    since = time.monotonic()
                elif time.monotonic() - since > _UNFINISHED:  # a progress bar at work
                    lines, since = splitter.unfinished(), time.monotonic()
                if lines:
                    self._log.add(lines)
                if not data:
                    return
                time.sleep(_INTERVAL)
