"""The run's log: every line is numbered, kept in ``log.txt`` and printed.

Line ``n`` of a container is the ``n``-th line of ``log.txt`` after the place where that container began,
so that the viewer can fill gaps of one from the other.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backend.credentials.redaction import redact
from backend.launchers.modal import wire
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.sdk import is_full

_PATIENCE = 4 << 20  # bytes that wait for room on the disk


def heal(path: Path) -> int:
    """End a half-written last line; returns the log's size, which is where the next container begins."""
    try:
        with path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                return 0
            file.seek(size - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
                size += 1
            return size
    except FileNotFoundError:
        return 0


class NumberedLog:
    """Appends the lines of one container; safe to use from several threads.

    Args:
        path: ``log.txt``.
        boot: Number of the container.
        output: Where lines are printed.
        on_full: Called, maybe often, when the disk takes no more.
        on_lines: Called when lines have come.
    """

    def __init__(
        self,
        path: Path,
        boot: int,
        output: Output,
        *,
        on_full: Callable[[], None] = lambda: None,
        on_lines: Callable[[], None] = lambda: None,
    ) -> None:
        self._boot = boot
        self._output = output
        self._on_full = on_full
        self._on_lines = on_lines
        self._lock = threading.Lock()
        self._number = 0
        self._unwritten = b""
        self._given_up = False
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:  # printing has to do
            if is_full(error):
                on_full()

    def add(self, lines: Sequence[str]) -> None:
        """Append lines as a process printed them."""
        with self._lock:
            kept, printed = [], []
            for raw in lines:
                text = wire.clean_line(redact(raw).replace("\0", "\ufffd"))
                self._number += 1
                kept.append(text)
                printed.append(wire.log_line(self._boot, self._number, text))
            self._output.write("".join(printed))
            self._keep("".join(f"{text}\n" for text in kept).encode("utf-8", "replace"))
        self._on_lines()

    def say(self, text: str, level: str = "INFO") -> None:
        """Append a line of the supervisor's own, in the trainer's style."""
        self.add([f"{time.strftime('%H:%M:%S')} {level:<7} {' '.join(text.splitlines())}"])

    def close(self) -> None:
        """Close the file; lines are still printed afterwards."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _keep(self, data: bytes) -> None:
        """Write, or remember: a line missing in the middle would move the numbers of all after it."""
        if self._file is None or self._given_up:
            return
        data = self._unwritten + data
        before = None
        try:
            before = os.fstat(self._file).st_size
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, "no space left on device")
            self._unwritten = b""
        except OSError as error:
            self._unwritten = data
            self._given_up = len(data) > _PATIENCE or not self._cut_back(before)
            if is_full(error):
                self._on_full()

    def _cut_back(self, size: int | None) -> bool:
        """Take back what was written of a portion; whether that is done."""
        if size is None or self._file is None:
            return True
        try:
            os.ftruncate(self._file, size)
        except OSError:
            return False
        return True
