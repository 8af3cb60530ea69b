"""A run followed from beginning to end, over two containers, outages and the viewer's own death."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from backend.launchers.modal.follower import Follower, FollowState, FollowTiming
from backend.launchers.modal.mirror import Mirror
from backend.launchers.modal.remote import LogPiece, OfflineError, RefusedError
from backend.launchers.modal.tail import Link, Tailer, TailTiming
from backend.runs.folder import RunFolder
from tests.backend.modal.fake_log import FakeLog
from tests.backend.modal.mirror_world import FOLDER, World

PATIENCE = 60.0
TAIL = TailTiming(batch=0.002, longest_pause=0.02, second_look=0.02, quiet=30)
QUICK = FollowTiming(gap=0.05, again=0.05, quiet=30, settling=0.05, patience=30, retry=0.5, last_gap=0.2)
HEAD = b'{"v":1,"seq":0,"t":1.0,"type":"phase","phase":"checking"}\n'


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


class Run:
    """A run on Modal and who follows it."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.folder.create()
        self.folder.log.write_bytes(b"launch\n")
        self.folder.events.write_bytes(HEAD)
        self.world = World(random.Random(1))
        self.world.launch(b"launch\n", HEAD)
        self.log = FakeLog()
        self.states: list[FollowState] = []

    async def show(self) -> None:
        """What the world has printed reaches Modal."""
        pieces = [
            LogPiece(piece.text + "\n", piece.at_us, piece.source, piece.container)
            for number, piece in enumerate(self.world.printed)
            if number not in self.world.forgotten
        ]
        await self.log.change(lambda: setattr(self.log, "kept", pieces))

    async def say(self, *texts: str) -> None:
        for text in texts:
            self.world.say(text, 1_000)
            self.world.report(1_000)
        await self.show()

    def lines(self) -> list[str]:
        return self.folder.log.read_text("utf-8").split("\n")[1:-1]

    def events(self) -> list[bytes]:
        return self.folder.events.read_bytes().split(b"\n")[1:-1]

    @contextlib.asynccontextmanager
    async def followed(self, timing: FollowTiming = QUICK) -> AsyncIterator[Follower]:
        mirror = Mirror(self.folder, FOLDER)
        tailer = Tailer(self.log, mirror.since_us, timing=TAIL)
        follower = Follower(mirror, self.world.volume, tailer, self.states.append, timing=timing)
        task = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            mirror.close()

    def check(self) -> None:
        lines, events = self.world.truth()
        assert [line for line in self.lines() if not line.startswith("modal: ")] == lines
        assert self.events() == events


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run")


async def test_a_run_from_beginning_to_end(run: Run) -> None:
    async with run.followed() as follower:
        run.world.begin()
        await run.say("a", "b")
        await until(lambda: run.lines() == ["a", "b"])
        assert follower.state.online
        assert follower.state.last_arrival > 0
        await run.say("c")
        run.world.commit()
        await run.log.end()
        assert await follower.finish()
        assert follower.state.complete
    assert run.lines() == ["a", "b", "c"]
    run.check()
    assert run.states[-1].complete


async def test_a_gap_is_filled_from_the_volume(run: Run) -> None:
    async with run.followed() as follower:
        run.world.begin()
        await run.say("a")
        run.world.loss = 1.0
        await run.say("never printed")
        run.world.loss = 0.0
        await run.say("c")
        await until(lambda: follower.state.waiting and run.lines() == ["a"])
        run.world.commit()
        await until(lambda: run.lines() == ["a", "never printed", "c"])
        await until(lambda: not follower.state.waiting)
        assert await follower.finish()
    run.check()


async def test_a_new_container_waits_for_what_the_old_one_only_printed(run: Run) -> None:
    async with run.followed() as follower:
        run.world.begin()
        await run.say("a")
        run.world.commit()
        await until(lambda: run.lines() == ["a"])
        await run.log.cut()
        await until(lambda: follower.state.link is Link.OFFLINE)
        await run.say("printed, never committed")
        run.world.begin()
        await run.say("A")
        run.world.commit()
        follower.look()  # the volume tells of the new container before the output can be had
        looked = follower.state.volume_read
        await until(lambda: follower.state.volume_read > looked)
        assert run.lines() == ["a"]
        await run.log.heal()
        await until(lambda: run.lines() == ["a", "printed, never committed", "A"])
        assert [boot.task for boot in follower.state.boots] == ["ta-1", "ta-2"]
        run.world.commit()
        assert await follower.finish()
    run.check()


async def test_the_viewer_dies_and_another_goes_on_elsewhere_in_time(run: Run) -> None:
    async with run.followed():
        run.world.begin()
        await run.say("a", "b")
        await until(lambda: run.lines() == ["a", "b"])
    await run.say("c")
    run.world.commit()
    run.world.begin()
    run.world.grumble("Runner preempted", 1_000)
    await run.say("A", "B")
    async with run.followed() as follower:
        await until(lambda: len(run.lines()) == 6)
        run.world.commit()
        assert await follower.finish()
    run.check()
    assert "modal: Runner preempted" in run.lines()


async def test_an_outage_is_told_and_made_good(run: Run) -> None:
    offline = False

    def answer(_: str) -> None:
        if offline:
            raise OfflineError("Modal cannot be reached")

    run.world.volume.before = answer
    async with run.followed() as follower:
        run.world.begin()
        await run.say("a")
        await until(lambda: run.lines() == ["a"])
        offline = True
        await run.log.cut()
        await until(lambda: follower.state.link is Link.OFFLINE)
        assert not follower.state.online
        assert "cannot be reached" in (follower.state.error or "")
        assert not await follower.finish(patience=0.1)
        assert not follower.state.complete
        await run.say("b")
        run.world.loss = 1.0
        await run.say("c")
        run.world.commit()
        offline = False
        await run.log.heal()
        await until(lambda: run.lines() == ["a", "b", "c"])  # c from the volume, at once
        await until(lambda: follower.state.online)
        assert await follower.finish()
    run.check()
    links = [state.link for state in run.states]
    assert links.index(Link.OFFLINE) < len(links) - 1 - links[::-1].index(Link.LIVE)


async def test_without_any_output_the_volume_alone_tells_the_run(run: Run) -> None:
    run.log.no_history = RefusedError("not in this plan")
    run.log.deaf = True
    timing = FollowTiming(gap=0.02, again=0.05, quiet=0.1, settling=0.02, patience=0.2, last_gap=0.1)
    async with run.followed(timing) as follower:
        run.world.begin()
        await run.say("a")
        run.world.commit()
        await until(lambda: run.lines() == ["a"])
        run.world.begin()
        await run.say("A")
        run.world.commit()
        await until(lambda: run.lines() == ["a", "A"])
        assert await follower.finish(patience=0.5)
    run.check()


async def test_without_the_volume_the_output_alone_tells_what_it_can(run: Run) -> None:
    def refuse(_: str) -> None:
        raise OfflineError("the volume cannot be read")

    async with run.followed() as follower:
        run.world.begin()
        await run.say("a")
        await until(lambda: run.lines() == ["a"])
        run.world.volume.before = refuse
        await run.say("b")
        await until(lambda: run.lines() == ["a", "b"])
        follower.look()
        await until(lambda: "cannot be read" in (follower.state.error or ""))
        assert follower.state.online
        assert not await follower.finish(patience=0.1)


async def test_a_run_from_another_machine_is_taken_over_whole(run: Run) -> None:
    run.world.begin()
    await run.say("a", "b")
    run.world.commit()
    run.world.begin()
    await run.say("A")
    run.world.commit()
    run.folder.log.unlink()
    run.folder.events.unlink()
    async with run.followed() as follower:
        await until(lambda: run.folder.log.read_bytes().startswith(b"launch\n"))
        await until(lambda: run.lines() == ["a", "b", "A"])
        assert await follower.finish()
    assert run.folder.events.read_bytes().startswith(HEAD)
    run.check()


async def test_a_full_disk_here_ends_the_following_with_its_own_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    mirror = Mirror(run.folder, FOLDER)
    follower = Follower(mirror, run.world.volume, Tailer(run.log, timing=TAIL), timing=QUICK)
    monkeypatch.setattr(mirror._log_file, "append", full)
    run.world.begin()
    await run.say("a")
    with pytest.raises(OSError, match="No space left"):
        await asyncio.wait_for(follower.run(), PATIENCE)
    assert asyncio.all_tasks() == {asyncio.current_task()}
