"""How a run is asked to stop: a signal, or a file where signals do not exist."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from backend.trainer.errors import StopRequested

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)


class StopControl:
    """Notices a request to stop; use it as a context manager in the main thread.

    SIGTERM, SIGINT (and SIGBREAK on Windows) ask to finish the step, save and stop. A second SIGINT
    ends the process at once: somebody at the keyboard is in a hurry. SIGHUP is ignored: a run
    outlives its terminal.

    Args:
        stop_file: Its presence is a request as well; looked at by :meth:`requested`.
        on_request: Called once, at the first sign of a request (maybe inside a signal handler).
    """

    def __init__(self, stop_file: Path, on_request: Callable[[], None]) -> None:
        self._file = os.fspath(stop_file)
        self._on_request = on_request
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopControl:
        for number in _SIGNALS:
            ignore = number == getattr(signal, "SIGHUP", None)
            try:
                self._before[number] = signal.signal(number, signal.SIG_IGN if ignore else self._on_signal)
            except ValueError:  # not the main thread: whoever embeds the trainer uses the file
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # None: it was not set from Python and cannot be set back
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._ask()

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            self._on_request()

    def requested(self) -> bool:
        """Whether the run was asked to stop; costs one look for the stop file (microseconds)."""
        if not self._asked and os.path.exists(self._file):
            self._ask()
        return self._asked

    def check(self) -> None:
        """Raise if the run was asked to stop.

        Raises:
            StopRequested: It was.
        """
        if self.requested():
            raise StopRequested
