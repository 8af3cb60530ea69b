"""Garbage collection in the pauses of somebody who types.

A full collection walks every object of the app, thumbnails' cells and log rows too: up to 90 ms with 2,000
pictures, which a key that comes just then has to wait for. So Python is told to begin them late, and the app
runs them when no key has come for a while.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

QUIET = 0.8  # seconds without input that make a pause
TYPING = 0.15  # seconds after a key in which the next one is likely
LATE = 400  # collections of the middle generation before Python runs a full one by itself; its own is 10
DUE = 10  # and before one is worth while in a pause
SHARE = 50  # a collection that took a second is not repeated for so many


class IdleCollector:
    """Runs full collections in pauses.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._input = clock()
        self._not_before = 0.0
        self._thresholds: tuple[int, int, int] | None = None

    def start(self) -> None:
        """Have Python's own full collections come late."""
        if self._thresholds is None:
            self._thresholds = gc.get_threshold()
            gc.set_threshold(*self._thresholds[:2], LATE)

    def stop(self) -> None:
        """As it was before."""
        if self._thresholds is not None:
            gc.set_threshold(*self._thresholds)
            self._thresholds = None

    def touch(self) -> None:
        """A key or the mouse: no pause now."""
        self._input = self._clock()

    @property
    def rest(self) -> float:
        """Seconds without input."""
        return self._clock() - self._input

    def look(self) -> bool:
        """Collect if it is due and nobody is typing; whether it did."""
        now = self._clock()
        if self.rest < QUIET or now < self._not_before or gc.get_count()[2] < DUE:
            return False
        gc.collect()
        after = self._clock()
        self._not_before = after + SHARE * (after - now)
        return True
