"""Checksums of a run's files, and whether a copy is complete."""

from __future__ import annotations

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
