"""Captioning jobs in the table of jobs and in the monitor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backend.events import Event, PhaseEvent, Status, StatusEvent
from tests.tui.fakes import (
    NOW,
    FakeRun,
    FakeRuns,
    make_app,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tui.screens.confirm import ConfirmScreen
from tui.widgets.captioned import CaptionedPane
from tui.widgets.loss_chart import LossChart


def told(done: int, total: int, end: Status | None = None) -> list[Event]:
    events: list[Event] = [
        StatusEvent(status=Status.QUEUED),
        StatusEvent(status=Status.STARTING),
        PhaseEvent(phase="loading", detail="microsoft/Florence-2-large on cpu"),
        StatusEvent(status=Status.CAPTIONING),
        *(PhaseEvent(phase="captioning", done=at, total=total) for at in range(done + 1)),
    ]
    if end is not None:
        events.append(StatusEvent(status=end))
    return [replace(event, seq=at, t=NOW - 60 + at) for at, event in enumerate(events, 1)]


def runs(status: Status = Status.CAPTIONING) -> FakeRuns:
    end = status if status.ended else None
    captions = summary(
        "caption2", name="captions of pets", kind="caption", status=status, step=4, steps=9, loss=None,
        seconds_per_step=None,
    )  # fmt: skip
    training = summary("train234", created=NOW - 700, status=Status.FINISHED)
    log = b"a.png: a red cat\n"
    return FakeRuns(
        FakeRun(captions, told(4, 9, end), log),
        FakeRun(training, story(5, end=Status.FINISHED), b"trained\n"),
    )


async def test_it_is_a_row_among_the_jobs(tmp_path: Path) -> None:
    app = make_app(runs(), root=tmp_path)
    async with app.run_test(size=(120, 30)) as pilot:
        await settled(pilot)
        await pilot.press("1")
        await until(lambda: "captions of pets" in screen_text(app))
        row = next(line for line in screen_text(app).splitlines() if "captions of pets" in line)
        assert "● captioning" in row
        assert "4/9" in row


async def test_the_monitor_counts_pictures_in_the_place_of_the_loss(tmp_path: Path) -> None:
    fakes = runs()
    app = make_app(fakes, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(lambda: "4 of 9 pictures done" in screen_text(app))
        assert "picture 4/9" in screen_text(app)
        assert "a red cat" in screen_text(app)
        assert not app.screen.query_one(LossChart).display
        fakes.say("caption2", replace(PhaseEvent(phase="captioning", done=5, total=9), seq=90))
        await until(lambda: "5 of 9 pictures done" in screen_text(app))
        await pilot.press("right_square_bracket")  # a training has its loss again
        await until(lambda: "step 5/" in screen_text(app))
        assert app.screen.query_one(LossChart).display
        assert not app.screen.query_one(CaptionedPane).display


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("x", "a captioning job has no training to extend"),
        ("v", "a captioning job has nothing to save"),
        ("d", "a captioning job has nothing to sample"),
        ("R", "a captioning job has no training to restart"),
        ("C", "a captioning job has no training to compare"),
    ],
)
async def test_what_makes_no_sense_is_said_in_a_sentence(tmp_path: Path, key: str, sentence: str) -> None:
    fakes = runs()
    app = make_app(fakes, root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(lambda: "4 of 9 pictures done" in screen_text(app))
        screen = app.screen
        await pilot.press(key)
        await until(lambda: any(sentence in note.message for note in app._notifications))
        assert app.screen is screen  # no box opens
        assert not fakes.local.commands
        assert not fakes.local.asked


async def test_stopping_tells_of_pictures(tmp_path: Path) -> None:
    app = make_app(runs(), root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(lambda: "4 of 9 pictures done" in screen_text(app))
        await pilot.press("s")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await until(lambda: "4 of 9 pictures are done" in screen_text(app))


async def test_a_stopped_one_can_be_taken_up_again(tmp_path: Path) -> None:
    app = make_app(runs(Status.STOPPED), root=tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await until(lambda: app.current_run == "caption2")
        await until(lambda: "press r to resume" in screen_text(app))
        assert "4 of 9 pictures done" in screen_text(app)
