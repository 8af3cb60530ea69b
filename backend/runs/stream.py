"""Writing and reading a run's ``events.jsonl``."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from backend.credentials.redaction import redact
from backend.events import Event, decode, encode

_TAIL = 64 * 1024


class EventWriter:
    """Appends numbered events to a file, one write call each.

    Opening it heals a half-written last line (a crash in mid-write) and continues the numbering.
    One process writes at a time: the launcher before it starts the trainer, then the trainer.

    Args:
        path: The file.
        first: The least number for the next event: a container that cannot know what its predecessor
            said after the last commit leaves a gap rather than use a number twice.
    """

    def __init__(self, path: Path, *, first: int = 1) -> None:
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the writer
        size = self._file.tell()
        last_byte, last = _end_of(path, size)
        self._seq = max(last, first - 1)
        self._torn = bool(size) and last_byte != b"\n"  # the next event begins on a line of its own

    def write(self, event: Event) -> Event:
        """Append ``event``; returns it with its number.

        Raises:
            OSError: The disk is full or gone.
        """
        numbered = replace(event, seq=self._seq + 1)
        data = (b"\n" if self._torn else b"") + redact(encode(numbered).decode()).encode()
        written = self._file.write(data)
        if written != len(data):  # a nearly full disk can take part of it
            self._torn = True
            raise OSError(errno.ENOSPC, "no space left on device", self._file.name)
        self._torn = False
        self._seq += 1
        return numbered

    def sync(self) -> None:
        """Force what was written onto the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _end_of(path: Path, size: int) -> tuple[bytes, int]:
    """The last byte of the file and the highest event number near its end."""
    if not size:
        return b"", 0
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        data = file.read()
    for line in reversed(data.split(b"\n")):
        event = decode(line)
        if event is not None and event.seq:
            return data[-1:], event.seq
    return data[-1:], 0


@dataclass
class EventTail:
    """Reads the events of a file that grows; ``offset`` is the byte after the last whole line read.

    A half-written last line is left for the next call. If the file shrank (it was replaced), reading
    starts again from its beginning.
    """

    path: Path
    offset: int = 0

    def read(self, limit: int = 4 << 20) -> list[Event]:
        """The events of the whole lines that came since the last call, at most ``limit`` bytes of them."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                if size < self.offset:
                    self.offset = 0
                file.seek(self.offset)
                data = file.read(min(limit, size - self.offset))  # what is asked for is allocated first
        except FileNotFoundError:
            return []
        end = data.rfind(b"\n") + 1
        if not end:
            if len(data) == limit:  # a line longer than the limit is no event of ours: skip it
                self.offset += len(data)
            return []
        self.offset += end
        return [event for line in data[: end - 1].split(b"\n") if (event := decode(line)) is not None]
