"""The loss pane's curves, fed with a run's events."""

from __future__ import annotations

from textual.app import App, ComposeResult

from backend.events import AttemptEvent, StepEvent, ValidationEvent
from backend.runs.view import RunView
from tui.widgets.loss_chart import LossChart


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
        assert not chart.series("validation").visible
        chart.take_events([ValidationEvent(step=1, loss=0.5, count=1)])
        assert chart.series("validation").visible


def test_the_view_knows_the_last_validation() -> None:
    view = RunView()
    view.apply([ValidationEvent(step=2, loss=0.9), ValidationEvent(step=4, loss=0.8)])
    assert view.validation is not None
    assert view.validation.loss == 0.8
