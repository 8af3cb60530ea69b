"""Noticing that a config was changed on disk by someone else, before it would be overwritten."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from backend.files import atomic_file


@dataclass(frozen=True)
class Snapshot:
    """What a file was when somebody looked.

    Attributes:
        path: The file.
        text: Its content with line endings and byte-order mark as they are; None if there was no file.
        mark: Size, time and hash; equal marks mean equal content.
    """

    path: Path
    text: str | None
    mark: str

    @staticmethod
    def of(path: Path) -> Snapshot:
        """Read a file.

        Raises:
            OSError: It cannot be read; that it is missing is no error.
            ValueError: It is not UTF-8 text.
        """
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return Snapshot(path, None, "")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path.name} is not UTF-8 text; save it as UTF-8") from None
        return Snapshot(path, text, hashlib.sha256(raw).hexdigest())


class ChangedOnDiskError(Exception):
    """Somebody else changed the file; it was not overwritten.

    Attributes:
        now: What it is now.
    """

    def __init__(self, now: Snapshot) -> None:
        self.now = now
        what = "was changed" if now.text is not None else "was deleted"
        super().__init__(f"{now.path.name} {what} on disk since it was opened")


def changed_since(snapshot: Snapshot) -> Snapshot | None:
    """What a file is now, or None if its content is what it was. A touched file has not changed.

    Raises:
        OSError, ValueError: As :meth:`Snapshot.of`.
    """
    now = Snapshot.of(snapshot.path)
    return None if now.mark == snapshot.mark else now


def save_if_unchanged(path: Path, text: str, snapshot: Snapshot | None) -> Snapshot:
    """Replace a file atomically, unless somebody else changed it.

    Args:
        path: The file.
        text: With the line endings that it shall have.
        snapshot: What it was when it was opened or last saved; None to overwrite whatever is there.

    Returns:
        What it is now.

    Raises:
        ChangedOnDiskError: It is not what it was.
        OSError: It cannot be written; it is as it was.
    """
    if snapshot is not None and (now := changed_since(snapshot)) is not None and now.text != text:
        raise ChangedOnDiskError(now)
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))
    return Snapshot(path, text, hashlib.sha256(text.encode("utf-8")).hexdigest())
