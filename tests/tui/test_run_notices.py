"""Notices about runs: a toast, the bell, and the desktop where the terminal can show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import Event, PhaseEvent, Status
from backend.runs.folder import RunFolder
from backend.runs.stream import EventWriter
from tests.tui.fakes import (
    HOSTILE,
    NOW,
    FakeRuns,
    escapes,
    make_app,
    screen_text,
    settled,
    story,
    summary,
    until,
)
from tui.desktop_notice import notice, notice_kind
from tui.runs import notices as run_notices
from tui.runs import silence as run_silence
from tui.runs.notices import Herald, Notice, RunNotices
from tui.runs.silence import SilenceWatch
from tui.settings import Settings


def news(notices: RunNotices, **fields: object) -> list[tuple[str, str]]:
    return [(one.severity, one.text) for one in notices.news([summary(**fields)])]


def test_what_was_so_at_the_start_is_no_news() -> None:
    notices = RunNotices()
    assert news(notices, status=Status.FAILED) == []
    assert news(notices, status=Status.FAILED) == []


@pytest.mark.parametrize(
    ("status", "reason", "severity", "text"),
    [
        (Status.FINISHED, None, "information", "finished: all 1000 steps are done"),
        (Status.STOPPED, None, "information", "stopped at step 250"),
        (Status.STOPPED, "the budget is spent", "warning", "stopped at step 250: the budget is spent"),
        (Status.FAILED, "no memory", "error", "failed at step 250: no memory"),
        (Status.INTERRUPTED, None, "error", "interrupted at step 250"),
    ],
)
def test_an_end_is_told_once(status: Status, reason: str | None, severity: str, text: str) -> None:
    notices = RunNotices()
    assert news(notices) == []
    assert news(notices, status=status, reason=reason) == [(severity, text)]
    assert news(notices, status=status, reason=reason) == []


def test_a_loss_that_is_no_number_and_a_budget_are_told_once() -> None:
    notices = RunNotices()
    news(notices)
    assert news(notices, loss=float("nan")) == [("error", "the loss of step 250 is not a number")]
    assert news(notices, loss=float("inf")) == []
    assert news(notices, loss=0.1) == []
    assert len(news(notices, loss=float("nan"))) == 1
    notices = RunNotices()
    news(notices, dollars=4.0, budget=5.0)
    assert news(notices, dollars=4.6, budget=5.0) == [("warning", "$4.60 of the budget of $5.00 is spent")]
    assert news(notices, dollars=4.7, budget=5.0) == []


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "osc99"),
        ({"TERM": "foot"}, "osc777"),
        ({"TERM_PROGRAM": "WezTerm"}, "osc9"),
        ({"WT_SESSION": "x"}, "osc9"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "xterm-kitty", "TMUX": "x"}, ""),
        ({"TERM": "linux", "WT_SESSION": "x"}, ""),
    ],
)
def test_only_terminals_that_are_known_to_show_notices_get_them(environ: dict[str, str], kind: str) -> None:
    assert notice_kind(environ, is_tty=True) == kind
    assert notice_kind(environ, is_tty=False) == ""


@pytest.mark.parametrize("kind", ["osc9", "osc99", "osc777"])
@pytest.mark.parametrize("text", HOSTILE)
def test_user_text_cannot_end_the_sequence(kind, text: str) -> None:
    sent = notice(kind, text, text)
    parts = sent.replace("\x1b\\", "\x1b]").split("\x1b]")
    assert sent.startswith("\x1b]")
    assert sent.endswith("\x1b\\")
    assert not any(escapes(part) for part in parts)


async def test_the_app_tells_of_an_end_on_any_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = FakeRuns(summary(name="[b]cat[/"))
    app = make_app(runs, root=tmp_path)
    rung = []
    monkeypatch.setattr(app, "bell", lambda: rung.append(1))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3")
        runs.update("abcd2345", status=Status.FINISHED)
        await until(lambda: "finished: all 1000 steps are done" in screen_text(app))
        assert "[b]cat[/" in screen_text(app)
        assert rung == [1]


def told(folder: Path, *events: Event) -> float:
    """Write a run's events; when the last one was."""
    RunFolder(folder).create()
    with EventWriter(RunFolder(folder).events) as writer:
        for event in events:
            writer.write(event)
    return events[-1].t


async def test_a_run_that_stops_stepping_is_told_once_and_again_after_it_went_on(tmp_path: Path) -> None:
    last = told(tmp_path, *story(20))
    watch = SilenceWatch()
    row = summary(path=tmp_path, updated=last)
    assert await watch.news([row], last + 30) == []
    (notice,) = await watch.news([row], last + 90)
    assert (notice.title, notice.severity) == ("my-lora", "warning")
    assert notice.text.startswith("No step for 90 s; one takes ")
    assert await watch.news([row], last + 500) == []
    went_on = summary(path=tmp_path, updated=last + 600)
    assert len(await watch.news([went_on], last + 1200)) == 1


async def test_a_long_silence_is_told_but_not_of_waiting_or_of_the_dead(tmp_path: Path) -> None:
    last = told(tmp_path / "a", *story(0), PhaseEvent(phase="loading", t=NOW))
    told(tmp_path / "b", PhaseEvent(phase="waiting for a GPU", t=NOW))
    rows = [
        summary("loading1", path=tmp_path / "a", updated=last),
        summary("waiting1", path=tmp_path / "b", updated=last),
        summary("queued01", path=tmp_path / "a", updated=last, status=Status.QUEUED),
        summary("failed01", path=tmp_path / "a", updated=last, status=Status.FAILED),
        summary("deleted1", path=tmp_path / "none", updated=last),
        summary("unheard1", path=tmp_path / "a", updated=0.0),
    ]
    watch = SilenceWatch()
    assert await watch.news(rows, last + 500) == []
    (notice,) = await watch.news([rows[0]], last + 700)
    assert notice.text.startswith("It has said nothing for 12 minutes")
    assert await watch.news(rows[1:], last + 7000) == []


async def test_the_app_tells_of_a_silence_on_any_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_silence, "LOOK", 0.05)
    last = told(tmp_path / "run", *story(20))
    app = make_app(
        FakeRuns(summary(path=tmp_path / "run", updated=last)), root=tmp_path, clock=lambda: last + 90
    )
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("3")
        await until(lambda: "No step for 90 s" in screen_text(app))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_desktop_is_told_unless_the_user_does_not_want_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    class Driver:
        is_headless = False
        sent: list[str] = []  # noqa: RUF012

        def write(self, text: str) -> None:
            self.sent.append(text)

    app = make_app(root=tmp_path, settings=Settings(desktop_notices=wanted))
    Driver.sent.clear()
    app._driver = Driver()
    monkeypatch.setattr(run_notices, "notice_kind", lambda environ, is_tty: "osc9")
    Herald(app, desktop=app.settings.desktop_notices)._show_on_desktop([Notice("cat", "finished")])
    assert bool(Driver.sent) is wanted
