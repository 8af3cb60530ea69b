"""Pictures of the screens of runs on Modal; see ``test_snapshots``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.events import AttemptEvent, Event, PhaseEvent, Status, StatusEvent
from backend.launchers.base import RunFacts, RunFile
from tests.tui.fakes import (
    LOG,
    NOW,
    FakeCloud,
    FakeDemo,
    FakeRun,
    FakeRuns,
    make_app,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tests.tui.test_snapshots import SIZES, _still, monitor, shoot, size_id
from tui.cloud import CloudError, CloudRun
from tui.screens import cloud as cloud_screen

if TYPE_CHECKING:
    from textual.pilot import Pilot

__all__ = ["_still"]

PATH = Path("/data/runs/my-lora")
TRAINING = RunFacts(
    where="Modal, NVIDIA H100 80GB HBM3",
    remote=True,
    rate=4.39,
    dollars=0.42,
    projected=0.8,
    budget=5.0,
    folder="flux-lora-models/my-lora",
)
LAUNCHING = replace(TRAINING, where="Modal, H100", safe_to_close=False, dollars=None, projected=None)
LAUNCH_LOG = b"18:02:11 INFO    checking\n18:02:12 INFO    uploading\n"
CLOUD_RUNS = (
    CloudRun("abcd2345", "my-lora", "my-lora", "training", 250, 1000, "ap-1", True, NOW - 600, NOW - 70),
    CloudRun("else2345", "on the other laptop", "x", "training", 40, 2000, "ap-2", False, NOW - 9000, NOW),
    CloudRun(
        "lost2345", "[b]not bold[/]", "lost", "training", 12, 500, "", False, NOW - 90_000, NOW - 80_000
    ),
    CloudRun("ijkl2345", "猫と犬", "cats", "finished", 800, 800, "", True, NOW - 99_000, NOW - 95_000),
    CloudRun("mnop2345", "halted", "halted", "stopped", 90, 800, "", True, NOW - 199_000, NOW - 195_000),
)


@pytest.fixture(autouse=True)
def own_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1")
    monkeypatch.chdir(tmp_path)


def run(facts: RunFacts, *events: Event, log: bytes = LAUNCH_LOG, path: Path = PATH) -> FakeRuns:
    """One run on Modal, at the end of its events."""
    first = StatusEvent(status=Status.QUEUED, t=NOW - 100)
    numbered: Sequence[Event] = [replace(e, seq=i) for i, e in enumerate((first, *events), 1)]
    row = summary(
        backend="modal", status=Status.QUEUED, step=0, loss=None, seconds_per_step=None,
        created=NOW - 100, path=path,
    )  # fmt: skip
    return FakeRuns(FakeRun(row, list(numbered), log, facts=facts))


def training(facts: RunFacts) -> FakeRuns:
    events = [
        replace(e, device="NVIDIA H100 80GB HBM3") if isinstance(e, AttemptEvent) else e for e in story()
    ]
    return FakeRuns(FakeRun(summary(backend="modal", dollars=0.42, path=PATH), events, LOG, facts=facts))


def watching(wanted: str):
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("2")
        await until(lambda: wanted in screen_text(pilot.app))
        await until(lambda: "uploading" in screen_text(pilot.app).lower())
        await pilot.pause()

    return prepare


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_uploading(snap_compare, tmp_path: Path, size) -> None:
    runs = run(LAUNCHING, PhaseEvent(phase="uploading", done=37 << 20, total=140 << 20, t=NOW - 9))
    shoot(snap_compare, make_app(runs, root=tmp_path), size, watching("safe to close: not yet"))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_waiting_for_a_gpu(snap_compare, tmp_path: Path, size) -> None:
    from tests.tui.test_remote_run import waiting

    fake = waiting(tmp_path, 80)
    fake.log, fake.facts = LAUNCH_LOG, replace(TRAINING, where="Modal, H100", dollars=None)
    shoot(snap_compare, make_app(FakeRuns(fake), root=tmp_path), size, watching("press a to try"))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_training_on_modal(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await until(lambda: "safe to close: yes" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(training(TRAINING), root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_offline(snap_compare, tmp_path: Path, size) -> None:
    offline = replace(TRAINING, online=False, link_since=NOW - 300, link_why="no answer in time")

    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await until(lambda: "reconnecting" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(training(offline), root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_monitor_downloading(snap_compare, tmp_path: Path, size) -> None:
    runs = training(TRAINING)
    runs.runs["abcd2345"].files = [RunFile(path="checkpoints/my-lora.safetensors", bytes=9, modified=0)]

    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await until(lambda: "safe to close: yes" in screen_text(pilot.app))
        await pilot.press("b")
        await until(lambda: runs.local.downloading)
        assert runs.local.downloading is not None
        runs.local.downloading(61 << 20, 164 << 20)
        await until(lambda: "37 %" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(runs, root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_cloud(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("3")
        await until(lambda: "my-workspace" in screen_text(pilot.app))
        await pilot.press("down")
        await pilot.pause()

    cloud = FakeCloud(*CLOUD_RUNS)
    shoot(snap_compare, make_app(root=tmp_path, cloud=lambda: cloud), size, prepare)


def test_cloud_not_reached(snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_screen, "_TICK", 60.0)
    cloud = FakeCloud()
    cloud.failure = CloudError("connecting: Modal cannot be reached (no answer in time)")

    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("3")
        await until(lambda: "was not reached" in screen_text(pilot.app))
        await pilot.pause()

    shoot(snap_compare, make_app(root=tmp_path, cloud=lambda: cloud), (80, 24), prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_new_run_on_modal(snap_compare, tmp_path: Path, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("n")
        for line in pilot.app.screen.query("Input"):
            line.cursor_blink = False
        await until(lambda: "prices of" in screen_text(pilot.app))
        await pilot.press(*"none.yaml", "enter")
        await until(lambda: "no such file" in screen_text(pilot.app))
        await pilot.pause(0.5)

    shoot(snap_compare, make_app(root=tmp_path, backend="modal"), size, prepare)


def test_a_stand_in_is_labelled_everywhere(
    snap_compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLUXLORA_STAND_IN", "http://127.0.0.1:1")
    runs = training(TRAINING)

    async def prepare(pilot: Pilot) -> None:
        await monitor(pilot)
        await until(lambda: "safe to close: yes" in screen_text(pilot.app))
        await pilot.press("1")
        await pilot.pause()

    shoot(snap_compare, make_app(runs, root=tmp_path, demo=FakeDemo(), backend="modal"), (120, 36), prepare)
