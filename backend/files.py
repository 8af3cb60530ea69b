"""Writing files so that no crash leaves half of one behind."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_LONGEST = 240  # bytes of a name that leave room for what its temporary file's name has around it


@contextlib.contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[IO[bytes]]:
    """A binary file that becomes ``path`` only if the block ends without an exception.

    The data goes to a temporary file in the same folder, is flushed to disk, and replaces ``path``
    in one step. ``private`` makes it readable by its owner only, from the first byte on.

    Raises:
        OSError: The folder is missing or read-only, or the disk is full; ``path`` is as it was.
    """
    stem = path.name if len(os.fsencode(path.name)) <= _LONGEST else path.name[:40]
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{stem}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not private:  # mkstemp makes 0600; an ordinary file follows the user's umask
            with contextlib.suppress(OSError):
                temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# The only way to read the umask is to set it; this is done once, before there are threads.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Replace ``path`` by ``text`` in UTF-8, atomically."""
    with atomic_file(path, private=private) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any, *, private: bool = False, escape: bool = False) -> None:
    """Replace ``path`` by ``value`` as JSON, atomically.

    Args:
        path: The file.
        value: What it will say.
        private: As for :func:`atomic_file`.
        escape: Write text that is no Unicode, as names of files may be, in escapes; it is read as it is.

    Raises:
        OSError: As for :func:`atomic_file`.
        UnicodeEncodeError: There is such text, and ``escape`` is not set.
    """
    text = json.dumps(value, ensure_ascii=False, indent=1)
    if escape and not is_unicode(text):
        text = json.dumps(value, indent=1)
    write_text(path, text + "\n", private=private)


def is_unicode(text: str) -> bool:
    """Whether a file or a database can hold a text: names of files may have bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_json(path: Path) -> Any:
    """The JSON value in ``path``; None if the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
