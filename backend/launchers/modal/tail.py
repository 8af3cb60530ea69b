"""Following an app's output through everything that can happen to a connection.

The SDK's own stream gives up after some seconds without a network, has no way to go on from a place, and may
or may not begin with history. :class:`Tailer` makes of it a stream that never ends by itself, in which every
piece comes once, in whole lines, for as long as Modal keeps the output.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum

from backend.launchers.modal.pieces import LineAssembler, SeenPieces
from backend.launchers.modal.remote import LogPiece, LogSource, OfflineError, RemoteError

_MOST_WAITING = 50_000  # pieces that may wait before the stream is made to wait
_PORTION = 5_000  # pieces of history that are worked through before others have their turn


class Link(StrEnum):
    """How the output reaches us."""

    CONNECTING = "connecting"
    LIVE = "live"
    OFFLINE = "offline"
    DONE = "done"


@dataclass(frozen=True)
class TailState:
    """The state of the connection; ``done`` means that Modal calls the app done, and says nothing of the run.

    Attributes:
        link: The state.
        since: When it began, seconds since 1970.
        error: What broke the connection, in state ``offline``.
    """

    link: Link
    since: float
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class TailTiming:
    """Seconds.

    Attributes:
        batch: Pieces are passed on together that come within this.
        longest_pause: Between two tries to connect.
        overlap: History is asked for from this much before the newest piece.
        proof: A connection that lasts this long was a good one: the next failure is retried at once.
        second_look: The history is asked for again so long after a stream was opened, in case something came
            between the first look and the stream's true beginning.
        quiet: If the stream is silent for so long, the history is asked whether it should be.
    """

    batch: float = 0.05
    longest_pause: float = 15.0
    overlap: float = 30.0
    proof: float = 10.0
    second_look: float = 5.0
    quiet: float = 60.0


def pause_before(failures: int, longest: float, jitter: float) -> float:
    """Seconds to wait after the n-th failure in a row: none after the first, then ever more.

    Args:
        failures: How many there were, from 1.
        longest: The most.
        jitter: From 0 to 1, so that not everybody comes back at once.
    """
    if failures <= 1:
        return 0.2 * jitter
    return float(min(longest, 0.5 * 2 ** min(failures - 2, 16)) * (0.5 + 0.5 * jitter))


class _Stale(Exception):  # noqa: N818 - a reason to connect anew, not an error
    """The history has what the stream did not deliver."""


class Tailer:
    """An endless stream of an app's output, in whole lines; see :meth:`batches`.

    It is right whether or not the server sends history at the beginning of a stream.

    Args:
        source: The app's output.
        since_us: Where an earlier process left off (microseconds since 1970); None for all that there is.
        on_state: Called at each change of the connection's state.
        timing: How long things take.
    """

    def __init__(
        self,
        source: LogSource,
        since_us: int | None = None,
        on_state: Callable[[TailState], None] | None = None,
        *,
        timing: TailTiming | None = None,
    ) -> None:
        self.state = TailState(Link.CONNECTING, time.time())
        self._source = source
        self._on_state = on_state
        self._timing = timing or TailTiming()
        self._since = since_us
        floor = 0 if since_us is None else since_us - self._overlap_us
        self._seen = SeenPieces(floor)
        self._assembler = LineAssembler(since_us)
        self._incoming: list[LogPiece] = []  # from the stream, not looked at yet
        self._lines: list[LogPiece] = []  # for the consumer
        self._delivered: list[tuple[asyncio.Future[bool], bool]] = []  # told when the consumer has the lines
        self._requests: list[asyncio.Future[bool]] = []
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._space = asyncio.Event()
        self._hurry = asyncio.Event()
        self._running = False

    @property
    def _overlap_us(self) -> int:
        return int(self._timing.overlap * 1e6)

    @property
    def latest_us(self) -> int | None:
        """The newest time stamp so far."""
        return self._seen.latest_us

    # For the consumer

    async def batches(self) -> AsyncGenerator[list[LogPiece], None]:
        """The lines as they come, never an empty list; ends only by being closed or cancelled.

        A line is a :class:`LogPiece` without a newline, with the time stamp of its first piece. Lines of one
        source of one container come in order.

        Raises:
            RuntimeError: It is being read already.
        """
        if self._running:
            raise RuntimeError("the tail has a reader already")
        self._running = True
        producer = asyncio.create_task(self._produce(), name="tail")
        producer.add_done_callback(lambda _: self._ready.set())
        try:
            while True:
                await self._ready.wait()
                if producer.done():
                    producer.result()
                await asyncio.sleep(self._timing.batch)
                self._ready.clear()
                lines, self._lines = self._lines, []
                delivered, self._delivered = self._delivered, []
                self._room.set()
                try:
                    if lines:
                        yield lines
                finally:
                    for future, result in delivered:
                        _answer(future, result)
        finally:
            self._running = False
            await _end(producer)
            for future in self._requests + [future for future, _ in self._delivered]:
                _answer(future, False)
            self._requests, self._delivered = [], []

    def __aiter__(self) -> AsyncIterator[list[LogPiece]]:
        return self.batches()

    async def catch_up(self) -> bool:
        """Ask for the history now; returns when the consumer has got all that came of it.

        False if it could not be had, or if nobody reads.
        """
        if not self._running:
            return False
        future = asyncio.get_running_loop().create_future()
        self._requests.append(future)
        self._arrived.set()
        self._hurry.set()
        return bool(await future)

    async def finish_lines(self, container: str | None = None) -> None:
        """Nothing more comes from a container (or from any): pass unfinished lines on."""
        self._assembler.finish(self._lines, container)
        if self._running:
            future = asyncio.get_running_loop().create_future()
            self._pass_on(future, True)
            await future

    def hurry(self) -> None:
        """There is reason to think that the network is back: do not wait for the next try."""
        self._hurry.set()

    # The connection

    async def _produce(self) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            self._hurry.clear()
            try:
                await self._follow()
            except _Stale:
                continue
            except Exception as error:  # raw errors of grpclib too: none of them may end the tail
                lasted = time.monotonic() - began
                failures = (
                    1 if self.state.link is Link.LIVE and lasted >= self._timing.proof else failures + 1
                )
                self._tell(Link.OFFLINE, error)
                self._refuse_requests()
                pause = pause_before(failures, self._timing.longest_pause, random.random())
            else:
                failures = 0
                self._assembler.finish(self._lines)
                self._pass_on()
                self._tell(Link.DONE)
                pause = self._timing.longest_pause
            if pause:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), pause)

    def _tell(self, link: Link, error: Exception | None = None) -> None:
        if link is self.state.link:
            return
        self.state = TailState(link, time.time(), error)
        if self._on_state is not None:
            self._on_state(self.state)

    async def _follow(self) -> None:
        """One connection, until the app is done or the connection breaks."""
        self._incoming = []
        self._seen.new_stream()
        self._arrived.clear()
        pump = asyncio.create_task(self._pump(self._incoming), name="tail-stream")
        pump.add_done_callback(lambda _: self._arrived.set())
        try:
            await self._take_history(mend=True)
            opened = heard = time.monotonic()
            looked_again = False
            while True:
                if self._requests:
                    await self._take_history()
                if self._incoming:
                    heard = time.monotonic()
                    if not looked_again:
                        looked_again = True
                        await self._take_history()
                    self._drain()
                elif pump.done():
                    pump.result()
                    await self._take_history()
                    return
                elif not looked_again and time.monotonic() - opened >= self._timing.second_look:
                    looked_again = True
                    await self._take_history()
                elif time.monotonic() - heard >= self._timing.quiet:
                    heard = time.monotonic()
                    if await self._take_history() and not self._incoming:
                        raise _Stale
                await self._room.wait()
                limit = self._timing.quiet if looked_again else self._timing.second_look
                if not (self._incoming or self._requests or pump.done()):
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._arrived.wait(), limit)
                    if not (self._requests or pump.done()):
                        await asyncio.sleep(self._timing.batch / 2)  # more is about to come
                self._arrived.clear()
        finally:
            await _end(pump)

    async def _pump(self, into: list[LogPiece]) -> None:
        """Read the stream, no faster than it is consumed."""
        async with contextlib.aclosing(_generator(self._source.stream())) as stream:
            async for piece in stream:
                into.append(piece)
                if len(into) == 1:
                    self._arrived.set()
                if len(into) >= _MOST_WAITING:
                    self._space.clear()
                    await self._space.wait()

    def _drain(self) -> None:
        """Work through what the stream brought."""
        new = False
        for piece in self._incoming:
            if self._seen.is_new(piece):
                new = True
                self._assembler.feed(piece, self._lines)
        self._incoming.clear()
        self._space.set()
        self._seen.forget_old()
        self._is_live(new)
        self._pass_on()

    async def _take_history(self, *, mend: bool = False) -> bool:
        """Ask for what Modal has kept since shortly before the newest piece; whether it had anything new.

        What the stream brought meanwhile is worked through after it: in the other order an interruption
        between this and the next try could leave a hole older than what is asked for.
        """
        requests, self._requests = self._requests, []
        latest = self._seen.latest_us if self._seen.latest_us is not None else self._since
        since = None if latest is None else max(0, latest - self._overlap_us)
        try:
            pieces = await self._source.fetch(since)
        except BaseException as error:
            if isinstance(error, RemoteError) and not isinstance(error, OfflineError):
                for future in requests:  # no history for this account: the stream has to do
                    self._pass_on(future, False)
                return False
            self._requests = requests + self._requests
            raise
        if mend and since is not None:
            self._assembler.mend(since, pieces, self._lines)
        session: dict[int, int] = {}
        new = False
        for start in range(0, len(pieces), _PORTION):
            for piece in pieces[start : start + _PORTION]:
                if self._seen.is_new(piece, session):
                    new = True
                    self._assembler.feed(piece, self._lines)
            self._pass_on()
            await self._room.wait()
            await asyncio.sleep(0)
        self._seen.forget_old()
        self._is_live(new)
        if self._incoming:
            self._drain()
        for future in requests:
            self._pass_on(future, True)
        self._pass_on()
        return new

    def _is_live(self, new: bool) -> None:
        if new or self.state.link is not Link.DONE:  # a finished app's old output makes it no livelier
            self._tell(Link.LIVE)

    def _pass_on(self, future: asyncio.Future[bool] | None = None, result: bool = True) -> None:
        if future is not None:
            self._delivered.append((future, result))
        if len(self._lines) >= _MOST_WAITING:
            self._room.clear()
        if self._lines or self._delivered:
            self._ready.set()

    def _refuse_requests(self) -> None:
        for future in self._requests:
            self._pass_on(future, False)
        self._requests = []


def _generator(stream: AsyncIterator[LogPiece]) -> AsyncGenerator[LogPiece, None]:
    """The stream as something that can be closed."""
    if isinstance(stream, AsyncGenerator):
        return stream

    async def read() -> AsyncGenerator[LogPiece, None]:
        async for piece in stream:
            yield piece

    return read()


def _answer(future: asyncio.Future[bool], result: bool) -> None:
    if not future.done():
        future.set_result(result)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end, whatever it says; our own cancellation passes."""
    task.cancel()
    while not task.done():
        await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, so that nobody reports it as forgotten
