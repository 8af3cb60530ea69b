"""Loads what is wanted now in a few threads, and forgets what is no longer wanted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Loader(Generic[Key, Value]):
    """Threads that load keys in the order they were last asked for.

    Args:
        load: Loads one key; called in a thread. What it raises is told as the result.
        done: Told of each result, in that thread.
        threads: How many at most.
    """

    def __init__(
        self,
        load: Callable[[Key], Value],
        done: Callable[[Key, Value | Exception], None],
        threads: int = 2,
    ) -> None:
        self._load, self._done, self._most = load, done, threads
        self._wanted: list[Key] = []
        self._busy: set[Key] = set()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def want(self, keys: Sequence[Key]) -> None:
        """Load these, first things first, and nothing that was asked for before and has not begun."""
        with self._changed:
            self._wanted = [key for key in reversed(keys) if key not in self._busy]
            while not self._closed and len(self._threads) < min(self._most, len(self._wanted)):
                thread = threading.Thread(target=self._work, name="pictures", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._closed = True
            self._wanted.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                key = self._wanted.pop()
                self._busy.add(key)
            result: Value | Exception
            try:
                result = self._load(key)
            except Exception as error:
                result = error
            with self._changed:
                self._busy.discard(key)
                closed = self._closed
            if not closed:
                self._done(key, result)
