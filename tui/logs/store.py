"""The lines of a log in bounded memory, from a stream or from a file that grows."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from tui.logs.lines import LogLine, parse_line
from tui.logs.spool import Segment, temporary_file

WINDOW = 256 * 1024
"""Longest part of one line that is ever looked at to show it, in bytes."""

_FRAME_SEARCH = 8 << 20  # how far back the last frame of an endless progress line is searched for
_READ = 1 << 20
_LONGEST = 16 << 20  # a line that search takes in one piece
_MEMORY_LIMIT = 4 << 20  # what is kept when no temporary file can be written


class LogStore:
    r"""A log's lines, read back by number.

    Bytes go to a temporary file (:meth:`feed`) or lie in a log file already (:meth:`open`); memory
    holds an index of them, not the text. Line numbers are absolute and stay valid when old lines are
    dropped. A line that is not ended by a newline yet counts as the last one; a line redrawn with
    ``\r`` shows its last frame.

    Args:
        spool_limit: Bytes kept of a stream; older lines are dropped beyond it.

    Attributes:
        first: Number of the oldest line kept.
        version: Grows with every change.
        generation: Grows when what was there is no longer valid (cleared, or the file was replaced).
        problem: Why lines may be missing, as a sentence; None when all is well.
    """

    def __init__(self, *, spool_limit: int = 256 << 20) -> None:
        self.version = 0
        self.generation = 0
        self.problem: str | None = None
        self.path: Path | None = None
        self._limit = spool_limit
        self._segment_limit = max(1024, spool_limit // 8)
        self._segments: deque[Segment] = deque()
        self._cache: OrderedDict[tuple[int, int, int], list[bytes]] = OrderedDict()
        self._identity: tuple[int, int] | None = None
        self._file_size = 0

    @classmethod
    def open(cls, path: Path) -> LogStore:
        """A store over a log file, read in place; call :meth:`poll` to take in what it holds.

        The file need not exist yet, may grow, and may be truncated or replaced.
        """
        store = cls()
        store.path = path
        return store

    # -- taking in ----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Append a chunk of a stream, cut anywhere.

        Raises:
            ValueError: The store reads a file.
        """
        if self.path is not None:
            raise ValueError("this store reads a file; its lines come from there")
        # Pieces keep a single huge chunk from making one huge segment.
        for start in range(0, len(data), self._segment_limit):
            self._append(data[start : start + self._segment_limit])
        if data:
            self.version += 1

    def _append(self, data: bytes) -> None:
        if not self._segments:
            self._segments.append(Segment(temporary_file()))
        elif self._segments[-1].index.size + len(data) > self._segment_limit:
            self._rotate(temporary_file())
        try:
            self._segments[-1].append(data)
        except OSError as error:
            # The log of a run must not bring the app down: keep the newest lines in memory.
            self.problem = f"older log lines are not kept: {error.strerror or error}"
            self._limit, self._segment_limit = _MEMORY_LIMIT, _MEMORY_LIMIT // 8
            self._rotate(io.BytesIO())
        while len(self._segments) > 1 and sum(s.index.size for s in self._segments) > self._limit:
            self._segments.popleft().close()

    def _rotate(self, file: BinaryIO) -> None:
        """Start a new segment; the unfinished line moves there, with its last frame only."""
        last = self._segments[-1]
        raw, _ = self._raw(last, last.index.tail, last.index.size)
        frame = raw.rstrip(b"\r")
        frame = frame[frame.rfind(b"\r") + 1 :][: self._segment_limit // 2]
        self._segments.append(Segment(file, last.stop))
        if frame:
            self._segments[-1].append(frame + raw[-1:] if raw.endswith(b"\r") else frame)

    def poll(self, seconds: float = 0.01) -> bool:
        """Take in what the file has gained, for about ``seconds`` at most; see :attr:`behind`.

        Returns:
            Whether anything changed. Always False for a stream.
        """
        if self.path is None or not self._refresh_file():
            return False
        segment, changed = self._segments[-1], False
        deadline = time.monotonic() + seconds
        while segment.index.size < self._file_size:
            data = segment.read(segment.index.size, min(self._file_size, segment.index.size + _READ))
            if not data:
                break
            segment.index.add(data)
            changed = True
            if time.monotonic() >= deadline:
                break
        self.version += changed
        return changed

    @property
    def behind(self) -> int:
        """Bytes of the file that the last :meth:`poll` had no time for."""
        return max(0, self._file_size - self._segments[-1].index.size) if self._segments else 0

    def _refresh_file(self) -> bool:
        """Look at the file's size and identity; start again if it is another one or has shrunk."""
        assert self.path is not None
        try:
            stat = os.stat(self.path)
        except OSError as error:
            gone = isinstance(error, FileNotFoundError)
            self.problem = None if gone else f"the log cannot be read: {error.strerror or error}"
            return False
        identity = (stat.st_dev, stat.st_ino)
        if self._segments and (identity != self._identity or stat.st_size < self._segments[-1].index.size):
            self._drop_everything()
        if not self._segments:
            try:
                file = cast("BinaryIO", open(self.path, "rb", buffering=0))  # noqa: SIM115
            except OSError as error:
                self.problem = f"the log cannot be read: {error.strerror or error}"
                return False
            self._segments.append(Segment(file))
        self._identity, self._file_size, self.problem = identity, stat.st_size, None
        return True

    def clear(self) -> None:
        """Forget every line; line numbers start at 0 again. A file is taken in again by :meth:`poll`."""
        self._drop_everything()

    def _drop_everything(self) -> None:
        self.close()
        self.version += 1
        self.generation += 1

    def close(self) -> None:
        """Let go of the files. The store is empty then, and may be used again."""
        while self._segments:
            self._segments.pop().close()
        self._cache.clear()
        self._file_size = 0

    # -- reading ------------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """Number of the oldest line kept."""
        return self._segments[0].first if self._segments else 0

    @property
    def complete(self) -> int:
        """The number after the last line that a newline ended."""
        return self._segments[-1].stop if self._segments else 0

    @property
    def stop(self) -> int:
        """The number after the last line, an unfinished one included."""
        if not self._segments:
            return 0
        index = self._segments[-1].index
        return self.complete + (index.size > index.tail)

    def __len__(self) -> int:
        """How many lines can be read."""
        return self.stop - self.first

    @property
    def size(self) -> int:
        """Bytes that are kept, or that the file holds as far as it was read."""
        return sum(segment.index.size for segment in self._segments)

    def raw(self, line: int) -> tuple[bytes, int]:
        r"""The bytes of a line without its newline, and how many were left out at its end.

        Of a very long line this is the beginning of its last frame (what follows the last ``\r``),
        at most :data:`WINDOW` bytes.

        Raises:
            IndexError: There is no such line, or it was dropped.
        """
        segment = self._segment_of(line)
        index, local = segment.index, line - segment.first
        if local >= index.lines:  # the unfinished one
            return self._raw(segment, index.tail, index.size)
        start, end, first = index.block_of(local)
        if end - start > WINDOW:
            return self._raw_in_large_block(segment, start, end, local - first)
        key = (segment.first, start, end)
        lines = self._cache.get(key)
        if lines is None:
            lines = segment.read(start, end).split(b"\n")
            self._cache[key] = lines
            if len(self._cache) > 32:
                self._cache.popitem(last=False)
        with contextlib.suppress(IndexError):
            return lines[local - first], 0
        return b"", 0  # the file shrank a moment ago; the next poll notices

    def line(self, line: int) -> LogLine:
        """A line as it is shown.

        Raises:
            IndexError: There is no such line, or it was dropped.
        """
        raw, omitted = self.raw(line)
        return parse_line(raw, omitted)

    def _segment_of(self, line: int) -> Segment:
        if line >= self.first and line < self.stop:
            for segment in reversed(self._segments):
                if line >= segment.first:
                    return segment
        raise IndexError(f"no line {line}: there are {self.first} to {self.stop - 1}")

    def _raw_in_large_block(self, segment: Segment, start: int, end: int, skip: int) -> tuple[bytes, int]:
        """A line of a block that one huge line, always its last, has made larger than :data:`WINDOW`."""
        head = segment.read(start, start + WINDOW)
        position = 0
        for _ in range(skip):
            position = head.find(b"\n", position) + 1
        newline = head.find(b"\n", position)
        if newline >= 0:
            return head[position:newline], 0
        last = segment.read(end - 1, end) == b"\n"
        return self._raw(segment, start + position, end - last)

    @staticmethod
    def _raw(segment: Segment, start: int, end: int) -> tuple[bytes, int]:
        """The beginning of the last frame of the line between two offsets."""
        if end - start <= WINDOW:
            return segment.read(start, end), 0
        frame, window_end, trailing = start, end, True
        while window_end > max(start, end - _FRAME_SEARCH):
            window_start = max(start, window_end - WINDOW)
            data = segment.read(window_start, window_end)
            if trailing:  # returns at the very end belong to the last frame
                data = data.rstrip(b"\r")
                trailing = not data
                end = min(end, window_start + len(data))
            position = data.rfind(b"\r")
            if position >= 0:
                frame = window_start + position + 1
                break
            window_end = window_start
        raw = segment.read(frame, min(end, frame + WINDOW))
        return raw, max(0, end - frame - len(raw))

    def chunks(self, start: int, size: int = 256 * 1024) -> Iterator[tuple[int, bytes]]:
        """The whole lines from ``start`` on, about ``size`` bytes at a time; for any thread.

        Yields:
            The number of the first line in the chunk, and the chunk, which ends with a newline (only a
            line longer than 16 MiB comes in several chunks of the same number).
        """
        for segment in list(self._segments):
            index = segment.index
            line = max(start, segment.first)
            stop, end = segment.stop, index.tail
            if line >= stop:
                continue
            offset, _, block_first = index.block_of(line - segment.first)
            number = segment.first + block_first
            while offset < end:
                data = segment.read(offset, min(end, offset + size))
                newline = data.rfind(b"\n") + 1
                while data and not newline and len(data) < _LONGEST and offset + len(data) < end:
                    more = segment.read(offset + len(data), min(end, offset + len(data) + 4 * size))
                    newline = len(data) + more.rfind(b"\n") + 1 if b"\n" in more else 0
                    data += more
                    if not more:
                        break
                if not data:
                    return
                chunk = data[:newline] if newline else data
                count = chunk.count(b"\n")
                offset += len(chunk)
                if number + max(count, 1) > line:
                    if number < line:  # the block began before the line asked for
                        position = 0
                        for _ in range(line - number):
                            position = chunk.find(b"\n", position) + 1
                        yield line, chunk[position:]
                    else:
                        yield number, chunk
                number += count
