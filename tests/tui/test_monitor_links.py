"""What the monitor's panes tell each other: log and chart, other runs, and what the place costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backend.events import AttemptEvent, StepEvent
from backend.launchers.base import RunFacts
from tests.tui.fakes import FakeRun, FakeRuns, make_app, open_monitor, screen_text, story, summary, until
from tui.runs import place_watch
from tui.screens.monitor import MonitorScreen
from tui.widgets.chart_legend import LegendScreen
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import LossChart

if TYPE_CHECKING:
    from textual.pilot import Pilot

LINES = "".join(f"12:00:{n % 60:02} INFO    step {n}/1000 loss 0.5\n" for n in range(1, 251)).encode()


async def opened(pilot: Pilot, wanted: str = "step 250/1000") -> tuple[LogPane, LossChart]:
    """The panes of the monitor, once they show the run."""
    await open_monitor(pilot, wanted)
    screen = pilot.app.screen
    assert isinstance(screen, MonitorScreen)
    chart = screen.query_one(LossChart)
    await until(lambda: chart._scene is not None)
    return screen.query_one(LogPane), chart


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
async def test_a_line_selected_puts_the_crosshair_at_its_step_and_back(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(250), LINES)), root=tmp_path)
    async with app.run_test(size=size) as pilot:
        log, chart = await opened(pilot)
        await until(lambda: log.store.complete == 250)
        await pilot.pause()
        assert chart.cursor_x is None

        # From the log to the chart: the newest line, then the lines above it.
        log.focus()
        await pilot.press("space")
        await until(lambda: chart.cursor_step == 250)
        await pilot.press("up", "up", "up")
        await until(lambda: chart.cursor_step == 247)
        assert log.selected_text().endswith("step 247/1000 loss 0.5")
        await pilot.press("escape")
        await until(lambda: chart.cursor_x is None)

        # And back: the crosshair's step is selected in the log.
        log.action_end()
        chart.focus()
        await pilot.press("left")
        await until(lambda: chart.cursor_step is not None and log._selection is not None)
        for _ in range(12):
            await pilot.press("left")
        step = chart.cursor_step
        assert step is not None
        assert step < 249
        await until(lambda: log.selected_text().endswith(f"step {step}/1000 loss 0.5"))
        assert chart.cursor_step == step  # the log did not move it in turn
        await pilot.press("escape")
        await until(lambda: log._selection is None and log.follow)


async def test_other_runs_are_laid_over_and_taken_away_and_go_on(tmp_path: Path) -> None:
    runs = FakeRuns(
        FakeRun(summary(), story(250), LINES), FakeRun(summary("other234", name="[b]dog[/"), story(40))
    )
    app = make_app(runs, root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        _, chart = await opened(pilot)
        chart.focus()
        await pilot.press("A")
        await until(lambda: isinstance(app.screen, LegendScreen))
        await until(lambda: "[b]dog[/ · other234" in screen_text(app))
        await pilot.press("space", "escape")
        await until(lambda: len(chart._runs.get("other234", chart._runs[""]).history) == 40)
        assert chart.overlays == ("other234",)
        await until(lambda: "[b]dog[/" in screen_text(app))  # in the legend of the chart
        runs.say("other234", StepEvent(step=41, loss=0.5, smoothed=0.5, lr=1e-4, seconds=1.0))
        await until(lambda: len(chart._runs["other234"].history) == 41)
        await pilot.press("A")
        await until(lambda: isinstance(app.screen, LegendScreen))
        await pilot.press("space", "escape")
        await until(lambda: chart.overlays == ())
        assert [curve.name for curve in chart.curves] == ["loss"]


async def test_there_may_be_no_other_run(tmp_path: Path) -> None:
    app = make_app(FakeRuns(FakeRun(summary(), story(250), LINES)), root=tmp_path)
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        _, chart = await opened(pilot)
        chart.focus()
        await pilot.press("A")
        await until(lambda: "There is no other run" in screen_text(app))


async def test_the_cost_curve_is_time_by_the_rate_of_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_watch, "INTERVAL", 0.05)
    begun = story(0)[0].t
    events = [
        AttemptEvent(seq=1, t=begun, attempt=1, step=0, steps=1000),
        *(
            StepEvent(seq=n + 1, t=begun + 36.0 * n, step=n, loss=0.5, smoothed=0.5, lr=1e-4, seconds=36.0)
            for n in range(1, 11)
        ),
    ]
    facts = RunFacts(where="Modal, H100", remote=True, safe_to_close=True, rate=4.0, dollars=0.4, budget=5.0)
    run = FakeRun(summary(backend="modal", step=10), events, LINES, facts=facts)
    app = make_app(FakeRuns(run), root=tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        _, chart = await opened(pilot, "step 10/1000")
        await until(lambda: "cost" in chart.available())
        chart.focus()
        while chart.metrics != ("cost",):
            await pilot.press("m")
        curve = chart.series("cost")
        curve.load(0.0)
        await pilot.pause()
        assert curve.points is not None
        # $4 an hour and 36 seconds a step: four cents each.
        assert curve.points.y.tolist() == pytest.approx([0.04 * n for n in range(1, 11)])
        run.facts = replace(facts, rate=8.0)  # another GPU
        await until(lambda: chart._runs[""].history.rate == pytest.approx(8.0 / 3600))
