"""``state/mirror.json``: how far the mirror of a run has come, such that a crash at any moment loses nothing.

The local log is its own record: what is between two places of it, the cursor says beforehand. A segment
begins at a byte of ``log.txt`` and says which numbered line comes there; how many of its lines have been
written is seen by counting them. So the cursor is only written where the numbering breaks off, and it does
not matter whether a crash came before or after the bytes that it speaks of, nor whether the machine lost
the last of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.files import read_json, write_text

VERSION = 1
_MOST_SEGMENTS = 256
_MOST_MARKS = 64
_MOST_RECENT = 5_000
_SLACK_US = 60_000_000  # foreign lines are remembered for this long before the oldest mark


@dataclass(frozen=True)
class Segment:
    """What ``log.txt`` has from a byte on, up to the next segment.

    Attributes:
        offset: The byte.
        boot: Boot of the next numbered line.
        number: Its number.
        counted: Whether the lines here are numbered ones; those of the launcher are not.
        highest: The last numbers of older boots.
    """

    offset: int
    boot: int
    number: int
    counted: bool = True
    highest: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recent:
    """A line of somebody else, known only by when it came; ``offset`` is its place in ``log.txt``."""

    key: str
    at_us: int
    offset: int


@dataclass(frozen=True)
class Mark:
    """When ``log.txt`` and ``events.jsonl`` had these sizes, all output before ``at_us`` was in them."""

    log_size: int
    events_size: int
    at_us: int


@dataclass
class Cursor:
    """The content of the file.

    Attributes:
        segments: See :class:`Segment`, in order.
        recent: Foreign lines that may come again.
        marks: See :class:`Mark`, in order.
        events: An offset in ``events.jsonl``, and the last numbers of events and sampler events before it.
        heads: Bytes at the beginning of ``log.txt`` and ``events.jsonl`` that were copied in one piece.
    """

    segments: list[Segment] = field(default_factory=list)
    recent: list[Recent] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    events: tuple[int, int, int] = (0, 0, 0)
    heads: tuple[int, int] = (0, 0)

    def trim(self) -> None:
        """Forget what no crash can make us need."""
        del self.segments[:-_MOST_SEGMENTS], self.marks[:-_MOST_MARKS]
        if len(self.marks) == _MOST_MARKS:  # with fewer, a cut can take us back to the very beginning
            oldest = min(mark.at_us for mark in self.marks) - _SLACK_US
            self.recent = [entry for entry in self.recent if entry.at_us >= oldest]
        del self.recent[:-_MOST_RECENT]

    def cut_back(self, log_size: int, events_size: int) -> bool:
        """Forget what speaks of bytes that the files do not have; whether there was any such thing.

        If so, it must be forgotten on the disk too before the files grow: they would seem to bear it out.
        """
        before = (len(self.segments), len(self.recent), len(self.marks), self.events)
        self.segments = [entry for entry in self.segments if entry.offset <= log_size]
        self.recent = [entry for entry in self.recent if entry.offset < log_size]
        self.marks = [
            mark for mark in self.marks if mark.log_size <= log_size and mark.events_size <= events_size
        ]
        if self.events[0] > events_size:
            self.events = (0, 0, 0)
        return before != (len(self.segments), len(self.recent), len(self.marks), self.events)

    def save(self, path: Path, *, durable: bool) -> None:
        """Write the file; with ``durable``, onto the disk before anything else is.

        Raises:
            OSError: The disk is full or gone; the file is as it was.
        """
        self.trim()
        text = json.dumps(
            {
                "version": VERSION,
                "segments": [
                    [s.offset, s.boot, s.number, s.counted, {str(k): v for k, v in s.highest.items()}]
                    for s in self.segments
                ],
                "recent": [[r.key, r.at_us, r.offset] for r in self.recent],
                "marks": [[m.log_size, m.events_size, m.at_us] for m in self.marks],
                "events": self.events,
                "heads": self.heads,
            },
            separators=(",", ":"),
        )
        if durable:
            write_text(path, text)
            return
        temporary = path.with_name(f".{path.name}.new")  # one writer at a time: the courier's lock
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


def load_cursor(path: Path) -> Cursor | None:
    """The cursor; an empty one if there is no file, None if there is one that cannot be understood."""
    if not path.exists():
        return Cursor()
    document = read_json(path)
    try:
        return _cursor(document)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _cursor(document: Any) -> Cursor:
    if document["version"] != VERSION:
        raise ValueError(document["version"])
    events, heads = document["events"], document["heads"]
    return Cursor(
        segments=[
            Segment(int(o), int(b), int(n), bool(c), {int(k): int(v) for k, v in h.items()})
            for o, b, n, c, h in document["segments"]
        ],
        recent=[Recent(str(key), int(at), int(offset)) for key, at, offset in document["recent"]],
        marks=[Mark(int(log), int(ev), int(at)) for log, ev, at in document["marks"]],
        events=(int(events[0]), int(events[1]), int(events[2])),
        heads=(int(heads[0]), int(heads[1])),
    )
