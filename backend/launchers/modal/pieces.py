"""What comes of an app's output, piece by piece: each piece once, then whole lines.

Modal delivers pieces as they were read from a pipe: ``print`` may arrive as its text and then its newline,
a fast writer's lines arrive many at a time, and after a reconnection or a request for history the same
pieces arrive again. Neither class does any input or output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from backend.launchers.modal import wire
from backend.launchers.modal.remote import LogPiece

WINDOW_US = 45_000_000
"""How far back, by the time stamps of a container's output, repetitions are recognised."""

LIMIT = 150_000
"""Pieces that are remembered at most (some 30 MiB)."""

_LONGEST_LINE = 1 << 20  # characters after which a line is cut: nobody prints that


class SeenPieces:
    """Tells pieces that are new from repetitions.

    Two pieces can agree in everything, time stamp included, and yet be two: the newlines of two quick
    ``print`` calls. So what is compared is how often a piece came within one session (one stream, or one
    answer to a request for history) with how often it has been let through.

    What is older than the window is taken for a repetition.

    Args:
        floor_us: Everything before this time is taken for a repetition, from the start.
        window_us: How far back repetitions are recognised.
        limit: Pieces that are remembered at most.
    """

    def __init__(self, floor_us: int = 0, *, window_us: int = WINDOW_US, limit: int = LIMIT) -> None:
        self._window, self._limit, self._floor = window_us, limit, floor_us
        self._floors: dict[str, int] = {}  # by container: their clocks need not agree
        self._latest: dict[str, int] = {}
        self._let_through: dict[int, int] = {}
        self._order: deque[tuple[int, int, str]] = deque()
        self._stream: dict[int, int] = {}
        self.latest_us: int | None = None

    def new_stream(self) -> None:
        """A new stream has begun."""
        self._stream = {}

    def is_new(self, piece: LogPiece, session: dict[int, int] | None = None) -> bool:
        """Whether a piece has not been there before; from then on it has.

        Args:
            piece: The piece.
            session: The counts of an answer to a request for history, empty at its beginning; None for the
                stream.
        """
        at, container = piece.at_us, piece.container
        if at < self._floors.get(container, self._floor):
            return False
        counts = self._stream if session is None else session
        key = hash((at, piece.source, container, piece.text))
        count = counts.get(key, 0) + 1
        counts[key] = count
        if count <= self._let_through.get(key, 0):
            return False
        self._let_through[key] = count
        self._order.append((at, key, container))
        if at > self._latest.get(container, -1):
            self._latest[container] = at
            if self.latest_us is None or at > self.latest_us:
                self.latest_us = at
        return True

    def forget_old(self) -> None:
        """Forget what is older than the window; call it once in a while."""
        order = self._order
        while order:
            at, key, container = order[0]
            too_many = len(order) > self._limit
            horizon = self._latest[container] - self._window
            if at >= horizon and not too_many:
                return
            order.popleft()
            self._let_through.pop(key, None)
            self._stream.pop(key, None)
            floor = at + 1 if at >= horizon else horizon
            self._floors[container] = max(self._floors.get(container, self._floor), floor)


@dataclass(slots=True)
class _Partial:
    text: str
    at_us: int
    last: LogPiece


class LineAssembler:
    """Puts pieces together to lines, for each source of each container by itself.

    Args:
        resumed_us: Where an earlier process left off. What comes from before that has been shown, so the
            first line of a container that does not say what it is may be the end of one that was cut in two,
            and is dropped.
    """

    def __init__(self, resumed_us: int | None = None) -> None:
        self._resumed = resumed_us
        self._partial: dict[tuple[str, str], _Partial] = {}
        self._begun: set[tuple[str, str]] = set()
        self._headless: set[tuple[str, str]] = set()

    def feed(self, piece: LogPiece, into: list[LogPiece]) -> None:
        """Take a piece in; lines that it completes are appended to ``into``, without their newlines."""
        stream = (piece.source, piece.container)
        partial = self._partial.get(stream)
        if stream not in self._begun:
            self._begun.add(stream)
            if self._resumed is not None and piece.at_us < self._resumed:
                self._headless.add(stream)
        text = piece.text
        if partial is None and text.endswith("\n") and text.find("\n") == len(text) - 1:
            self._emit(stream, text[:-1], piece.at_us, into)
            return
        at = piece.at_us
        if partial is not None:
            text, at = partial.text + text, partial.at_us
        *lines, rest = text.split("\n")
        for line in lines:
            self._emit(stream, line, at, into)
            at = piece.at_us
        if len(rest) > _LONGEST_LINE:
            self._emit(stream, rest, at, into)
            rest = ""
        if rest:
            self._partial[stream] = _Partial(rest, at, piece)
        else:
            self._partial.pop(stream, None)

    def _emit(self, stream: tuple[str, str], text: str, at_us: int, into: list[LogPiece]) -> None:
        if stream in self._headless:
            self._headless.discard(stream)
            if isinstance(wire.parse(text), wire.ForeignLine):
                return
        into.append(LogPiece(text, at_us, stream[0], stream[1]))

    def finish(self, into: list[LogPiece], container: str | None = None) -> None:
        """Nothing more comes from a container, or from any: unfinished lines are lines now."""
        for stream in [key for key in self._partial if container is None or key[1] == container]:
            partial = self._partial.pop(stream)
            self._emit(stream, partial.text, partial.at_us, into)

    def mend(self, since_us: int, fetched: Iterable[LogPiece], into: list[LogPiece]) -> None:
        """After an interruption: give up unfinished lines whose continuation may be missing.

        A history that reaches back before an unfinished line's last piece and does not hold it has holes, so
        what comes next need not belong to it. A line of ours is dropped then, since it comes whole from the
        volume; what there is of a foreign one is passed on.
        """
        doubtful = {key: part for key, part in self._partial.items() if part.last.at_us >= since_us}
        if not doubtful:
            return
        there = set(fetched)
        for stream, partial in doubtful.items():
            if partial.last not in there:
                del self._partial[stream]
                if isinstance(wire.parse(partial.text), wire.ForeignLine):
                    self._emit(stream, partial.text, partial.at_us, into)
