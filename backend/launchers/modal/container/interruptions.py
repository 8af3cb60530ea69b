"""How Modal takes a container or an input back, turned from exceptions at any moment into a question.

Preemption is SIGINT, cancelling SIGUSR1; both would raise in the main thread, wherever it is. While this
is active they are only noted, so that saving cannot be torn apart, and raised again at the end.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import Any

PREEMPTED, CANCELLED = "preempted", "cancelled"

_TICK = 0.1


class Interruptions:
    """A context manager for the main thread; elsewhere it notices only what :meth:`note` is told.

    Attributes:
        why: ``preempted`` or ``cancelled``, the first that came; None so far.
    """

    def __init__(self) -> None:
        self.why: str | None = None
        self._before: dict[int, Any] = {}
        self._raise: Callable[[], None] | None = None

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is not threading.main_thread():
            return self
        for name, why in (("SIGINT", PREEMPTED), ("SIGTERM", PREEMPTED), ("SIGUSR1", CANCELLED)):
            number = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            if number != signal.SIGTERM and not callable(before):
                continue  # nobody would be told
            self._before[number] = before
            signal.signal(number, self._handler(why))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handler(self, why: str) -> Callable[[int, FrameType | None], None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            if self.why is None:
                self.why = why
                before = self._before[number]
                if callable(before):
                    self._raise = lambda: before(number, frame)

        return on_signal

    def note(self, error: BaseException) -> None:
        """Note an exception that came through all the same.

        Raises:
            BaseException: ``error`` itself, if it is no interruption.
        """
        if type(error).__name__ == "InputCancellation":
            why = CANCELLED
        elif isinstance(error, KeyboardInterrupt):
            why = PREEMPTED
        else:
            raise error
        if self.why is None:
            self.why = why

            def again() -> None:
                raise error

            self._raise = again

    def reraise(self) -> None:
        """What the signal would have done, now that everything is saved; to be called after the block.

        Raises:
            KeyboardInterrupt: The container was preempted.
            BaseException: Modal's ``InputCancellation``: the input was cancelled.
        """
        if self._raise is not None:
            self._raise()
        if self.why is not None:
            raise KeyboardInterrupt(f"the container was {self.why}")


def work_interruptibly(
    work: Callable[[], dict[str, Any]], interrupt: Callable[[str], None], patience: Mapping[str, float]
) -> dict[str, Any]:
    """Let ``work`` run in a thread, while this one, the main one, listens for interruptions.

    Args:
        work: What is to be done.
        interrupt: Called once, with ``preempted`` or ``cancelled``: let the work come to an end.
        patience: Seconds that the work has from then on.

    Returns:
        What ``work`` returned.

    Raises:
        KeyboardInterrupt: The container was preempted, and the work has come to its end or its time is up.
        BaseException: Modal's ``InputCancellation``, likewise; or what ``work`` raised.
    """
    result: dict[str, Any] = {}
    failures: list[BaseException] = []

    def carry() -> None:
        try:
            result.update(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=carry, name="work", daemon=True)
    ends = float("inf")
    with Interruptions() as interruptions:
        thread.start()
        while thread.is_alive() and time.monotonic() < ends:
            try:
                thread.join(_TICK)
            except BaseException as error:
                interruptions.note(error)
            if interruptions.why is not None and ends == float("inf"):
                ends = time.monotonic() + patience[interruptions.why]
                interrupt(interruptions.why)
    interruptions.reraise()
    if failures:
        raise failures[0]
    return result
