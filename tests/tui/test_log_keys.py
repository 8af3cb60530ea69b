"""The log pane's filter, places, selection and files, key by key."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.widgets import Input

from backend.events import Phase
from tui.logs.levels import PHASES, Level, level_of, phase_span, step_of, time_of
from tui.logs.places import parse_place
from tui.logs.search import LineFilter, Query, search
from tui.logs.store import LogStore
from tui.widgets.log_filter import LogFilter
from tui.widgets.log_pane import LogPane
from tui.widgets.log_view import LogView

if TYPE_CHECKING:
    from textual.pilot import Pilot


class PaneApp(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.pane = LogPane()
        self.selected: list[tuple[int | None, int | None]] = []
        self.copied = ""

    def compose(self) -> ComposeResult:
        yield self.pane

    def on_mount(self) -> None:
        self.pane.focus()

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text

    @on(LogPane.LineSelected)
    def _note(self, event: LogPane.LineSelected) -> None:
        assert event.control is self.pane
        self.selected.append((event.line, event.step))


async def _until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause()


def _rows(pane: LogPane) -> list[str]:
    view = pane.query_one(LogView)
    rows = [view.render_line(y).text.rstrip() for y in range(view.size.height)]
    return [row for row in rows if row]


_RUN = (
    b"12:00:00 INFO    training\n"
    b"12:00:01 INFO    step 1/9  loss 0.5\n"
    b"12:00:02 WARNING loss is odd\n"
    b"12:00:03 INFO    step 2/9  loss 0.4\n"
    b"12:00:04 ERROR   it broke\n"
    b"  File somewhere, line 3\n"
    b"12:00:05 INFO    step 3/9  loss 0.3\n"
    b"12:00:06 DEBUG   nobody cares\n"
)


async def _run_app(pilot: Pilot[None]) -> LogPane:
    assert isinstance(pilot.app, PaneApp)
    pane = pilot.app.pane
    pane.feed(_RUN)
    await _until(pilot, lambda: "nobody cares" in "\n".join(_rows(pane)))
    return pane


async def test_the_level_filter_keeps_a_traceback_with_its_error() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        await pilot.press("l")
        await _until(pilot, lambda: len(_rows(pane)) == 7)
        assert "nobody cares" not in "\n".join(_rows(pane))
        await pilot.press("l")
        await _until(pilot, lambda: len(_rows(pane)) == 3)
        await pilot.press("l")
        await _until(pilot, lambda: _rows(pane) == ["12:00:04 ERROR   it broke", "  File somewhere, line 3"])
        pane.feed(b"12:00:07 INFO    fine\n12:00:08 ERROR   again\nand again")
        await _until(pilot, lambda: len(_rows(pane)) == 4)
        assert _rows(pane)[-1] == "and again"  # unfinished, and of the error before it
        await pilot.press("l")
        await _until(pilot, lambda: len(_rows(pane)) == 11)


async def test_the_text_filter_is_live_and_search_stays_within_it() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        await pilot.press("F", *"step")
        await _until(pilot, lambda: len(_rows(pane)) == 3)
        pane.feed(b"12:00:09 INFO    step 4/9  loss 0.2\nother loss\n")
        await _until(pilot, lambda: len(_rows(pane)) == 4)
        await pilot.press("enter")
        assert pilot.app.focused is pane
        await pilot.press("slash", *"loss", "enter")
        count = pane.query_one("LogSearch .log-prompt--words")
        await _until(pilot, lambda: str(count.content).startswith("1/4"))  # type: ignore[attr-defined]
        await pilot.press("n")
        await _until(pilot, lambda: str(count.content).startswith("2/4"))  # type: ignore[attr-defined]
        await pilot.press("escape", "escape")
        await _until(pilot, lambda: len(_rows(pane)) == 11)  # and the pill
        assert not pane.query_one(LogFilter).active


async def test_a_filter_may_be_a_pattern_and_a_wrong_one_is_said() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        await pilot.press("F", "ctrl+r")
        pane.query_one(LogFilter).query_one(Input).value = r"step [13]/"
        await _until(pilot, lambda: [step_of(row) for row in _rows(pane)] == [1, 3])
        pane.query_one(LogFilter).query_one(Input).value = "step ["
        count = pane.query_one("LogFilter .log-prompt--words")
        await _until(pilot, lambda: "no pattern" in str(count.content))  # type: ignore[attr-defined]
        await pilot.press("escape")
        await _until(pilot, lambda: len(_rows(pane)) == 8)


async def test_search_by_pattern() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        await pilot.press("slash", "ctrl+r")
        pane.query_one(Input).value = r"loss 0\.[34]$"
        count = pane.query_one("LogSearch .log-prompt--words")
        await _until(pilot, lambda: str(count.content) == "2 matches")  # type: ignore[attr-defined]


async def test_going_to_a_step_a_time_and_a_line() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        app = pilot.app
        assert isinstance(app, PaneApp)
        pane = await _run_app(pilot)
        for typed, place in (("2", (3, 2)), ("12:00:05", (6, 3)), ("#3", (2, 1)), ("step 3", (6, 3))):
            await pilot.press("colon")
            pilot.app.focused.value = typed  # type: ignore[union-attr]
            await pilot.press("enter")
            await _until(pilot, lambda place=place: bool(app.selected) and app.selected[-1] == place)
        await pilot.press("colon", *"soon", "enter")
        problem = pane.query_one("LogJump .log-prompt--words")
        assert "no step" in str(problem.content)  # type: ignore[attr-defined]
        await pilot.press("escape")
        assert app.focused is pane
        await pilot.press("escape")
        await _until(pilot, lambda: app.selected[-1] == (None, None))


async def test_a_step_from_outside_is_shown_and_let_go() -> None:
    async with PaneApp().run_test(size=(70, 6)) as pilot:
        app = pilot.app
        assert isinstance(app, PaneApp)
        app.pane.feed(b"".join(b"12:00:00 INFO step %d/900\n" % n for n in range(1, 800)))
        pane = app.pane
        await _until(pilot, lambda: any("step 799" in row for row in _rows(pane)))
        pane.show_step(400)
        await _until(pilot, lambda: any("step 400/" in row for row in _rows(pane)))
        assert not pane.follow
        assert not app.selected  # no echo
        pane.show_step(None)
        await _until(pilot, lambda: any("step 799" in row for row in _rows(pane)))
        assert pane.follow


async def test_selecting_and_copying() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        app = pilot.app
        assert isinstance(app, PaneApp)
        pane = await _run_app(pilot)
        await pilot.press("y")
        assert app.copied == "12:00:06 DEBUG   nobody cares"
        await pilot.press("space")
        await _until(pilot, lambda: app.selected[-1:] == [(7, 3)])
        assert not pane.follow
        await pilot.press("up")
        await _until(pilot, lambda: app.selected[-1] == (6, 3))
        await pilot.press("shift+up", "shift+up", "shift+down", "y")
        assert app.copied == "  File somewhere, line 3\n12:00:05 INFO    step 3/9  loss 0.3"
        await pilot.click(LogView, offset=(3, 1))
        await _until(pilot, lambda: app.selected[-1] == (1, 1))
        await pilot.click(LogView, offset=(3, 2), shift=True)
        await pilot.press("y")
        assert app.copied.count("\n") == 1
        await pilot.press("space")
        assert not pane._selection


async def test_times_can_be_hidden() -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        await pilot.press("T")
        assert _rows(pane)[0] == "INFO    training"
        await pilot.press("T")
        assert _rows(pane)[0] == "12:00:00 INFO    training"


async def test_what_is_shown_is_saved(tmp_path: Path) -> None:
    async with PaneApp().run_test(size=(70, 20)) as pilot:
        pane = await _run_app(pilot)
        pane.export_folder, pane.export_name = tmp_path, "red fox/1"
        pane.feed(b"\x1b[31mred\x1b[0m and unfinished")
        await pilot.press("W")
        await _until(pilot, lambda: (tmp_path / "red-fox-1.log").exists())
        assert (tmp_path / "red-fox-1.log").read_bytes() == _RUN + b"red and unfinished\n"
        await pilot.press("F", *"step", "enter")
        await _until(pilot, lambda: len(_rows(pane)) == 3)
        await pilot.press("W")
        await _until(pilot, lambda: (tmp_path / "red-fox-1-2.log").exists())
        assert (tmp_path / "red-fox-1-2.log").read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("120", ("step", 120)),
        (" step 1,200 ", ("step", 1200)),
        ("#7", ("line", 7)),
        ("line 7", ("line", 7)),
        ("7:05", ("time", 25_500)),
        ("14:30:05", ("time", 52_205)),
        ("14:70", None),
        ("fox", None),
        ("", None),
    ],
)
def test_places_as_they_are_typed(text: str, place: tuple[str, int] | None) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("12:00:00 INFO    saved error.png", Level.INFO),
        ("12:00:00 DEBUG   x", Level.DEBUG),
        ("[2026-01-01 12:00:00,123] WARNING x", Level.WARNING),
        ("ValueError: no", Level.ERROR),
        ("a line", None),
    ],
)
def test_the_level_of_a_line(text: str, level: Level | None) -> None:
    assert level_of(text) == level


def test_what_lines_tell_of() -> None:
    assert set(PHASES) == set(Phase)
    assert step_of(" 12%|##  | 96/800 [00:12<01:30, 7.9it/s]") == 96
    assert step_of("12:00:00 INFO    training 26 layers") is None
    assert time_of("2026-01-01T01:02:03Z hello") == 3723
    assert phase_span("12:00:00 INFO    caching text (13)") == (17, 29)
    assert phase_span("12:00:00 INFO    training 26 layers at rank 16") is None


def test_filters_do_not_depend_on_where_chunks_end() -> None:
    store = LogStore()
    store.feed(_RUN * 50)
    shown = LineFilter(Level.WARNING)
    whole = [list(found) for _, found in search(store, Query("o"), 0, shown)]
    assert [line % 8 for line in list(chain(*whole))[:4]] == [2, 4, 5, 2]
    later = [list(found) for _, found in search(store, Query("o"), 13, shown)]
    assert list(chain(*later)) == [line for line in list(chain(*whole)) if line >= 13]
    store.close()
