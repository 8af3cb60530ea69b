"""SHA-256 of files, remembered, so that an unchanged data set is never read twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from backend.home import cache_dir

Progress = Callable[[int, int], None]
"""Told the bytes that are done, and all that there are."""

_CHUNK = 1 << 20
_WORKERS = 4  # hashing releases the lock of the interpreter; more than this only fights for the disk
_TOLD_EVERY = 0.1  # seconds
_UNSETTLED = 2.0  # a file changed so shortly ago may change again without its time showing it
_FORGET_AFTER = 90 * 86400.0  # seconds without use
_SCHEMA = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, mark TEXT, sha256 TEXT, used INTEGER)"
_MANY = 500  # paths of one question to the database


class FileError(Exception):
    """A file cannot be read; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What a file was like when it was hashed.

    Attributes:
        bytes: Its size.
        mark: Changes whenever the file may have changed.
        sha256: Hex digest of its content.
    """

    bytes: int
    mark: str
    sha256: str


def mark_of(path: Path) -> tuple[int, str, float]:
    """Size of a file, what tells this state of it from others, and when it changed (seconds since 1970).

    Raises:
        FileError: It is missing, cannot be looked at, or is no ordinary file.
    """
    import stat

    try:
        info = path.stat()
    except OSError as error:
        if path.is_symlink():
            raise FileError(f"{path} is a link to nothing; mend or remove it") from None
        raise FileError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if not stat.S_ISREG(info.st_mode):
        raise FileError(f"{path} is not an ordinary file; remove it or leave it out")
    return (
        info.st_size,
        f"{info.st_size}.{info.st_mtime_ns}.{info.st_ctime_ns}.{info.st_ino}",
        max(info.st_mtime, info.st_ctime),
    )


class FileHashes:
    """Hashes files, and remembers what it found by path, size, times and inode.

    The memory is a cache: where it cannot be used, files are simply read again. Any number of processes
    may use it at once.

    Args:
        database: Where it is kept; a file in the app's cache folder if None.
    """

    def __init__(self, database: Path | None = None) -> None:
        self._database = database or cache_dir() / "file_hashes.db"

    def of(self, files: Sequence[Path], progress: Progress | None = None) -> dict[Path, FileState]:
        """The states of files; several are read at a time.

        ``progress`` is called by the caller's thread; an exception that it raises ends the work.

        Raises:
            FileError: One cannot be read, or changes while it is read.
        """
        marks = {path: mark_of(path) for path in files}
        known = self._recall(list(marks))
        found = {
            path: FileState(size, mark, known[path][1])
            for path, (size, mark, _) in marks.items()
            if path in known and known[path][0] == mark
        }
        missing = [path for path in marks if path not in found]
        total = sum(size for size, _, _ in marks.values())
        done = total - sum(marks[path][0] for path in missing)
        fresh = _read_all({path: marks[path] for path in missing}, done, total, progress)
        now = time.time()
        settled = {path: state for path, state in fresh.items() if now - marks[path][2] > _UNSETTLED}
        self._remember(settled, list(found))
        if progress is not None:
            progress(total, total)
        return {path: found.get(path) or fresh[path] for path in marks}

    # -- the memory -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self._database.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._database, timeout=5, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")  # a lost entry is computed again
            connection.execute(_SCHEMA)
            yield connection
        finally:
            connection.close()

    def _recall(self, paths: Sequence[Path]) -> dict[Path, tuple[str, str]]:
        keys = {_key(path): path for path in paths}
        known: dict[Path, tuple[str, str]] = {}
        if not self._database.is_file():
            return known
        try:
            with self._open() as database:
                for start in range(0, len(paths), _MANY):
                    some = [_key(path) for path in paths[start : start + _MANY]]
                    marks = ",".join("?" * len(some))
                    rows = database.execute(
                        f"SELECT path, mark, sha256 FROM files WHERE path IN ({marks})", some
                    )
                    known.update({keys[bytes(key)]: (str(mark), str(digest)) for key, mark, digest in rows})
        except sqlite3.OperationalError:  # locked or unreadable: go without
            return known
        except (sqlite3.DatabaseError, OSError):
            with contextlib.suppress(OSError):
                self._database.unlink()  # damaged; it can be made again at the cost of reading
        return known

    def _remember(self, states: dict[Path, FileState], used: Sequence[Path]) -> None:
        if not states:
            return
        now = int(time.time())
        rows = [(_key(path), state.mark, state.sha256, now) for path, state in states.items()]
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
            database.executemany("UPDATE files SET used = ? WHERE path = ?", [(now, _key(p)) for p in used])
            database.execute("DELETE FROM files WHERE used < ?", (now - int(_FORGET_AFTER),))
            database.execute("COMMIT")


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))


class _Reading:
    """Counts the bytes that the readers have read, and tells them to end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bytes = 0
        self.cancelled = False

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count


def _read_all(
    marks: dict[Path, tuple[int, str, float]], done: int, total: int, progress: Progress | None
) -> dict[Path, FileState]:
    if not marks:
        return {}
    reading = _Reading()
    with ThreadPoolExecutor(min(_WORKERS, len(marks)), "hash") as pool:
        futures: dict[Future[FileState], Path] = {
            pool.submit(_read, path, size, mark, reading): path for path, (size, mark, _) in marks.items()
        }
        pending = set(futures)
        try:
            while pending:
                finished, pending = wait(pending, _TOLD_EVERY, FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                if progress is not None:
                    progress(min(done + reading.bytes, total), total)
        except BaseException:
            reading.cancelled = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {path: future.result() for future, path in futures.items()}


def _read(path: Path, size: int, mark: str, reading: _Reading) -> FileState:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_CHUNK, max(size, 1))))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                if reading.cancelled:
                    break
                digest.update(buffer[:count])
                reading.add(count)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if mark_of(path)[1] != mark:
        raise FileError(f"{path} changed while it was read; wait until it is written, then launch again")
    return FileState(size, mark, digest.hexdigest())
