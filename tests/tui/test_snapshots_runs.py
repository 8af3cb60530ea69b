"""Pictures of the pages about runs, and of the table with marks, groups and tags.

After a wanted change: ``pytest tests/tui/test_snapshots_runs.py --snapshot-update``, and look at the diff.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.events import AttemptEvent, CheckpointEvent, Status, ValidationEvent, WarningEvent, encode
from backend.launchers.base import RunFacts, RunFile
from backend.runs.notes import Notes, write_notes
from tests.tui.fakes import (
    LOG,
    NOW,
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
from tests.tui.test_snapshots import SIZES, Prepare, shoot, size_id
from tui.screens.compare import CompareScreen
from tui.screens.monitor import MonitorScreen
from tui.screens.run_files import RunFilesScreen
from tui.screens.run_overview import RunOverviewScreen
from tui.screens.samples import SamplesScreen
from tui.widgets.half_cells import half_cells  # noqa: F401 - imported early: its import is not waited for

if TYPE_CHECKING:
    from textual.pilot import Pilot

CONFIG = "config:\n  name: my-lora\n  process:\n  - network: {rank: %d}\n    train: {lr: %s, steps: 1000}\n"
PICTURES = [
    sample(step, index, prompt)
    for step in (0, 100, 200)
    for index, prompt in enumerate(("a fox in the snow, morning light", "a red house", "猫と犬"))
]


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    import time

    if hasattr(time, "tzset"):
        time.tzset()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRuns:
    monkeypatch.chdir(tmp_path)
    validations = [ValidationEvent(step=50 * n, loss=v) for n, v in enumerate((0.5, 0.4, 0.43, 0.45, 0.5), 1)]
    events = [
        *story(250, samples=PICTURES),
        *validations,
        WarningEvent(message="[b]the disk[/] is nearly full"),
        AttemptEvent(attempt=2, step=250, steps=1000, device="NVIDIA H100 80GB HBM3"),
        CheckpointEvent(step=250, path="checkpoints/my-lora_000000250.safetensors", best=True),
    ]
    events = [replace(event, seq=n, t=NOW - 600 + n) for n, event in enumerate(events, 1)]
    fakes = []
    for name, rank, lr in (("my-lora", 16, "1e-4"), ("my-lora-2", 32, "2e-4")):
        path = Path(name)  # relative: the folder of a test has another name each time
        (path / "state").mkdir(parents=True)
        (path / "config.yaml").write_text(CONFIG % (rank, lr), encoding="utf-8")
        (path / "events.jsonl").write_bytes(b"".join(map(encode, events)))
        fakes.append(path)
    for one in PICTURES:
        write_picture(fakes[0] / one.path, (64, 64), one.step)
    write_notes(fakes[0], Notes("the first with the new captions", ("best", "sweep:rank"), False))
    files = [
        RunFile(path="checkpoints/my-lora_000000250.safetensors", bytes=171_969_408, modified=NOW),
        RunFile(
            path="samples/0_0.png", bytes=(fakes[0] / "samples/0_0.png").stat().st_size, modified=NOW - 500
        ),
    ]
    place = RunFacts(
        where="Modal, H100", remote=True, rate=4.0, dollars=1.5, projected=3.25, budget=5.0, folder="/my-lora"
    )
    return FakeRuns(
        FakeRun(
            summary(path=fakes[0], backend="modal", tags=("best",), dollars=1.5, updated=NOW),
            events, LOG, files=files, facts=place,
        ),
        FakeRun(
            summary("efgh2345", name="my-lora-2", path=fakes[1], status=Status.FINISHED, step=1000), events
        ),
        FakeRun(summary("ijkl2345", name="houses", status=Status.FAILED, step=3, reason="the loss is nan")),
    )  # fmt: skip


def busy(pilot: Pilot, group: str) -> bool:
    return any(worker.group == group and not worker.is_finished for worker in pilot.app.workers)


def page(key: str, kind: type, wanted: str, *then: str) -> Prepare:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("2")
        await until(
            lambda: isinstance(pilot.app.screen, MonitorScreen) and "step 250" in screen_text(pilot.app)
        )
        await until(lambda: pilot.app.screen._place is not None)
        await pilot.press(key)
        await until(lambda: isinstance(pilot.app.screen, kind))
        await until(lambda: wanted in screen_text(pilot.app))
        await pilot.press(*then)
        await until(lambda: not busy(pilot, "decode"))
        await pilot.pause()

    return prepare


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_overview(snap_compare, tmp_path: Path, runs: FakeRuns, size) -> None:
    shoot(snap_compare, make_app(runs, root=tmp_path), size, page("O", RunOverviewScreen, "overfitting"))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_files(snap_compare, tmp_path: Path, runs: FakeRuns, size) -> None:
    shoot(snap_compare, make_app(runs, root=tmp_path), size, page("B", RunFilesScreen, "2 files"))


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_samples(snap_compare, tmp_path: Path, runs: FakeRuns, size) -> None:
    shoot(snap_compare, make_app(runs, root=tmp_path), size, page("I", SamplesScreen, "seed 42"))


def test_samples_beside_the_baseline(snap_compare, tmp_path: Path, runs: FakeRuns) -> None:
    prepare = page("I", SamplesScreen, "seed 42", "b")
    shoot(snap_compare, make_app(runs, root=tmp_path), (80, 24), prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_compare(snap_compare, tmp_path: Path, runs: FakeRuns, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press("space", "space", "c")
        await until(lambda: isinstance(pilot.app.screen, CompareScreen))
        await until(lambda: "differ in 2 keys" in screen_text(pilot.app))
        await until(lambda: "a my-lora" in screen_text(pilot.app) and "reading" not in screen_text(pilot.app))
        await until(lambda: not busy(pilot, "compare") and not busy(pilot, "chart-load"))
        await pilot.pause()

    shoot(snap_compare, make_app(runs, root=tmp_path), size, prepare)


@pytest.mark.parametrize("size", SIZES, ids=size_id)
def test_many_runs(snap_compare, tmp_path: Path, runs: FakeRuns, size) -> None:
    async def prepare(pilot: Pilot) -> None:
        await settled(pilot)
        await pilot.press(*["u"] * 6, "space", "slash", *"my-")
        await until(lambda: "2 of 3 runs" in screen_text(pilot.app))

    shoot(snap_compare, make_app(runs, root=tmp_path), size, prepare)
