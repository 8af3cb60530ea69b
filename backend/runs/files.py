"""A run's files: their checksums, and copies that are resumed and verified."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

_CHUNK = 1 << 20


def checksum(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """The SHA-256 of a file, in hexadecimal; ``progress`` is told the bytes read so far.

    Raises:
        OSError: It cannot be read.
    """
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done)
    return digest.hexdigest()


def is_same(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes.

    Raises:
        OSError: One of them cannot be read.
    """
    return first.stat().st_size == second.stat().st_size and checksum(first) == checksum(second)


def copy_file(origin: Path, target: Path, progress: Callable[[int], None] | None = None) -> None:
    """Copy a file; ``target`` is whole and verified by SHA-256, or not there.

    A copy that was interrupted left ``<target>.part``: this one goes on at its end, and begins anew if the
    whole turns out to be another file's.

    Args:
        origin: The file.
        target: Its copy; folders on the way are made.
        progress: Told the bytes copied so far.

    Raises:
        OSError: One of them cannot be read or written, or the copy is not the same.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and is_same(origin, target):
        return
    partial = target.with_name(target.name + ".part")
    resumed = partial.is_file() and 0 < partial.stat().st_size <= origin.stat().st_size
    wanted = _append(origin, partial, partial.stat().st_size if resumed else 0, progress)
    if checksum(partial) != wanted:
        if resumed:
            wanted = _append(origin, partial, 0, progress)
        if not resumed or checksum(partial) != wanted:
            partial.unlink(missing_ok=True)
            raise OSError(errno.EIO, "the copy is not the same as the file", str(target))
    partial.replace(target)


def _append(origin: Path, partial: Path, offset: int, progress: Callable[[int], None] | None) -> str:
    """Copy from ``offset`` on; returns the checksum of the whole of ``origin``."""
    digest, done = hashlib.sha256(), 0
    with origin.open("rb") as source, partial.open("r+b" if offset else "wb") as sink:
        sink.truncate(offset)
        sink.seek(offset)
        while chunk := source.read(_CHUNK if done >= offset else min(_CHUNK, offset - done)):
            digest.update(chunk)
            if done >= offset:
                sink.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done)
    return digest.hexdigest()
