"""The local ``log.txt`` and ``events.jsonl`` of a run elsewhere: appended to, understood after a crash."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.launchers.modal.cursor import Cursor, Recent, Segment
from backend.launchers.modal.wire import SEQ_STRIDE

FOREIGN = "modal: "
"""Begins every line of the log that has no number: Modal's own, those that came too late, our remarks."""

_CHUNK = 1 << 20
_REST_EVERY = 4 << 20  # bytes of log after which a segment is begun, so that little must be counted again
_LATE = re.compile(rb"modal: \[(\d{1,6})\.(\d{1,12})\] ")
_SEQ = re.compile(rb'\{"v":\d+,"seq":(\d+),')


@dataclass(frozen=True, slots=True)
class NumberedText:
    """A line of a container, as it was numbered there."""

    boot: int
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class ForeignText:
    """A line that is shown as Modal's; ``key`` identifies it, if it may come again."""

    text: str
    key: str = ""
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class OwnText:
    """A line of the launcher's own."""

    text: str


class Appender:
    """Appends to a file of whole lines; a half-written last line is cut off when it is opened.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - lives as long as the mirror
        self.size = _cut_torn_line(path, self._file.tell())

    def append(self, data: bytes) -> None:
        """Write ``data``, all of it.

        Raises:
            OSError: The disk is full or gone; part of it may be there.
        """
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            view = view[written:]
            self.size += written

    def cut(self, size: int) -> None:
        """Drop everything from a byte on."""
        os.truncate(self.path, size)
        self.size = size

    def sync(self) -> None:
        """Force what was written onto the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MirroredLog:
    """The local log.

    Args:
        file: ``log.txt``.
        cursor: What is known of it; its segments must have been cut back to the file's size.
    """

    def __init__(self, file: Appender, cursor: Cursor) -> None:
        self.file = file
        self._cursor = cursor
        self.boot = self.number = 0
        self.highest: dict[int, int] = {}
        self._counted = False
        if not cursor.segments:
            if file.size:  # what the launcher wrote before there was a mirror
                cursor.segments.append(Segment(0, 0, 1, counted=False))
            return
        last = cursor.segments[-1]
        lines, late = _count(file.path, last.offset)
        self._counted = last.counted
        self.boot, self.number = last.boot, last.number - 1 + (lines if last.counted else 0)
        self.highest = dict(last.highest)
        for boot, number in late:
            self.highest[boot] = max(number, self.highest.get(boot, 0))

    def compose(self, lines: Sequence[NumberedText | ForeignText | OwnText]) -> tuple[bytes, bool, bool]:
        """The bytes of lines to be appended next, entered into the cursor.

        Returns:
            The bytes; whether the cursor must be saved before they are written; and whether durably.
        """
        data = bytearray()
        size, segments = self.file.size, self._cursor.segments
        changed = durable = False

        def begin(counted: bool) -> None:
            segment = Segment(size + len(data), self.boot, self.number + 1, counted, dict(self.highest))
            segments.append(segment)
            self._counted = counted

        for line in lines:
            match line:
                case NumberedText():
                    text = f" {line.text}" if line.text.startswith(FOREIGN) else line.text
                    if not self._counted or line.boot != self.boot or line.number != self.number + 1:
                        if self.boot and line.boot != self.boot:
                            self.highest[self.boot] = self.number
                        self.boot, self.number = line.boot, line.number - 1
                        begin(True)
                        durable = True
                    elif size + len(data) - segments[-1].offset > _REST_EVERY:
                        begin(True)
                        changed = True
                    self.number += 1
                case OwnText():
                    text = line.text
                    if self._counted or not segments:
                        begin(False)
                        durable = True
                case ForeignText():
                    text = FOREIGN + line.text
                    if line.key:
                        self._cursor.recent.append(Recent(line.key, line.at_us, size + len(data)))
                        changed = True
            data += text.encode("utf-8", "replace")
            data += b"\n"
        return bytes(data), changed or durable, durable

    def late(self, boot: int, number: int, text: str) -> ForeignText:
        """A line that comes when those of a newer boot are there already: it says itself what it is."""
        self.highest[boot] = max(number, self.highest.get(boot, 0))
        return ForeignText(f"[{boot}.{number}] {text}")


class MirroredEvents:
    """The local events; their own numbers say how far they go.

    Args:
        file: ``events.jsonl``.
        cursor: What is known of it.
    """

    def __init__(self, file: Appender, cursor: Cursor) -> None:
        self.file = file
        offset, self.seq, self.sampler_seq = cursor.events
        with file.path.open("rb") as reader:
            reader.seek(offset)
            for line in reader:
                self.note(line)

    def note(self, line: bytes) -> None:
        """Take the number of a line that is in the file, or will be next."""
        if found := _SEQ.match(line):
            seq = int(found[1])
            if seq:
                self.seq = max(self.seq, seq)
                return
        seq, sampler = _numbers(line)
        self.seq = max(self.seq, seq)
        self.sampler_seq = max(self.sampler_seq, sampler)

    @property
    def position(self) -> tuple[int, int]:
        """Boot and number of the last event of a container; zeros if there is none."""
        return divmod(self.seq, SEQ_STRIDE) if self.seq >= SEQ_STRIDE else (0, 0)


def as_local_sampler_event(record: dict[str, object], number: int) -> bytes:
    """An event of the sampler for the run's own events: outside their numbering, its own number beside it."""
    local = {**record, "seq": 0, "sampler": number}
    return json.dumps(local, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def _numbers(line: bytes) -> tuple[int, int]:
    try:
        record = json.loads(line)
        return int(record.get("seq", 0)), int(record.get("sampler", 0))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, 0


def _cut_torn_line(path: Path, size: int) -> int:
    """Cut off what follows the last newline; returns the size that is left."""
    end = size
    with path.open("rb") as file:
        while end > 0:
            start = max(0, end - _CHUNK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
    if end != size:
        os.truncate(path, end)
    return end


def _count(path: Path, offset: int) -> tuple[int, list[tuple[int, int]]]:
    """How many lines from a byte on are numbered ones, and which late lines are among the others."""
    count, late = 0, []
    prefix = FOREIGN.encode()
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.startswith(prefix):
                count += 1
            elif found := _LATE.match(line):
                late.append((int(found[1]), int(found[2])))
    return count, late
