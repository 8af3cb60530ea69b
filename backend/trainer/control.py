"""How a run is asked to stop: a signal, a file, a command, or the time that its budget ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from backend.runs.stop_request import StopRequest, read_stop
from backend.trainer.errors import StopRequested
from backend.trainer.inbox import Inbox

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)


class StopControl:
    """Notices a request to stop; use it as a context manager in the main thread.

    SIGTERM, SIGINT (and SIGBREAK on Windows) ask to finish the step, save and stop. A second SIGINT
    ends the process at once: somebody at the keyboard is in a hurry. SIGHUP is ignored: a run
    outlives its terminal.

    Args:
        stop_file: Its presence is a request as well; looked at by :meth:`requested`. It may say why, also of
            a signal that comes after it was written. None if there is none.
        on_request: Called once, at the first sign of a request (maybe inside a signal handler).
        inbox: Where commands arrive; None if there are none.
        deadline: When the budget is used up, seconds since 1970.

    Attributes:
        request: Why the run should stop; None while it should not.
        inbox: Where commands arrive.
    """

    def __init__(
        self,
        stop_file: Path | None,
        on_request: Callable[[], None],
        *,
        inbox: Inbox | None = None,
        deadline: float | None = None,
    ) -> None:
        self._file = stop_file
        self._on_request = on_request
        self._deadline = float("inf") if deadline is None else deadline
        self._before: dict[int, Any] = {}
        self.inbox = inbox
        self.request: StopRequest | None = None

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
        if self.request is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._ask(self._written() or StopRequest())

    def _written(self) -> StopRequest | None:
        """What the stop file asks for; None without one."""
        return read_stop(self._file) if self._file is not None and os.path.exists(self._file) else None

    def _ask(self, request: StopRequest) -> None:
        if self.request is None:
            self.request = request
            self._on_request()

    def requested(self) -> bool:
        """Whether the run was asked to stop; takes up commands too. Costs microseconds."""
        if self.request is not None:
            return True
        if (written := self._written()) is not None:
            self._ask(written)
        elif time.time() >= self._deadline:
            self._ask(StopRequest("budget"))
        elif self.inbox is not None:
            self.inbox.look()
            if self.inbox.stop_wanted:
                self._ask(StopRequest())
        return self.request is not None

    def check(self) -> None:
        """Raise if the run was asked to stop.

        Raises:
            StopRequested: It was.
        """
        if self.requested():
            raise StopRequested

    def settled(self) -> StopRequest:
        """Why the run has stopped. A run that would go on by itself does not if somebody wants it to stop."""
        request = self.request or StopRequest()
        if not request.goes_on:
            return request
        later = self._written()
        if later is not None and not later.goes_on:
            return later
        if self.inbox is not None:
            self.inbox.look(now=True)
            if self.inbox.stop_wanted:
                return StopRequest()
        return StopRequest("budget") if time.time() >= self._deadline else request
