"""The tail of an app's output: everything once, in whole lines, whatever the connection does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backend.launchers.modal.pieces import LineAssembler, SeenPieces
from backend.launchers.modal.remote import LogPiece, OfflineError, RefusedError
from backend.launchers.modal.tail import Link, Tailer, TailState, TailTiming, pause_before
from tests.backend.modal.fake_log import START_US, FakeLog

QUICK = TailTiming(batch=0.001, longest_pause=0.01, second_look=0.02, quiet=30.0)
PATIENCE = 60.0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)


class Reader:
    """Reads a tailer in a task."""

    def __init__(self, tailer: Tailer) -> None:
        self.tailer = tailer
        self.pieces: list[LogPiece] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async with contextlib.aclosing(self.tailer.batches()) as batches:
            async for batch in batches:
                assert batch
                self.pieces += batch

    @property
    def lines(self) -> list[str]:
        return [piece.text for piece in self.pieces]

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@contextlib.asynccontextmanager
async def reading(log: Any, *args: Any, timing: TailTiming = QUICK, **options: Any) -> AsyncIterator[Reader]:
    reader = Reader(Tailer(log, *args, timing=timing, **options))
    try:
        yield reader
    finally:
        await reader.stop()


# Whole lines


async def test_text_and_newline_in_two_pieces_are_one_line() -> None:
    log = FakeLog()
    async with reading(log) as reader:
        await log.say("hello")
        await log.say("\n")
        await log.say("a\nb\nc")
        await until(lambda: len(reader.lines) == 3)
        assert reader.lines == ["hello", "a", "b"]
        await log.say("d\n")
        await until(lambda: len(reader.lines) == 4)
        assert reader.lines[-1] == "cd"


async def test_lines_of_several_writers_do_not_mix() -> None:
    log = FakeLog()
    async with reading(log) as reader:
        for text, container, source in [
            ("one", "ta-1", "stdout"),
            ("two", "ta-2", "stdout"),
            ("three", "ta-1", "stderr"),
            ("!\n", "ta-2", "stdout"),
            ("?\n", "ta-1", "stdout"),
            (".\n", "ta-1", "stderr"),
        ]:
            await log.say(text, container, source)
        await until(lambda: len(reader.lines) == 3)
        assert [(p.text, p.container, p.source) for p in reader.pieces] == [
            ("two!", "ta-2", "stdout"),
            ("one?", "ta-1", "stdout"),
            ("three.", "ta-1", "stderr"),
        ]


async def test_an_unfinished_line_is_passed_on_when_its_container_is_done() -> None:
    log = FakeLog()
    async with reading(log) as reader:
        await log.say("x\nhalf", "ta-1")
        await log.say("other", "ta-2")
        await until(lambda: reader.lines == ["x"])
        await reader.tailer.finish_lines("ta-1")
        assert reader.lines == ["x", "half"]
        await log.end()
        await until(lambda: reader.lines == ["x", "half", "other"])


async def test_two_newlines_with_one_time_stamp_are_two() -> None:
    log = FakeLog(replays=True)
    for text in ("a", "\n", "\n", "b", "\n"):
        await log.say(text, later_us=0)
    async with reading(log) as reader:
        await until(lambda: reader.tailer.state.link is Link.LIVE and len(reader.lines) >= 3)
        assert await reader.tailer.catch_up()
        assert reader.lines == ["a", "", "b"]


# Connections


@pytest.mark.parametrize("replays", [False, True])
async def test_what_was_printed_before_and_while_offline_comes_once(replays: bool) -> None:
    log = FakeLog(replays=replays)
    states: list[TailState] = []
    await log.say("before\n")
    async with reading(log, None, states.append) as reader:
        await log.say("live\n")
        await until(lambda: reader.lines == ["before", "live"])
        await log.cut()
        await until(lambda: reader.tailer.state.link is Link.OFFLINE)
        assert isinstance(reader.tailer.state.error, OfflineError)
        assert time.time() - 30 < reader.tailer.state.since <= time.time()
        for number in range(50):
            await log.say(f"offline {number}\n")
        await log.heal()
        await log.say("after\n")
        await until(lambda: "after" in reader.lines)
        assert reader.lines == ["before", "live", *(f"offline {n}" for n in range(50)), "after"]
    assert [state.link for state in states] == [Link.LIVE, Link.OFFLINE, Link.LIVE]


async def test_a_done_app_is_not_taken_for_a_finished_run() -> None:
    log = FakeLog()
    async with reading(log) as reader:
        await log.say("a\n")
        await log.end()
        await until(lambda: reader.tailer.state.link is Link.DONE)
        await asyncio.sleep(0.05)  # several further looks
        assert reader.tailer.state.link is Link.DONE
        await log.change(lambda: setattr(log, "done", False))
        await log.say("b\n")
        await until(lambda: reader.lines == ["a", "b"])
        assert reader.tailer.state.link is Link.LIVE
        assert not reader.task.done()


async def test_a_stream_that_has_gone_deaf_is_noticed() -> None:
    log = FakeLog()
    timing = TailTiming(batch=0.001, longest_pause=0.01, second_look=0.01, quiet=0.05)
    async with reading(log, timing=timing) as reader:
        await log.say("a\n")
        await until(lambda: reader.lines == ["a"])
        log.deaf = True
        said = ["a"]
        async with asyncio.timeout(PATIENCE):
            while log.streams < 2:
                said.append(f"unheard {len(said)}")
                await log.say(said[-1] + "\n")
                await asyncio.sleep(0.02)
        log.deaf = False
        await log.say("heard\n")
        await until(lambda: reader.lines == [*said, "heard"])


async def test_without_any_history_the_stream_has_to_do() -> None:
    log = FakeLog()
    log.no_history = RefusedError("not in this plan")
    async with reading(log) as reader:
        await until(lambda: log.open_streams == 1)
        await asyncio.sleep(0.01)
        await log.say("a\n")
        await until(lambda: reader.lines == ["a"])
        assert reader.tailer.state.link is Link.LIVE
        assert not await reader.tailer.catch_up()


async def test_errors_of_any_kind_do_not_end_the_tail() -> None:
    class Broken(FakeLog):
        async def fetch(self, since_us: int | None = None) -> list[LogPiece]:
            if self.fetches < 3:
                self.fetches += 1
                raise ConnectionResetError("raw")
            return await super().fetch(since_us)

    log = Broken()
    await log.say("a\n")
    async with reading(log) as reader:
        await until(lambda: reader.lines == ["a"])


async def test_catching_up_returns_when_the_lines_are_with_the_reader() -> None:
    log = FakeLog()
    log.deaf = True
    async with reading(log) as reader:
        await until(lambda: reader.tailer.state.link is Link.LIVE)
        await log.say("a\n")
        assert await reader.tailer.catch_up()
        assert reader.lines == ["a"]
        await log.cut()
        assert not await reader.tailer.catch_up()
    assert not await reader.tailer.catch_up()


async def test_a_hint_ends_the_pause() -> None:
    log = FakeLog()
    await log.cut()
    timing = TailTiming(batch=0.001, longest_pause=3600, second_look=0.01)
    async with reading(log, timing=timing) as reader:
        await until(lambda: log.fetches >= 4)  # 0.25 to 0.5, 0.5 to 1 ... seconds
        await log.heal()
        await log.say("a\n")
        reader.tailer.hurry()
        await until(lambda: reader.lines == ["a"])


@pytest.mark.parametrize("where", ["streaming", "offline", "fetching", "unread"])
async def test_cancelling_leaves_nothing_behind(where: str) -> None:
    log = FakeLog()
    if where == "offline":
        await log.cut()
    if where == "fetching":
        never = asyncio.Event()
        log.fetch = lambda since_us=None: never.wait()  # type: ignore[assignment,method-assign]
    tailer = Tailer(log, timing=TailTiming(longest_pause=30))
    if where == "unread":
        batches = tailer.batches()
        await log.say("a\n")
        assert [piece.text for piece in await anext(batches)] == ["a"]
        await batches.aclose()
    else:
        reader = Reader(tailer)
        await asyncio.sleep(0.05)
        asked = asyncio.create_task(tailer.catch_up())
        await asyncio.sleep(0.01)
        reader.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reader.task, PATIENCE)
        assert await asyncio.wait_for(asked, PATIENCE) in (False, True)
    await until(lambda: log.open_streams == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_whose_cancellation_fails_does_no_harm() -> None:
    """As the SDK's ``FunctionCall.logs.stream`` does."""

    class Stubborn(FakeLog):
        async def stream(self) -> AsyncIterator[LogPiece]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise RuntimeError("aclose(): asynchronous generator is already running") from None
            yield LogPiece("", 0, "")

    log = Stubborn()
    reader = Reader(Tailer(log, timing=QUICK))
    await until(lambda: log.fetches > 0)
    reader.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reader.task, PATIENCE)


async def test_two_readers_are_refused() -> None:
    log = FakeLog()
    async with reading(log) as reader:
        await until(lambda: log.streams > 0)
        with pytest.raises(RuntimeError):
            await anext(reader.tailer.batches())


def test_pauses_grow_to_a_limit() -> None:
    assert pause_before(1, 15, 1.0) <= 0.2
    for jitter in (0.0, 0.5, 1.0):
        pauses = [pause_before(n, 15, jitter) for n in range(2, 400)]
        assert pauses == sorted(pauses)
        assert pauses[0] >= 0.25
        assert 7.5 <= pauses[-1] <= 15


# Going on where another process left off


async def test_a_new_process_asks_for_a_little_more_than_it_needs() -> None:
    log = FakeLog(replays=True)
    await log.say("[1.1] old\n")
    log.now_us += 100_000_000
    await log.say("[1.2] recent\n")
    await log.say("[1.3] new\n")
    async with reading(log, log.now_us - 500) as reader:
        await until(lambda: len(reader.lines) >= 2)
        assert await reader.tailer.catch_up()
        assert reader.lines == ["[1.2] recent", "[1.3] new"]


async def test_half_a_line_at_the_beginning_of_what_is_asked_for_is_no_line() -> None:
    log = FakeLog()
    await log.say('@@{"seq":1,"lo')
    log.now_us += 40_000_000  # so that only the second half is within what is asked for
    await log.say('ss":0.3}\n')
    await log.say("[1.1] mine\n")
    await log.say("theirs\n", "ta-2")
    async with reading(log, log.now_us + 1) as reader:
        await until(lambda: len(reader.lines) >= 1)
        assert await reader.tailer.catch_up()
        assert reader.lines == ["[1.1] mine"]
        await log.say("later\n", "ta-2")
        await until(lambda: reader.lines == ["[1.1] mine", "later"])


# The pure parts


def test_a_line_is_not_joined_over_a_hole() -> None:
    assembler = LineAssembler()
    lines: list[LogPiece] = []
    ours, theirs = LogPiece("[1.5] ha", 100, "stdout", "a"), LogPiece("Runner", 100, "system", "a")
    fine = LogPiece("[1.1] li", 100, "stdout", "b")
    for piece in (ours, theirs, fine):
        assembler.feed(piece, lines)

    assembler.mend(50, [fine], lines)
    assembler.feed(LogPiece("[1.9] next\n", 200, "stdout", "a"), lines)
    assembler.feed(LogPiece("ne\n", 200, "stdout", "b"), lines)

    assert [piece.text for piece in lines] == ["Runner", "[1.9] next", "[1.1] line"]


def test_what_is_remembered_has_bounds_and_the_old_stays_known() -> None:
    seen = SeenPieces(window_us=1_000, limit=100)
    pieces = [LogPiece("x\n", at, "stdout", "a") for at in range(0, 20_000, 5)]
    for piece in pieces:
        assert seen.is_new(piece)
        seen.forget_old()
    assert len(seen._order) <= 100

    again: dict[int, int] = {}
    assert not any(seen.is_new(piece, again) for piece in pieces)
    assert seen.is_new(LogPiece("x\n", 20_001, "stdout", "a"), again)


def test_a_container_with_a_fast_clock_does_not_hide_the_others() -> None:
    seen = SeenPieces(window_us=1_000)
    assert seen.is_new(LogPiece("x", 1_000_000, "stdout", "fast"))
    for at in range(100):
        assert seen.is_new(LogPiece("y", at, "stdout", "slow"))
        seen.forget_old()


# Anything may happen

TEXTS = st.sampled_from(["a", "b\n", "\n", "[1.1] c", "d\ne\n", "f\ng", "", "\n\n"])
ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("say"),
            TEXTS,
            st.sampled_from(["ta-1", "ta-2"]),
            st.sampled_from(["stdout", "stderr"]),
            st.sampled_from([0, 0, 1, 1_000_000]),
        ),
        st.sampled_from([("cut",), ("heal",), ("breathe",), ("catch up",), ("done",), ("not done",)]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=ACTS, replays=st.booleans())
def test_every_line_comes_once_and_in_order(acts: list[Any], replays: bool) -> None:
    said: dict[tuple[str, str], str] = defaultdict(str)

    async def scenario() -> list[LogPiece]:
        log = FakeLog(replays=replays)
        async with reading(log) as reader:
            for act in acts:
                match act:
                    case ("say", text, container, source, later):
                        said[(source, container)] += text
                        await log.say(text, container, source, later)
                    case ("cut",):
                        await log.cut()
                    case ("heal",):
                        await log.heal()
                    case ("breathe",):
                        await asyncio.sleep(0.003)
                    case ("catch up",):
                        await asyncio.wait_for(reader.tailer.catch_up(), PATIENCE)
                    case _:
                        pass
            await log.heal()
            reader.tailer.hurry()
            async with asyncio.timeout(PATIENCE):
                while not await reader.tailer.catch_up():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await reader.tailer.finish_lines()
            return reader.pieces

    pieces = asyncio.run(scenario())

    for (source, container), text in said.items():
        mine = [p.text for p in pieces if (p.source, p.container) == (source, container)]
        assert mine == text.removesuffix("\n").split("\n") if text else mine == []
    assert all(piece.at_us >= START_US for piece in pieces)


# Speed


async def test_twelve_thousand_pieces_a_second_are_no_burden() -> None:
    """Twice what is asked for, with each line in two pieces, within half of the time there is."""
    count = 30_000

    class Firehose(FakeLog):
        async def stream(self) -> AsyncIterator[LogPiece]:
            for number in range(count):
                at = START_US + number * 83
                yield LogPiece(
                    f"[1.{number + 1}] step {number} loss 0.123 lr 1e-4 grad 0.5", at, "stdout", "ta-1"
                )
                yield LogPiece("\n", at, "stdout", "ta-1")
                if not number % 50:
                    await asyncio.sleep(0)
            await asyncio.Event().wait()

    began = time.process_time()
    async with reading(Firehose(), timing=TailTiming(second_look=30)) as reader:
        await until(lambda: len(reader.pieces) == count)
    assert reader.lines[-1].startswith(f"[1.{count}]")
    assert time.process_time() - began < 2 * count / 12_000 / 2
