"""Progress on standard error: one line that changes on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from tui.text import size

_INTERVAL = 0.1  # seconds between two changes of the line


class ProgressLine:
    """Shows ``done`` of ``total`` bytes; call it as often as there is news, and :meth:`close` it at the end.

    Args:
        label: What is being done, such as ``downloading``.
        stream: Where to; standard error if None.
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self._label = label
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._said = -1  # tenths told so far
        self._at = 0.0
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is."""
        if total <= 0:
            return
        text = f"{self._label} {size(done)} of {size(total)} ({100 * done // total} %)"
        if self._live:
            now = time.monotonic()
            if done < total and now - self._at < _INTERVAL:
                return
            self._at = now
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif (tenths := 10 * done // total) > self._said:
            self._said = tenths
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the line."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0
