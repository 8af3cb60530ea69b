"""The loss pane's curves, fed with a run's events."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from PIL import Image
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding

from backend.events import AttemptEvent, CheckpointEvent, Event, SampleEvent, StepEvent, ValidationEvent
from backend.runs.view import RunView
from tui.widgets.chart import Chart
from tui.widgets.loss_chart import LossChart
from tui.widgets.radio import TickList

if TYPE_CHECKING:
    from textual.pilot import Pilot


def _step(step: int, loss: float) -> StepEvent:
    return StepEvent(step=step, loss=loss, smoothed=loss, lr=0.1)


class ChartApp(App[None]):
    def compose(self) -> ComposeResult:
        yield LossChart()


def _points(chart: LossChart, name: str) -> list[tuple[float, float]]:
    curve = chart.series(name)
    curve.load(0.9)
    return (
        []
        if curve.points is None
        else list(zip(curve.points.x.tolist(), curve.points.y.tolist(), strict=True))
    )


async def test_a_rewind_within_one_attempt_takes_both_curves_back() -> None:
    app = ChartApp()
    async with app.run_test():
        chart = app.query_one(LossChart)
        chart.take_events([AttemptEvent(attempt=1, step=0, steps=9), *(_step(n, 1.0) for n in range(1, 6))])
        chart.take_events(
            [ValidationEvent(step=2, loss=0.9, count=1), ValidationEvent(step=4, loss=0.8, count=1)]
        )
        chart.take_events([AttemptEvent(attempt=1, step=3, steps=9), _step(4, 2.0)])
        assert _points(chart, "loss") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0)]
        assert _points(chart, "validation") == [(2, 0.9)]


async def test_validation_is_in_the_legend_only_with_points() -> None:
    app = ChartApp()
    async with app.run_test():
        chart = app.query_one(LossChart)
        chart.take_events([ValidationEvent(step=2, loss=0.9, count=1)])
        assert chart.series("validation").visible
        chart.clear()
        assert [curve.name for curve in chart.curves] == ["loss"]
        chart.take_events([ValidationEvent(step=1, loss=0.5, count=1)])
        assert chart.series("validation").visible


def test_the_view_knows_the_last_validation() -> None:
    view = RunView()
    view.apply([ValidationEvent(step=2, loss=0.9), ValidationEvent(step=4, loss=0.8)])
    assert view.validation is not None
    assert view.validation.loss == 0.8


# Several numbers, axes and runs


async def _until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause()


def _run(count: int, *, seq: int = 1, loss: float = 1.0) -> list[Event]:
    return [
        AttemptEvent(seq=seq, t=1000.0, attempt=1, step=0, steps=count),
        *(
            StepEvent(
                seq=seq + n,
                t=1000.0 + 6 * n,
                step=n,
                loss=loss / n,
                smoothed=loss / n,
                lr=1e-4,
                grad_norm=0.5,
                seconds=6.0,
                memory=n << 28,
                epoch=1 + (n - 1) // 10,
            )
            for n in range(1, count + 1)
        ),
    ]


async def _drawn(pilot: Pilot[None]) -> LossChart:
    chart = pilot.app.query_one(LossChart)
    chart.export_name = "fox"
    chart.take_events(_run(40))
    await _until(pilot, lambda: chart._scene is not None)
    chart.focus()
    await pilot.pause()
    return chart


def _text(chart: LossChart) -> str:
    return "\n".join(chart.render_line(y).text for y in range(chart.size.height))


async def test_m_walks_through_the_numbers() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.set_rate(0.01)
        seen = []
        for _ in range(6):
            await pilot.press("m")
            seen.append(chart.metrics)
        assert seen == [("lr",), ("grad_norm",), ("seconds",), ("memory",), ("cost",), ("loss", "validation")]
        await pilot.press("M")
        assert _points(chart, "cost")[-1] == (40, pytest.approx(2.4))
        await pilot.press("M")
        assert _points(chart, "memory")[-1] == (40, 10.0)
        assert "GiB 10" in _text(chart)


async def test_x_walks_through_steps_minutes_and_epochs_and_the_crosshair_stays_at_its_step() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.show_step(20)
        await pilot.press("X")
        assert _points(chart, "loss")[-1] == (pytest.approx(4.0), 1 / 40)
        assert chart.cursor_step == 20
        assert "minutes" in _text(chart)
        await pilot.press("X")
        assert _points(chart, "loss")[9][0] == pytest.approx(1.0)
        assert _points(chart, "loss")[-1][0] == pytest.approx(4.0)
        assert chart.cursor_step == 20
        await pilot.press("X")
        assert _points(chart, "loss")[-1] == (40, 1 / 40)


async def test_over_time_an_attempt_that_was_given_up_is_shown_and_over_steps_it_is_not() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.take_events(
            [
                AttemptEvent(seq=100, t=2000.0, attempt=2, step=30, steps=40),
                StepEvent(seq=101, t=2006.0, step=31, loss=9.0, smoothed=9.0, lr=1e-4, seconds=6.0),
            ]
        )
        assert [x for x, _ in _points(chart, "loss")] == [float(n) for n in range(1, 32)]
        assert any(mark.kind == "resume" for mark in chart.marks)
        await pilot.press("X")
        assert len(_points(chart, "loss")) == 41
        chart.set_rate(1.0)
        chart.show_metrics(["cost"])
        assert _points(chart, "cost")[-1][1] == pytest.approx(246.0)  # not the pause between the attempts


async def test_the_legend_toggles_numbers_and_runs() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.overlay("r2", "hare", _run(20, loss=2.0))
        await _until(pilot, lambda: "hare" in _text(chart))
        await pilot.press("g")
        ticks = pilot.app.screen.query_one(TickList)

        def crosses() -> list[bool]:
            return ["X" in ticks.render_line(y).text.split("loss")[0][:6] for y in range(2)]

        await _until(pilot, lambda: crosses() == [True, False])  # told without colour
        await pilot.press("down", "space")  # lr
        await _until(pilot, lambda: crosses() == [True, True])
        assert chart.metrics == ("loss", "validation", "lr")
        assert {curve.name for curve in chart.curves} >= {"loss", "lr", "r2:loss", "r2:lr"}
        await pilot.press("end", "space", "escape")
        assert not chart.series("r2:loss").visible
        await _until(pilot, lambda: "hare" not in _text(chart))
        chart.remove_overlay("r2")
        assert {curve.name for curve in chart.curves} == {"loss", "lr"}


async def test_curves_of_different_size_share_the_chart() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.show_metrics(["loss", "memory"])
        assert chart._scene is not None
        loss, memory = chart._scene.traces
        assert loss.raw is not None
        assert memory.raw is not None
        low, high = chart._scene.y
        assert memory.raw.hi[memory.raw.sampled].max() <= high
        assert memory.raw.hi[memory.raw.sampled].max() > low + 0.8 * (high - low)  # the whole height
        assert "GiB 10" in _text(chart)  # its own values in the legend
        await pilot.press("y")
        assert "log y" in _text(chart)


async def test_events_that_come_twice_or_late_count_once_and_in_their_place() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = pilot.app.query_one(LossChart)
        events = _run(40)
        late = events.pop(20)
        chart.take_events(events[:30])
        chart.take_events(events[10:])  # reconnected
        chart.take_events([late])
        chart.take_events([late])
        whole = [(float(n), 1 / n) for n in range(1, 41)]
        await _until(pilot, lambda: chart._scene is not None)
        assert _points(chart, "loss") == whole
        chart.focus()
        await pilot.pause()
        await pilot.press("X")
        assert [y for _, y in _points(chart, "loss")] == [y for _, y in whole]


async def test_nans_samples_and_checkpoints_are_marked() -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        nan = float("nan")
        chart.take_events(
            [
                StepEvent(seq=50, t=1250.0, step=41, loss=nan, smoothed=nan, lr=1e-4),
                StepEvent(seq=51, t=1256.0, step=42, loss=nan, smoothed=nan, lr=1e-4),
                *(
                    SampleEvent(seq=52 + n, t=1257, step=42, index=n, prompt="", seed=1, path="")
                    for n in (0, 1)
                ),
                CheckpointEvent(seq=60, t=1258, step=42, path="checkpoints/fox.safetensors"),
            ]
        )
        assert [(mark.x, mark.kind) for mark in chart.marks] == [
            (41, "error"),
            (42, "sample"),
            (42, "checkpoint"),
        ]


async def test_a_asks_for_other_runs() -> None:
    asked = []

    class Asking(ChartApp):
        @on(LossChart.OverlayWanted)
        def _note(self, event: LossChart.OverlayWanted) -> None:
            asked.append(event.control)

    async with Asking().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        await pilot.press("A")
        await _until(pilot, lambda: asked == [chart])


async def test_w_saves_picture_and_numbers(tmp_path: Path) -> None:
    async with ChartApp().run_test(size=(90, 24)) as pilot:
        chart = await _drawn(pilot)
        chart.export_folder = tmp_path
        chart.take_events([ValidationEvent(seq=70, t=1300, step=40, loss=0.5)])
        chart.overlay("r2", "<hare>", _run(20, loss=2.0))
        chart.repaint()
        await pilot.press("w")
        png = tmp_path / "fox-loss.png"
        await _until(pilot, png.exists)
        rows = list(csv.DictReader((tmp_path / "fox-loss.csv").open(encoding="utf-8", newline="")))
        assert len(rows) == 61
        assert (rows[39]["step"], rows[39]["loss"], rows[39]["epoch"]) == ("40", "0.025", "4")
        assert (rows[40]["step"], rows[40]["validation"]) == ("40", "0.5")
        svg = ElementTree.parse(tmp_path / "fox-loss.svg")
        assert any("<hare>" in (element.text or "") for element in svg.iter())
        with Image.open(png) as image:
            assert image.size == (1200, 675)
            assert len(image.getcolors(1 << 20)) > 20


def test_every_key_of_the_loss_chart_is_named_and_explained() -> None:
    bindings = [b for b in [*LossChart.BINDINGS, *Chart.BINDINGS] if isinstance(b, Binding)]
    assert len({b.id for b in bindings}) == len(bindings)
    keys = [key for b in bindings for key in b.key.split(",")]
    assert len(set(keys)) == len(keys)
    assert all(b.id and b.tooltip for b in bindings)
