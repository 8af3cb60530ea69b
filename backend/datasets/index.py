"""What was read of a dataset, in SQLite, so that it opens at once and only changed files are read again.

One database a dataset, in the data folder; it can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from backend.datasets.headers import Header
from backend.datasets.scan import Item
from backend.datasets.sidecar import Box
from backend.files import is_unicode
from backend.home import cache_dir

_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pictures (
    name TEXT PRIMARY KEY, bytes INTEGER, mtime_ns INTEGER, caption TEXT, encoding TEXT, caption_problem TEXT,
    caption_mark TEXT, format TEXT, width INTEGER, height INTEGER, mode TEXT, orientation INTEGER,
    frames INTEGER, alpha INTEGER, truncated INTEGER, problem TEXT, excluded INTEGER,
    crop_left INTEGER, crop_top INTEGER, crop_width INTEGER, crop_height INTEGER
);
CREATE TABLE IF NOT EXISTS hashes (
    name TEXT PRIMARY KEY, mark TEXT NOT NULL, perceptual TEXT, content TEXT
);
"""
_COLUMNS = 21
_UNREAD = -1  # as a file's time: it is read again, whatever its time is


class Index:
    """The index of one dataset. Every method opens its own connection; threads may share it.

    No method raises: an index that cannot be used is empty, and what cannot be stored is read again.

    Args:
        folder: The dataset's folder.
        root: Where indexes live; the app's cache if None.
        caption_ext: Extension of caption files; each has an index of its own.
    """

    def __init__(self, folder: Path, root: Path | None = None, caption_ext: str = ".txt") -> None:
        self.folder = folder.absolute()
        self._base = str(self.folder)
        self.caption_ext = caption_ext
        key = hashlib.sha256(os.fsencode(f"{self.folder}\0{caption_ext}")).hexdigest()[:24]
        self.path = (root or cache_dir() / "datasets") / f"{key}.db"

    def load(self) -> list[Item]:
        """The pictures of the last whole scan, in its order."""
        try:
            with self._open() as connection:
                rows = connection.execute("SELECT * FROM pictures ORDER BY rowid").fetchall()
        except (sqlite3.Error, OSError):
            return []
        return [self._item(row) for row in rows]

    def store(self, items: Iterable[Item]) -> None:
        """Replace what is known by the pictures of a whole scan; only what differs is written."""
        items = list(items)
        try:
            with self._open() as connection, connection:
                before = connection.execute("SELECT * FROM pictures ORDER BY rowid").fetchall()
                rows = [_row(item) for item in items if is_unicode(item.name)]
                if rows == before:
                    return
                connection.execute("DELETE FROM pictures")
                connection.executemany(
                    f"INSERT OR REPLACE INTO pictures VALUES ({','.join('?' * _COLUMNS)})", rows
                )
                names = {row[0] for row in rows}
                gone = [(row[0],) for row in before if row[0] not in names]
                connection.executemany("DELETE FROM hashes WHERE name = ?", gone)
        except (sqlite3.Error, OSError):
            return

    def hashes(self, items: Iterable[Item], kind: str) -> dict[str, str]:
        """The known hashes of unchanged pictures by name; ``kind`` is ``perceptual`` or ``content``."""
        column = _column(kind)
        try:
            with self._open() as connection:
                found = {
                    name: (mark, value)
                    for name, mark, value in connection.execute(f"SELECT name, mark, {column} FROM hashes")
                }
        except (sqlite3.Error, OSError):
            return {}
        result = {}
        for item in items:
            mark, value = found.get(item.name, ("", None))
            if value is not None and mark == _hash_mark(item):
                result[item.name] = value
        return result

    def store_hashes(self, values: Mapping[str, str], items: Iterable[Item], kind: str) -> None:
        """Remember hashes of pictures by name."""
        column = _column(kind)
        marks = {item.name: _hash_mark(item) for item in items}
        rows = [(name, marks[name], value) for name, value in values.items() if is_unicode(name)]
        with contextlib.suppress(sqlite3.Error, OSError), self._open() as connection, connection:
            connection.executemany(
                f"INSERT INTO hashes (name, mark, {column}) VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
                f"perceptual = CASE WHEN mark = excluded.mark THEN perceptual END, "
                f"content = CASE WHEN mark = excluded.mark THEN content END, mark = excluded.mark",
                rows,
            )
            connection.executemany(f"UPDATE hashes SET {column} = ? WHERE name = ?",
                                   [(value, name) for name, _, value in rows])  # fmt: skip

    def forget(self) -> None:
        """Delete the index."""
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{self.path}{suffix}").unlink()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self.forget()  # damaged: it only makes things quick
            connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                connection.executescript(
                    "DROP TABLE IF EXISTS pictures; DROP TABLE IF EXISTS hashes;"
                    f"{_SCHEMA} PRAGMA user_version = {_VERSION};"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _item(self, row: tuple[object, ...]) -> Item:
        (name, size, mtime, caption, encoding, caption_problem, mark, form, width, height, mode, orientation,
         frames, alpha, truncated, problem, excluded, *crop) = row  # fmt: skip
        full = os.path.join(self._base, str(name))
        if os.sep != "/":
            full = os.path.normpath(full)
        header = None
        if form is not None:
            header = Header(form, width, height, mode, orientation, frames, bool(alpha), bool(truncated))  # type: ignore[arg-type]
        return Item(
            Path(full),
            str(name),
            size,  # type: ignore[arg-type]
            mtime,  # type: ignore[arg-type]
            Path(os.path.splitext(full)[0] + self.caption_ext),
            caption,  # type: ignore[arg-type]
            encoding,  # type: ignore[arg-type]
            caption_problem,  # type: ignore[arg-type]
            mark,  # type: ignore[arg-type]
            header,
            problem,  # type: ignore[arg-type]
            bool(excluded),
            Box(*crop) if crop[0] is not None else None,  # type: ignore[arg-type]
        )


def _row(item: Item) -> tuple[object, ...]:
    # A right that was given since, or a drive that answers again, changes neither size nor time of a file.
    mtime = item.mtime_ns if item.problem is None else _UNREAD
    mark = item.caption_mark if item.caption_problem is None else str(_UNREAD)
    header: tuple[object, ...] = tuple(item.header) if item.header is not None else (None,) * 8
    numbers = tuple(int(value) if isinstance(value, bool) else value for value in header)
    crop: tuple[object, ...] = tuple(item.crop) if item.crop is not None else (None,) * 4
    caption = item.caption if item.caption is None or is_unicode(item.caption) else None
    return (
        item.name, item.bytes, mtime, caption, item.caption_encoding, item.caption_problem,
        mark, *numbers, item.problem, int(item.excluded), *crop,
    )  # fmt: skip


def _hash_mark(item: Item) -> str:
    return f"{item.bytes} {item.mtime_ns}"


def _column(kind: str) -> str:
    if kind not in ("perceptual", "content"):
        raise ValueError(kind)
    return kind
