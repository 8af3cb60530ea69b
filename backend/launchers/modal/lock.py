"""One courier a run: a lock that a crash releases, and how to see whether somebody holds it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the lock in the file ``path`` while the block runs; gives False where another process has it.

    SQLite locks files on every system and its locks end with the process that took them.
    """
    lock = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        try:
            lock.execute("BEGIN EXCLUSIVE")
            mine = True
        except sqlite3.OperationalError:
            mine = False
        yield mine
    finally:
        with contextlib.suppress(sqlite3.Error):
            lock.rollback()
        lock.close()
