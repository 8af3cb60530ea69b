from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backend.events import Event, Status, StepEvent, WarningEvent
from backend.launchers.base import LaunchError, LaunchRequest
from backend.launchers.local import LocalLauncher
from backend.launchers.process import is_alive
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from backend.runs.service import RunService
from backend.runs.stream import EventWriter
from backend.runs.tail import read_view
from config import ConfigError

from .conftest import COUNTING

Config = Callable[..., Path]


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


def steps_done(record: RunRecord) -> int:
    return read_view(RunFolder(record.path)).step


async def launch(launcher: LocalLauncher, path: Path, *overrides: str) -> RunRecord:
    return await launcher.launch(LaunchRequest(config_path=path, overrides=overrides))


async def test_a_run_is_followed_to_its_end(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=25))
    events: list[Event] = []
    async with asyncio.timeout(30):
        async for batch in launcher.events(record):
            events += batch.events
        log = b"".join([chunk.data async for chunk in launcher.logs(record)])
    assert [e.step for e in events if isinstance(e, StepEvent)] == list(range(1, 26))
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert log.decode().splitlines()[-1] == "step 25/25"
    assert (await launcher.status(record)).status is Status.FINISHED
    assert (record.path / "config.yaml").is_file()


async def test_following_goes_on_from_an_offset(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=30))
    first: list[Event] = []
    async with asyncio.timeout(30):
        async for batch in launcher.events(record):
            first += batch.events
            offset = batch.offset
            if len(first) > 10:
                break
        rest = [e async for batch in launcher.events(record, offset) for e in batch.events]
    assert [e.seq for e in first + rest] == list(range(1, 30 + 6 + 1))


async def test_reading_without_following_ends_at_once(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=2000))
    await until(lambda: steps_done(record) > 3)
    async with asyncio.timeout(5):
        got = [e async for batch in launcher.events(record, follow=False) for e in batch.events]
        log = [c async for c in launcher.logs(record, follow=False)]
    assert got
    assert log
    assert (await launcher.status(record)).status is Status.TRAINING


async def test_stop_then_resume_then_finished(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=60))
    await until(lambda: steps_done(record) >= 5)
    await launcher.stop(record)
    await until(lambda: not is_alive(record.handle))
    assert (await launcher.status(record)).status is Status.STOPPED
    at = steps_done(record)
    assert 5 <= at < 60
    with pytest.raises(LaunchError, match="stopped already"):
        await launcher.stop(record)
    again = await launcher.resume(record)
    async with asyncio.timeout(30):
        async for _ in launcher.events(again):
            pass
    assert (await launcher.status(again)).status is Status.FINISHED
    with pytest.raises(LaunchError, match="finished its 60 steps"):
        await launcher.resume(again)
    more = await launcher.resume(again, ["train.steps=70"])
    async with asyncio.timeout(30):
        async for _ in launcher.events(more):
            pass
    assert steps_done(more) == 70
    assert more.steps == 70


async def test_a_finished_run_that_was_not_uploaded_can_be_resumed_for_that(
    launcher: LocalLauncher, config: Config
) -> None:
    record = await launch(launcher, config(steps=2))
    await until(lambda: not is_alive(record.handle))
    with pytest.raises(LaunchError, match="finished its 2 steps"):
        await launcher.resume(record)
    with EventWriter(RunFolder(record.path).events) as writer:
        writer.write(WarningEvent(message="the LoRA is not uploaded", code="push_failed"))
    again = await launcher.resume(record)
    await until(lambda: not is_alive(again.handle))
    assert (await launcher.status(again)).status is Status.FINISHED


async def test_a_run_that_does_not_listen_is_ended_by_now(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config("deaf", steps=100_000))
    await until(lambda: steps_done(record) >= 2)
    with pytest.raises(LaunchError, match="nothing to resume"):
        await launcher.resume(record)
    await launcher.stop(record, now=True)
    assert not is_alive(record.handle)
    state = await launcher.status(record)
    assert state.status is Status.STOPPED
    assert "without saving" in (state.reason or "")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
async def test_a_killed_trainer_is_interrupted_and_can_be_resumed(
    launcher: LocalLauncher, config: Config
) -> None:
    record = await launch(launcher, config(steps=80))
    await until(lambda: steps_done(record) >= 5)
    os.kill(record.handle["pid"], signal.SIGKILL)
    async with asyncio.timeout(20):
        async for _ in launcher.events(record):  # following ends though nobody wrote an end
            pass
    state = await launcher.status(record)
    assert state.status is Status.INTERRUPTED
    assert "step" in (state.reason or "")  # the log's last line
    (row,) = RunService(launcher.registry.root).list_now()
    assert row.status is Status.INTERRUPTED
    again = await launcher.resume(record)
    async with asyncio.timeout(30):
        async for _ in launcher.events(again):
            pass
    assert (await launcher.status(again)).status is Status.FINISHED


async def test_a_trainer_that_dies_before_its_first_word(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config("mute"))
    await until(lambda: not is_alive(record.handle))
    state = await launcher.status(record)
    assert state.status is Status.INTERRUPTED
    assert "cannot even start" in (state.reason or "")


async def test_after_a_reboot_another_process_has_the_pid(launcher: LocalLauncher, config: Config) -> None:
    record = await launch(launcher, config(steps=3))
    await until(lambda: not is_alive(record.handle))
    folder = RunFolder(record.path)
    lines = folder.events.read_bytes().splitlines(keepends=True)
    folder.events.write_bytes(b"".join(lines[:-1]))  # the end was never written
    mine = psutil.Process()
    for handle in (
        {"pid": mine.pid, "started": mine.create_time() - 900},
        {"pid": 2**22 + 5, "started": 1.0},
    ):
        stale = record.with_handle(**handle)
        folder.write_record(stale)
        assert (await launcher.status(stale)).status is Status.INTERRUPTED
    folder.write_record(record.with_handle(pid=mine.pid, started=mine.create_time()))
    alive = await launcher.status(record)
    folder.write_record(record)  # or the fixture would kill this very process
    assert alive.status is Status.TRAINING


async def test_a_crash_between_folder_and_process_does_not_stay_queued(
    launcher: LocalLauncher, registry: Registry, config: Config
) -> None:
    record = await launch(launcher, config(steps=1))
    await until(lambda: not is_alive(record.handle))
    folder = RunFolder(record.path)
    folder.events.unlink()
    folder.write_record(record.with_handle())
    from dataclasses import replace

    fresh = replace(record.with_handle(), created=time.time())
    assert launcher.judge(fresh, read_view(folder)).status is Status.QUEUED
    old = replace(record.with_handle(), created=time.time() - 3600)
    folder.write_record(old)
    assert launcher.judge(old, read_view(folder)).status is Status.INTERRUPTED


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX sessions")
async def test_the_run_outlives_the_process_that_launched_it(registry: Registry, config: Config) -> None:
    path = config(steps=400)
    code = f"""
import asyncio, sys
from pathlib import Path
from backend.launchers.base import LaunchRequest
from backend.launchers.local import LocalLauncher
from backend.runs.registry import Registry
launcher = LocalLauncher(Registry(Path({str(registry.root)!r})), {COUNTING!r})
print(asyncio.run(launcher.launch(LaunchRequest(config_path=Path({str(path)!r})))).id, flush=True)
sys.stdin.read()
"""
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=pipe, stdout=pipe, start_new_session=True
    )
    assert parent.stdout is not None
    run_id = (await parent.stdout.readline()).decode().strip()
    os.killpg(parent.pid, signal.SIGKILL)  # the terminal is gone, and everything in it
    await parent.wait()
    assert parent.stdin is not None
    parent.stdin.close()
    record = registry.record(registry.find(run_id))
    launcher = LocalLauncher(registry, COUNTING)
    async with asyncio.timeout(30):
        async for _ in launcher.events(record):
            pass
    assert (await launcher.status(record)).status is Status.FINISHED


async def test_training_folder_is_honoured(launcher: LocalLauncher, config: Config, tmp_path: Path) -> None:
    record = await launch(launcher, config(steps=1, training_folder=str(tmp_path / "out")))
    assert record.path == tmp_path / "out" / "fox"
    assert launcher.registry.find("last").path == record.path
    second = await launch(launcher, config(steps=1, training_folder=str(tmp_path / "out")))
    assert second.path == tmp_path / "out" / "fox-2"


async def test_bad_configs_and_places_are_refused(
    launcher: LocalLauncher, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError):
        await launch(launcher, config(), "train.steps=-1")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(LaunchError, match="folder could not be made"):
        await launch(launcher, config(training_folder=str(blocked)))
    assert launcher.registry.all() == []


async def test_files_and_download(launcher: LocalLauncher, config: Config, tmp_path: Path) -> None:
    record = await launch(launcher, config(steps=2))
    async with asyncio.timeout(20):
        async for _ in launcher.events(record):
            pass
    files = await launcher.files(record)
    assert files[0].path == "checkpoints/fox.safetensors"
    assert {"config.yaml", "events.jsonl", "log.txt"} <= {file.path for file in files}
    seen: list[tuple[int, int]] = []
    got = await launcher.download(record, files[:2], tmp_path / "dest", lambda *p: seen.append(p))
    assert (tmp_path / "dest" / "checkpoints" / "fox.safetensors").read_bytes() == b"lora"
    assert len(got) == 2
    assert seen[-1][0] == seen[-1][1] == sum(file.bytes for file in files[:2])
    from dataclasses import replace

    with pytest.raises(LaunchError, match="outside"):
        await launcher.download(record, [replace(files[0], path="../../etc/passwd")], tmp_path / "dest")
    with pytest.raises(LaunchError, match="cannot copy"):
        await launcher.download(record, [replace(files[0], path="gone")], tmp_path / "dest")


async def test_watch_tells_of_changes(launcher: LocalLauncher, config: Config) -> None:
    service = RunService(launcher.registry.root)
    service._launchers["local"] = launcher
    seen: list[Status] = []
    record = await launch(launcher, config(steps=150))
    async with asyncio.timeout(30):
        async for runs in service.watch():
            seen.append(runs[0].status)
            if runs[0].status.ended:
                break
    assert seen[-1] is Status.FINISHED
    assert Status.TRAINING in seen
    assert runs[0].step == 150
    assert runs[0].id == record.id
