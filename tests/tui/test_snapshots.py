"""Pictures of the screens.

After a wanted change: ``pytest tests/tui/test_snapshots.py --snapshot-update``, and look at the diff.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from backend.events import CheckpointEvent, Status
from backend.launchers.base import RunState
from tests.tui.fakes import (
    LOG,
    NOW,
    FakeDemo,
    FakeRun,
    FakeRuns,
    make_app,
    sample,
    screen_text,
    settled,
    story,
    summary,
    until,
    write_picture,
)
from tui.settings import Settings
from tui.widgets.half_cells import half_cells  # noqa: F401 - imported early: its import is not what is waited for

SIZES = [(80, 24), (120, 36)]
Prepare = Callable[[Pilot], Awaitable[None]]


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    import time

    if hasattr(time, "tzset"):
        time.tzset()


def size_id(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def all_kinds() -> FakeRuns:
    root = Path("/data/runs")
    return FakeRuns(
        FakeRun(summary(path=root / "my-lora"), story(), LOG),
        summary("efgh2345", name="watercolour-houses-with-a-long-name", status=Status.FINISHED,
                step=2000, steps=2000, created=NOW - 86_400, updated=NOW - 80_000, path=root / "watercolour"),
        summary("ijkl2345", name="[b]not bold[/] \x1b[31mnot red", status=Status.INTERRUPTED, step=430),
        summary("mnop2345", name="猫と犬", status=Status.FAILED, step=3, reason="the loss is nan",
                backend="modal"),
        summary("qrst2345", name="waiting", status=Status.QUEUED, step=0, loss=None,
                seconds_per_step=None),
        summary("uvwx2345", name="halted", status=Status.STOPPED, step=12),
        summary("yzab2345", name="halting", status=Status.STOPPING, step=99),
        summary("cdef2345", name="beginning", status=Status.STARTING, step=0, loss=None,
                seconds_per_step=None),
    )  # fmt: skip


async def monitor(pilot: Pilot, wanted: str = "step 250") -> None:
    await settled(pilot)
    await pilot.press("2")
    await until(lambda: wanted in screen_text(pilot.app))
    await until(lambda: "saved my-lora" in screen_text(pilot.app))
    await until(lambda: "ema" in screen_text(pilot.app))
    await pilot.pause()


def shoot(snap_compare, app, size: tuple[int, int], prepare: Prepare) -> None:
    assert snap_compare(app, terminal_size=size, run_before=prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_jobs_empty(snap_compare, tmp_path: Path, size) -> None:
    shoot(snap_compare, make_app(root=tmp_path), size, settled)


@pytest.mark.parametrize("size", [*SIZES, (60, 18)], ids=size_id)
def test_jobs(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("down", "down")

    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_jobs_demo_ready(snap_compare, tmp_path: Path, size) -> None:
    shoot(snap_compare, make_app(root=tmp_path, demo=FakeDemo()), size, settled)


@pytest.mark.parametrize("theme", ["textual-light", "high-contrast", "ansi"])
def test_jobs_themes(snap_compare, tmp_path: Path, theme: str) -> None:
    shoot(
        snap_compare, make_app(all_kinds(), root=tmp_path, settings=Settings(theme=theme)), (80, 24), settled
    )


def test_jobs_without_colour(snap_compare, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), (80, 24), settled)


@pytest.mark.parametrize("size", [*SIZES, (60, 18), (200, 60)], ids=size_id)
def test_monitor_running(snap_compare, tmp_path: Path, size) -> None:
    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), size, monitor)


def test_monitor_light(snap_compare, tmp_path: Path) -> None:
    app = make_app(all_kinds(), root=tmp_path, settings=Settings(theme="textual-light"))
    shoot(snap_compare, app, (120, 36), monitor)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_finished(snap_compare, tmp_path: Path, monkeypatch, size) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("run")  # relative: the path on the screen must not differ from test to test
    samples = [sample(100), sample(100, 1), sample(250), sample(250, 1, "a castle on a hill")]
    for item in samples:
        write_picture(root / item.path, shift=item.step)
    events = story(250, 250, end=Status.FINISHED, samples=samples)
    last = events[-1].seq
    events.append(
        CheckpointEvent(seq=last + 1, t=NOW, step=250, path="checkpoints/my-lora.safetensors", final=True)
    )
    app = make_app(FakeRuns(FakeRun(summary(status=Status.FINISHED, path=root), events, LOG)), root=tmp_path)

    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot, "step 250/250")
        if size[1] >= 34:
            await until(lambda: screen_text(pilot.app).count("▀") > 100)
        await pilot.pause()

    shoot(snap_compare, app, size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_interrupted(snap_compare, tmp_path: Path, size) -> None:
    truth = RunState(status=Status.INTERRUPTED, reason="its process is gone")
    run = FakeRun(summary(status=Status.INTERRUPTED), story(250), LOG, truth)

    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await until(lambda: "press r to resume" in screen_text(pilot.app))

    shoot(snap_compare, make_app(FakeRuns(run), root=tmp_path), size, prepare)


def test_monitor_zoomed(snap_compare, tmp_path: Path) -> None:
    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await pilot.press("tab", "z", "left")
        await pilot.pause()

    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), (80, 24), prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_help(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await pilot.press("f1")
        await until(lambda: "log.search" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_quit_confirmation(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("q")

    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_jump_mode(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await pilot.press("o")

    shoot(snap_compare, make_app(all_kinds(), root=tmp_path), size, prepare)


def test_new_run(snap_compare, tmp_path: Path) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("n")
        pilot.app.screen.query_one("Input").cursor_blink = False
        await pilot.press(*"none.yaml", "enter")
        await until(lambda: "no such file" in screen_text(pilot.app))

    shoot(snap_compare, make_app(root=tmp_path), (80, 24), prepare)
