"""Commits of the volume: coalesced, in a thread, and again when one did not work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from backend.launchers.modal.container.sdk import VolumeError, VolumeFullError

_LONGEST_PAUSE = 30.0  # seconds between two tries


class Committer:
    """Commits soon after something important, and every few seconds while anything changes.

    A commit that fails is tried again until it works; training does not notice. If the volume is full
    it is tried again as well, since somebody may make room, and ``on_full`` is called.

    Args:
        commit: Makes one commit; raises :class:`VolumeError`.
        prepare: Called in the thread before each commit, to write what is to be committed with it.
        on_trouble: Told of the first of a row of failures, as a sentence; and with None when one works again.
        on_full: Called when the volume takes no more.
        interval: Seconds between two commits while only unimportant things change.
    """

    def __init__(
        self,
        commit: Callable[[], None],
        *,
        prepare: Callable[[], None] | None = None,
        on_trouble: Callable[[str | None], None] | None = None,
        on_full: Callable[[], None] | None = None,
        interval: float = 4.0,
    ) -> None:
        self._commit = commit
        self._prepare = prepare
        self._on_trouble = on_trouble
        self._on_full = on_full
        self._interval = interval
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._dirty = False
        self._closed = False
        self._again = 0.0
        self._failures = 0
        self._last = time.monotonic()
        self._error: VolumeError | None = None
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Something was written; commit it within the interval."""
        with self._changed:
            if not self._dirty:
                self._dirty = True
                self._changed.notify_all()

    def soon(self) -> None:
        """Something important was written; commit it at once."""
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()

    def flush(self, patience: float) -> None:
        """Commit all that was written before this call; returns when it is safe.

        Raises:
            VolumeFullError: The volume takes no more.
            VolumeError: It did not work within ``patience`` seconds.
        """
        end = time.monotonic() + patience
        with self._changed:
            self._wanted += 1
            wanted, self._error, self._again = self._wanted, None, 0.0
            self._changed.notify_all()
            while self._done < wanted:
                if isinstance(self._error, VolumeFullError):
                    raise self._error
                left = end - time.monotonic()
                if left <= 0 or self._closed:
                    raise self._error or VolumeError(f"no answer from Modal within {patience:g} s")
                self._changed.wait(left)

    def close(self) -> None:
        """Begin no further commit; one under way is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        while (wanted := self._next()) is not None:
            error: VolumeError | None = None
            try:
                if self._prepare is not None:
                    self._prepare()
                self._commit()
            except VolumeError as failure:
                error = failure
            except Exception as failure:  # whatever it is, the next try may work
                error = VolumeError(f"{type(failure).__name__}: {failure}")
            self._report(error)
            with self._changed:
                self._last = time.monotonic()
                self._error = error
                if error is None:
                    self._done, self._failures = wanted, 0
                else:
                    self._dirty = True
                    self._failures += 1
                    self._again = self._last + min(_LONGEST_PAUSE, 0.5 * 2**self._failures)
                self._changed.notify_all()

    def _next(self) -> int | None:
        """Wait until a commit is due; returns what it fulfils, None at the end."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._wanted > self._done:
                    due = self._again
                elif self._dirty:
                    due = max(self._again, self._last + self._interval)
                else:
                    due = None
                if due is not None and due <= now:
                    self._dirty = False
                    return self._wanted
                self._changed.wait(None if due is None else due - now)
            return None

    def _report(self, error: VolumeError | None) -> None:
        if error is None:
            if self._failures and self._on_trouble is not None:
                self._on_trouble(None)
            return
        if isinstance(error, VolumeFullError):
            if self._on_full is not None:
                self._on_full()
        elif not self._failures and self._on_trouble is not None:
            self._on_trouble(str(error))
