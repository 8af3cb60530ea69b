"""Notices about runs: a toast, the bell, and the desktop where the terminal can show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.events import Status
from tests.tui.fakes import HOSTILE, FakeRuns, escapes, make_app, screen_text, settled, summary, until
from tui.desktop_notice import notice, notice_kind
from tui.run_notices import RunNotices


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
