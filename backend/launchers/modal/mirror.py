"""The local copy of what a run on Modal says: ``events.jsonl`` and ``log.txt``, each thing once, in order.

What a run says reaches us twice: live, in the app's output, and a little later in the files on its volume.
Either may have holes: the output where we were offline for longer than Modal keeps it, the files where a
container died before it could commit. :class:`Mirror` takes in both and writes what follows from both.

- A gap is waited for, until whoever drives the mirror says (:meth:`Mirror.settle`) that both sides have been
  asked and nothing more is to be expected of that container.
- The same holds for the passage to a new container. What its predecessor did after its last commit is only in
  the output; it is written before the first word of the new one, whose attempt event then takes it back.
- What turns up later still, when the newer container's words are there, cannot be put in its place any more,
  since readers have gone by. A log line is appended as ``modal: [1.17] text``. An event is superseded and
  dropped: all that counts of a dead container was committed with the state from which the next went on.
- Everything is crash-exact: see :mod:`backend.launchers.modal.cursor`.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.events import Event, encode
from backend.launchers.modal import wire
from backend.launchers.modal.cursor import Cursor, Mark, load_cursor
from backend.launchers.modal.merge import Fate, Placed, Series
from backend.launchers.modal.mirrored import (
    Appender,
    ForeignText,
    MirroredEvents,
    MirroredLog,
    NumberedText,
    OwnText,
    as_local_sampler_event,
)
from backend.launchers.modal.remote import LogPiece
from backend.launchers.modal.wire import SEQ_STRIDE
from backend.runs.folder import RunFolder

HELD_BYTES = 64 << 20
"""Bytes that wait behind gaps at most; beyond that, the volume has to supply it again."""

_SAVE_EVERY = 2.0  # seconds
_Line = NumberedText | ForeignText | OwnText


@dataclass(frozen=True)
class Newest:
    """The newest container seen so far, of the trainer and of the sampler; 0 for none."""

    trainer: int
    sampler: int


@dataclass(frozen=True, slots=True)
class KeptLine:
    """A line of the log on the volume.

    Attributes:
        boot: Its container.
        number: Its number there.
        text: The line.
        doubtful: Whether it may be a half-written one: the last line of a container that is gone.
    """

    boot: int
    number: int
    text: str
    doubtful: bool = False


class Mirror:
    """Writes a run's local events and log. All methods may be called from any thread.

    After an ``OSError`` from any of them the mirror must be closed, and a new one made: that finds out what
    has been written.

    Args:
        folder: The run's local folder; its ``state/`` must exist.
        remote_folder: The run's folder on the volume, as far as it is known yet; the mirror only keeps it.
        held_bytes: Bytes that may wait behind gaps, for each series.

    Raises:
        OSError: The files cannot be opened.
    """

    def __init__(self, folder: RunFolder, remote_folder: str = "", *, held_bytes: int = HELD_BYTES) -> None:
        self.folder = folder
        self.remote_folder = remote_folder
        self._lock = threading.RLock()
        self._cursor_file = cursor_file(folder.path)
        self._log_file, self._event_file = Appender(folder.log), Appender(folder.events)
        self._cursor = self._recover()
        self._log = MirroredLog(self._log_file, self._cursor)
        self._events = MirroredEvents(self._event_file, self._cursor)
        self._lines: Series[str] = Series(self._log.boot, self._log.number, self._log.highest, held_bytes)
        self._said: Series[bytes] = Series(*self._events.position, limit=held_bytes)
        self._sampler: Series[bytes] = Series(*divmod(self._events.sampler_seq, SEQ_STRIDE), limit=held_bytes)
        if self._event_file.size:  # the launch was here: nothing comes before the first container
            self._lines.complete_below(1)
            self._said.complete_below(1)
        self._seen_us = self._cursor.marks[-1].at_us if self._cursor.marks else 0
        self._refused_us: int | None = None
        self._saved = time.monotonic()
        self._out: list[_Line] = []
        self._out_events: list[bytes] = []
        self._expected: Counter[str] = Counter()
        self.last_arrival = 0.0
        self.rejoin()

    def _recover(self) -> Cursor:
        """What the cursor says, in so far as the files agree."""
        cursor = load_cursor(self._cursor_file)
        log, events = self._log_file, self._event_file
        if cursor is None:  # damaged: only the volume and Modal know the log now
            log.cut(0)
            self._cursor_file.unlink()
            return Cursor()
        if log.size < cursor.heads[0]:
            log.cut(0)
        if events.size < cursor.heads[1]:
            events.cut(0)
        had_segments = bool(cursor.segments)
        changed = cursor.cut_back(log.size, events.size)
        if had_segments and not cursor.segments:
            log.cut(0)
            cursor.recent = []
        if changed:
            cursor.save(self._cursor_file, durable=True)
        return cursor

    # What the driver asks

    @property
    def since_us(self) -> int | None:
        """Everything that was said before this time is written; None if nothing is known."""
        with self._lock:
            return self._cursor.marks[-1].at_us if self._cursor.marks else None

    @property
    def waiting(self) -> bool:
        """Whether anything waits behind a gap, or for the end of an older container to be settled."""
        return self._lines.waiting or self._said.waiting or self._sampler.waiting

    @property
    def refused(self) -> bool:
        """Whether something found no room: the volume's files must be read again from their beginning."""
        return self._lines.refused or self._said.refused or self._sampler.refused

    @property
    def position(self) -> tuple[int, int]:
        """The containers of the last line and the last event that were written; 0 for none."""
        return self._lines.boot, self._said.boot

    def newest(self) -> Newest:
        """The newest containers that anything has been heard of; for :meth:`settle`."""
        with self._lock:
            return Newest(max(self._lines.newest, self._said.newest), self._sampler.newest)

    # What comes in

    def rejoin(self) -> None:
        """What has been written may come once more: a new tail begins a little before the end of the last."""
        with self._lock:
            self._expected = Counter(entry.key for entry in self._cursor.recent)

    def take(self, lines: Sequence[LogPiece]) -> None:
        """Take in lines of the app's output, each once (see :class:`~backend.launchers.modal.tail.Tailer`).

        Raises:
            OSError: They cannot be written.
        """
        with self._lock:
            for piece in lines:
                parsed = wire.parse(piece.text)
                match parsed:
                    case wire.LogLine():
                        self._take_line(parsed.boot, parsed.number, parsed.text, piece.at_us)
                    case wire.EventLine():
                        self._take_event(parsed.json, parsed.sampler, piece.at_us)
                    case wire.ForeignLine():
                        self._take_foreign(piece)
            if lines:
                self.last_arrival = time.time()
                self._seen_us = max(self._seen_us, max(piece.at_us for piece in lines))
            self._flush()

    def take_heads(self, log: bytes, events: bytes) -> None:
        """Take in what the files on the volume say of the time before the first container: whole lines.

        Only a folder that has nothing of its own takes it: elsewhere it was written by the launcher itself.

        Raises:
            OSError: They cannot be written.
        """
        log = log.decode("utf-8", "replace").encode()
        with self._lock:
            take_log = bool(log) and not self._log_file.size
            take_events = bool(events) and not self._event_file.size
            if take_log or take_events:
                old = self._cursor.heads
                self._cursor.heads = (
                    len(log) if take_log else old[0],
                    len(events) if take_events else old[1],
                )
                self._cursor.save(self._cursor_file, durable=True)
            if take_log:
                self._append_log([OwnText(line) for line in log.decode().split("\n")[:-1]])
            if take_events:
                self._event_file.append(events)
            self._said.complete_below(1)
            self._lines.complete_below(1)
            self._release()
            self._flush()

    def take_kept_lines(self, lines: Sequence[KeptLine]) -> None:
        """Take in lines of the log on the volume.

        Raises:
            OSError: They cannot be written.
        """
        with self._lock:
            for line in lines:
                self._take_line(line.boot, line.number, line.text, 0, doubtful=line.doubtful)
            self._flush()

    def take_kept_events(self, lines: Sequence[bytes], *, sampler: bool = False) -> None:
        """Take in lines of a file of events on the volume.

        Raises:
            OSError: They cannot be written.
        """
        with self._lock:
            for line in lines:
                self._take_event(line.decode("utf-8", "replace"), sampler, 0)
            self._flush()

    def heard_of(self, boot: int) -> None:
        """A container exists, though it may not have said anything yet."""
        with self._lock:
            self._lines.newest = max(self._lines.newest, boot)

    def settle(self, below: Newest) -> None:
        """Both sides have been asked since ``below`` was taken: older containers have no more to say.

        Raises:
            OSError: What this sets free cannot be written.
        """
        with self._lock:
            self._lines.complete_below(below.trainer)
            self._said.complete_below(below.trainer)
            self._sampler.complete_below(below.sampler)
            self._release()
            self._flush()

    def finish(self) -> None:
        """The run is over and both sides have been asked: write all that there is, over all gaps.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            newest = self.newest()
            self.settle(Newest(newest.trainer + 1, newest.sampler + 1))
            self._save(durable=True)

    def room(self) -> None:
        """The volume's files are about to be read from their beginning."""
        with self._lock:
            for series in (self._lines, self._said, self._sampler):
                series.refused = False

    # The launcher's own words

    def say(self, event: Event) -> None:
        """Append an event of the launcher's own; it has no number, and the volume does not have it.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            self._event_file.append(encode(replace(event, seq=0)))

    def note(self, text: str) -> None:
        """Append a line of the launcher's own to the log.

        Raises:
            OSError: It cannot be written.
        """
        with self._lock:
            self._append_log([OwnText(" ".join(text.splitlines()))])

    def close(self) -> None:
        """Note how far the mirror has come, and close the files."""
        with self._lock:
            try:
                self._save(durable=True)
            finally:
                self._log_file.close()
                self._event_file.close()

    # Inside

    def _take_line(self, boot: int, number: int, text: str, at_us: int, *, doubtful: bool = False) -> None:
        if not boot or not number:
            return
        fate = self._lines.offer(boot, number, text, len(text), at_us, weak=doubtful)
        if fate is Fate.TAKEN:
            self._release_lines()
        elif fate is Fate.LATE:
            self._lines.went_late(boot, number)
            self._out.append(self._log.late(boot, number, text))
        elif fate is Fate.REFUSED:
            self._note_refused(at_us)

    def _take_event(self, text: str, sampler: bool, at_us: int) -> None:
        try:
            record = json.loads(text)
            seq = int(record["seq"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return  # half of one: the whole one comes from the volume
        boot, number = divmod(seq, SEQ_STRIDE)
        if not number or (not boot and not sampler):
            return
        series = self._sampler if sampler else self._said
        data = (
            as_local_sampler_event(record, seq)
            if sampler
            else text.strip().encode("utf-8", "replace") + b"\n"
        )
        if series.offer(boot, number, data, len(data), at_us) is Fate.REFUSED:
            self._note_refused(at_us)
        self._release_events(series, "sampler" if sampler else "trainer")

    def _note_refused(self, at_us: int) -> None:
        if at_us and (self._refused_us is None or at_us < self._refused_us):
            self._refused_us = at_us

    def _take_foreign(self, piece: LogPiece) -> None:
        text = wire.clean_line(piece.text)
        if not text.strip():
            return
        key = _key(piece)
        if self._expected.get(key, 0) > 0:
            self._expected[key] -= 1
            return
        self._out.append(ForeignText(text, key, piece.at_us))

    def _release(self) -> None:
        self._release_lines()
        self._release_events(self._said, "trainer")
        self._release_events(self._sampler, "sampler")

    def _release_lines(self) -> None:
        for placed in self._lines.take():
            line = NumberedText(placed.boot, placed.number, placed.item)
            if placed.missing:
                self._out.append(ForeignText(_missing(placed, "lines of the log")))
            self._out.append(line)

    def _release_events(self, series: Series[bytes], whose: str) -> None:
        for placed in series.take():
            if placed.missing:
                self._out.append(ForeignText(_missing(placed, f"events of the {whose}")))
            self._out_events.append(placed.item)

    def _flush(self) -> None:
        """Write what may be written."""
        events, self._out_events = self._out_events, []
        if events:
            for line in events:
                self._events.note(line)
            self._event_file.append(b"".join(events))
        lines, self._out = self._out, []
        self._append_log(lines)
        if not self.waiting:
            self._refused_us = None
        if time.monotonic() - self._saved >= _SAVE_EVERY:
            self._save(durable=False)

    def _append_log(self, lines: Sequence[_Line]) -> None:
        if not lines:
            return
        data, save_first, durable = self._log.compose(lines)
        if save_first:
            self._cursor.save(self._cursor_file, durable=durable)
        self._log_file.append(data)

    def _save(self, *, durable: bool) -> None:
        """Note how far everything has come; only when all that was taken in is written or waits."""
        self._saved = time.monotonic()
        waiting = (self._lines.oldest_us, self._said.oldest_us, self._sampler.oldest_us, self._refused_us)
        at_us = min([self._seen_us, *(time_us - 1 for time_us in waiting if time_us)])
        log_size, events_size = self._log_file.size, self._event_file.size
        self._cursor.events = (events_size, self._events.seq, self._events.sampler_seq)
        mark = Mark(log_size, events_size, at_us)
        if at_us and (not self._cursor.marks or self._cursor.marks[-1] != mark):
            self._cursor.marks.append(mark)
        self._cursor.save(self._cursor_file, durable=durable)


def _missing(placed: Placed[Any], what: str) -> str:
    count = placed.missing
    where = f"container {placed.boot}" if placed.boot else "the run"
    return f"{count} {what} before number {placed.number} of {where} are nowhere to be found"


def _key(piece: LogPiece) -> str:
    """What identifies a line that has no number."""
    text = "\0".join((str(piece.at_us), piece.source, piece.container, piece.text))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def cursor_file(folder: Path) -> Path:
    """Where the mirror of a run folder keeps its cursor."""
    return folder / "state" / "mirror.json"
