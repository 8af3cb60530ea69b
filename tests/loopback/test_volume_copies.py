"""Working copies: what a container's commit publishes, what reload brings, what a crash loses. No server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grpclib import GRPCError, Status

from . import copies
from .copies import WorkingCopies
from .state import Knobs, World
from .store import BLOCK_BYTES, Store, Volume
from .volume_view import VolumeView
from .volumes import Volumes

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="open files are found through /proc")


class Stage:
    """A store with one volume and its working copies."""

    def __init__(self, root: Path) -> None:
        self.world = World(root=root, knobs=Knobs(commit_interval=0))
        self.volumes = Volumes(self.world)
        self.store: Store = self.volumes.store
        self.copies: WorkingCopies = self.volumes.copies
        self.volume: Volume = self.volumes.create("models", version=2)
        self.id = self.volume.volume_id
        self.view: VolumeView = self.volumes.view("models")

    async def checkout(self, task: str) -> Path:
        return await self.copies.checkout(self.id, task)


@pytest.fixture
async def stage(tmp_path: Path):
    made = Stage(tmp_path)
    yield made
    for task in ("ta-1", "ta-2"):
        await made.copies.close(task, commit=False)


async def refused(call) -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await call
    return caught.value


async def test_nothing_is_seen_before_the_commit_and_all_of_it_after(stage: Stage) -> None:
    folder = await stage.checkout("ta-1")
    (folder / "runs").mkdir()
    (folder / "runs/a.txt").write_text("first")
    assert stage.view.files() == []
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.read("runs/a.txt") == b"first"
    (folder / "runs/a.txt").unlink()
    (folder / "runs/b.txt").write_text("second")
    assert stage.view.files() == ["runs/a.txt"]
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.files() == ["runs/b.txt"]
    assert [(r.kind, r.written, r.removed) for r in stage.view.commits] == [
        ("rpc", ["runs", "runs/a.txt"], []),
        ("rpc", ["runs/b.txt"], ["runs/a.txt"]),
    ]


async def test_a_commit_without_changes_is_none(stage: Stage) -> None:
    stage.view.write("a.txt", b"here")
    await stage.checkout("ta-1")
    assert await stage.copies.commit("ta-1", stage.id) is None
    assert stage.view.commits == []


async def test_the_last_writer_wins_file_by_file(stage: Stage) -> None:
    stage.view.write("both.txt", b"old")
    stage.view.write("gone.txt", b"old")
    one, two = await stage.checkout("ta-1"), await stage.checkout("ta-2")
    (one / "both.txt").write_text("from one")
    (one / "one.txt").write_text("1")
    (two / "both.txt").write_text("from two")
    (two / "two.txt").write_text("2")
    (two / "gone.txt").unlink()
    await stage.copies.commit("ta-2", stage.id)
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.files() == ["both.txt", "one.txt", "two.txt"]
    assert stage.view.read("both.txt") == b"from one"
    assert (one / "gone.txt").read_text() == "old", "what others did comes with reload only"
    await stage.copies.reload("ta-2", stage.id)
    assert sorted(p.name for p in two.iterdir()) == ["both.txt", "one.txt", "two.txt"]
    assert (two / "both.txt").read_text() == "from one"


async def test_rewriting_in_place_within_one_tick_of_the_clock_is_seen(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coarse(status: os.stat_result) -> copies.Stamp:
        # A file system whose clock ticks every 50 ms: the same size and time, although the content differs.
        return (
            status.st_mode,
            status.st_size,
            status.st_mtime_ns // 50_000_000 * 50_000_000,
            0,
            status.st_ino,
        )

    monkeypatch.setattr(copies, "_stamp_of", coarse)
    folder = await stage.checkout("ta-1")
    for number in range(20):
        (folder / "counter").write_text(f"{number:04}")
        await stage.copies.commit("ta-1", stage.id)
        assert stage.view.read("counter") == f"{number:04}".encode()


async def test_writing_in_a_copy_never_changes_what_is_committed(stage: Stage) -> None:
    stage.view.write("log.jsonl", b"one\n")
    folder = await stage.checkout("ta-1")
    with (folder / "log.jsonl").open("ab") as stream:
        stream.write(b"two\n")
    assert stage.view.read("log.jsonl") == b"one\n"
    assert await stage.copies.close("ta-1", commit=False) == []
    assert stage.view.read("log.jsonl") == b"one\n"
    assert not folder.exists()


async def test_large_files_zeros_links_modes_and_times_survive(stage: Stage) -> None:
    folder = await stage.checkout("ta-1")
    content = os.urandom(BLOCK_BYTES) + b"\0" * BLOCK_BYTES + b"end\0\0"
    (folder / "big.bin").write_bytes(content)
    (folder / "zeros.bin").write_bytes(b"\0" * 100)
    (folder / "empty").touch()
    (folder / "empty folder").mkdir()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    os.utime(folder / "run.sh", ns=(10**18, 10**18 + 7))
    (folder / "latest").symlink_to("run.sh")
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.read("big.bin") == content
    other = await stage.checkout("ta-2")
    assert (other / "big.bin").read_bytes() == content
    assert (other / "zeros.bin").read_bytes() == b"\0" * 100
    assert (other / "empty").stat().st_size == 0
    assert (other / "empty folder").is_dir()
    assert os.access(other / "run.sh", os.X_OK)
    assert (other / "run.sh").stat().st_mtime_ns == 10**18 + 7
    assert os.readlink(other / "latest") == "run.sh"
    assert await stage.copies.commit("ta-2", stage.id) is None


async def test_background_commits_publish_without_being_asked(stage: Stage) -> None:
    stage.world.knobs.commit_interval = 0.05
    folder = await stage.checkout("ta-1")
    (folder / "a.txt").write_text("x")
    await until(lambda: stage.view.exists("a.txt"))
    assert stage.view.commits[0].kind == "background"


async def test_a_full_volume_refuses_the_whole_commit_and_can_be_tidied(stage: Stage) -> None:
    folder = await stage.checkout("ta-1")
    (folder / "small").write_bytes(b"1" * 10)
    await stage.copies.commit("ta-1", stage.id)
    stage.view.limit_bytes = 100
    (folder / "also small").write_bytes(b"2" * 10)
    (folder / "large").write_bytes(b"3" * 200)
    error = await refused(stage.copies.commit("ta-1", stage.id))
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert "No space left" in error.message
    assert stage.view.files() == ["small"]
    assert len(stage.view.failed_commits) == 1
    (folder / "large").unlink()
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.files() == ["also small", "small"]
    (folder / "large").write_bytes(b"3" * 200)
    problems = await stage.copies.close("ta-1", commit=True)
    assert len(problems) == 1
    assert "models" in problems[0]


async def test_the_knob_limits_every_volume(stage: Stage) -> None:
    stage.world.knobs.volume_limit = 5
    folder = await stage.checkout("ta-1")
    (folder / "large").write_bytes(b"123456")
    assert (await refused(stage.copies.commit("ta-1", stage.id))).status is Status.RESOURCE_EXHAUSTED


@linux_only
async def test_reload_is_refused_while_another_process_has_a_file_open(stage: Stage) -> None:
    stage.view.write("a.txt", b"old")
    folder = await stage.checkout("ta-1")
    stage.view.write("a.txt", b"new")
    for hold in (f"open({str(folder / 'a.txt')!r})", f"__import__('os').chdir({str(folder)!r})"):
        code = f"held = {hold}; print('ready', flush=True); input()"
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert holder.stdout is not None
            assert await holder.stdout.readline() == b"ready\n"
            error = await refused(stage.copies.reload("ta-1", stage.id))
            assert "there are open files preventing the operation" in error.message
            assert error.status is Status.FAILED_PRECONDITION
            assert (folder / "a.txt").read_text() == "old"
        finally:
            await holder.communicate(b"\n")
    await stage.copies.reload("ta-1", stage.id)
    assert (folder / "a.txt").read_text() == "new"


async def test_reload_keeps_what_was_not_committed_yet(stage: Stage) -> None:
    folder = await stage.checkout("ta-1")
    (folder / "mine.txt").write_text("mine")
    stage.view.write("theirs.txt", b"theirs")
    await stage.copies.reload("ta-1", stage.id)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "theirs.txt"]
    assert stage.view.read("mine.txt") == b"mine"


async def test_a_read_only_copy_is_never_published(stage: Stage) -> None:
    folder = await stage.copies.checkout(stage.id, "ta-1", read_only=True)
    (folder / "a.txt").write_text("x")
    assert await stage.copies.commit("ta-1", stage.id) is None
    assert await stage.copies.close("ta-1", commit=True) == []
    assert stage.view.files() == []


async def test_a_folder_of_the_volume_can_be_mounted_alone(stage: Stage) -> None:
    stage.view.write("users/me/a.txt", b"a")
    folder = await stage.copies.checkout(stage.id, "ta-1", sub_path="/users/me")
    assert [path.name for path in folder.iterdir()] == ["a.txt"]
    (folder / "b.txt").write_text("b")
    await stage.copies.commit("ta-1", stage.id)
    assert stage.view.files() == ["users/me/a.txt", "users/me/b.txt"]


async def test_commits_of_what_is_not_mounted_or_deleted_are_refused(stage: Stage) -> None:
    assert (await refused(stage.copies.commit("ta-1", stage.id))).status is Status.FAILED_PRECONDITION
    folder = await stage.checkout("ta-1")
    (folder / "a.txt").write_text("x")
    del stage.store.volumes[stage.id]
    assert (await refused(stage.copies.commit("ta-1", stage.id))).status is Status.NOT_FOUND
    assert len(await stage.copies.close("ta-1", commit=True)) == 1


async def test_a_commit_that_comes_after_the_container_was_lost_takes_nothing_for_deleted(
    stage: Stage,
) -> None:
    stage.view.write("a.txt", b"x")
    await stage.checkout("ta-1")
    copy = stage.copies.get("ta-1", stage.id)
    await stage.copies.close("ta-1", commit=False)
    assert stage.copies._commit(copy, "background") is None  # what a thread does that was cancelled too late
    assert stage.view.files() == ["a.txt"]


async def until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)
