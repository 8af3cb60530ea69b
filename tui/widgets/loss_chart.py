"""The chart of a run's numbers, and of other runs over it: events in, curves and marks out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, get_args

from textual.binding import Binding, BindingType
from textual.message import Message

from backend.events import AttemptEvent, CheckpointEvent, SampleEvent, StepEvent, ValidationEvent
from tui.runs.history import METRICS, VALIDATION, RunHistory, XAxis
from tui.widgets.chart import Chart
from tui.widgets.chart_legend import Entry, LegendScreen

if TYPE_CHECKING:
    from backend.events import Event

LABELS = {
    "loss": "loss",
    VALIDATION: "val",
    "lr": "lr",
    "grad_norm": "grad norm",
    "seconds": "s/step",
    "memory": "GiB",
    "cost": "$",
}
_AXES = {VALIDATION: "loss"}  # drawn over the range of another metric
_SMOOTH = frozenset({"loss", "grad_norm", "seconds"})
_X_LABELS = {"step": "step", "time": "minutes", "epoch": "epoch"}

HELP = """
- **X** puts steps, minutes or epochs on the x axis. **m** shows the next number alone (loss, learning rate,
  gradient norm, seconds a step, memory, cost); **g** chooses which are shown together, and of which runs.
- **A** lays other runs over this one. **w** saves the picture as PNG and SVG, and the numbers as CSV.
- `◆` is a checkpoint, `▪` samples, `»` a resume, `!` the first value of a stretch that is not finite.
"""


@dataclass
class _Run:
    """One run in the chart."""

    label: str
    history: RunHistory = field(default_factory=RunHistory)
    visible: bool = True


class LossChart(Chart):
    """Loss over steps, validation loss where there is one, and more on demand, of one run or several.

    Where a run went back, its curves over steps do too; over time everything that happened is shown.
    """

    HELP: ClassVar[str] = Chart.HELP + HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("X", "next_x", "X axis", id="chart.x-axis", show=False,
                tooltip="Put steps, minutes or epochs on the x axis"),
        Binding("m", "next_metric(1)", "Metric", id="chart.metric",
                tooltip="Show the next number alone: loss, lr, gradient norm, s/step, memory, cost"),
        Binding("M", "next_metric(-1)", "Metric before", id="chart.metric-before", show=False,
                tooltip="Show the number before alone"),
        Binding("g", "legend", "Legend", id="chart.legend", show=False,
                tooltip="Choose which curves are shown"),
        Binding("A", "overlay", "Overlay", id="chart.overlay", show=False,
                tooltip="Lay other runs over this one"),
        Binding("w", "export", "Save picture", id="chart.export", show=False,
                tooltip="Save the picture as PNG and SVG, and the numbers as CSV"),
    ]  # fmt: skip

    @dataclass
    class OverlayWanted(Message):
        """The user wants to choose the runs that are laid over this one.

        Attributes:
            chart: The chart; see :meth:`LossChart.overlay`.
        """

        chart: LossChart

        @property
        def control(self) -> LossChart:
            """The chart, for ``@on`` selectors."""
            return self.chart

    @dataclass
    class _Saved(Message):
        text: str
        problem: bool

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(x_label="step", y_label="loss", id=id, classes=classes)
        self.border_title = "Loss"
        self.x_axis: XAxis = "step"
        self.metrics: tuple[str, ...] = ("loss", VALIDATION)
        self.export_name = "run"
        self.export_folder: Path | None = None
        self._runs: dict[str, _Run] = {"": _Run("")}
        self._places: list[tuple[int, float, str, str]] = []  # marks: step, time, label, kind
        self._was_finite = True
        self._last_x: dict[str, float] = {}
        self.add_series("loss", "loss", axis="loss")

    # -- data ---------------------------------------------------------------------------------------

    def take_events(self, events: Sequence[Event]) -> None:
        """Add what ``events`` of the watched run say; an event seen before changes nothing."""
        self._take("", events)

    def _take(self, run_id: str, events: Sequence[Event]) -> None:
        run = self._runs[run_id]
        history, anew = run.history, False
        start = None  # of the rows that the curves do not have yet
        validations = None
        for event in events:
            if isinstance(event, StepEvent):
                epochs, size = history.open_epoch, len(history)
                row = history.add(event)
                if row is None:
                    continue
                anew |= row != size
                anew |= self.x_axis == "epoch" and (epochs != history.open_epoch or epochs < 2)
                start = row if start is None else start
                if not run_id and math.isfinite(event.loss) != self._was_finite:
                    self._was_finite = not self._was_finite
                    if not self._was_finite:
                        self._place(event.step, event.t, f"loss is {event.loss}", "error")
            elif isinstance(event, AttemptEvent):
                back = event.attempt > 1 or event.step > 0
                if not back:
                    if history.x("time", 0, event.t) < 0 or not len(history):
                        history.begin(event.t)
                elif history.cut(event.seq, event.step, event.t):
                    self._draw_rows(run_id, start, validations)
                    start = validations = None
                    if self.x_axis != "time":
                        for metric in self.metrics:
                            curve = self._curves.get(self._key(run_id, metric))
                            if curve is not None:
                                curve.truncate_after(history.x(self.x_axis, event.step, event.t))
                    if not run_id:
                        self._place(event.step, event.t, f"attempt {event.attempt}", "resume")
            elif isinstance(event, ValidationEvent):
                size = history.validations
                row = history.add_validation(event)
                if row is not None:
                    anew |= row != size
                    validations = row if validations is None else validations
            elif isinstance(event, CheckpointEvent) and not run_id:
                self._place(event.step, event.t, event.path.rpartition("/")[2], "checkpoint")
            elif isinstance(event, SampleEvent) and not run_id:
                self._place(event.step, event.t, f"samples of step {event.step}", "sample")
        if anew:
            self._draw_all(run_id)
        else:
            self._draw_rows(run_id, start, validations)

    def _place(self, step: int, time: float, label: str, kind: str) -> None:
        if any(p[0] == step and p[2:] == (label, kind) for p in self._places[-64:]):
            return  # several samples of one step, or an event that came twice
        self._places.append((step, time, label, kind))
        self.mark(self._runs[""].history.x(self.x_axis, step, time), label, kind)

    @staticmethod
    def _key(run_id: str, metric: str) -> str:
        return f"{run_id}:{metric}" if run_id else metric

    def _draw_rows(self, run_id: str, start: int | None, validations: int | None) -> None:
        """Add the rows from ``start`` on to the curves that are shown."""
        for metric in self.metrics:
            first = validations if metric == VALIDATION else start
            if first is not None:
                self._extend(run_id, metric, first)

    def _extend(self, run_id: str, metric: str, start: int) -> None:
        run = self._runs[run_id]
        if not run.history.has(metric):
            return
        curve = self.add_series(
            self._key(run_id, metric),
            " ".join(filter(None, (LABELS[metric], run.label))),
            smooth=metric in _SMOOTH,
            axis=_AXES.get(metric, metric),
        )
        curve.visible = run.visible
        for xs, ys, back in run.history.points(metric, self.x_axis, start):
            if self.x_axis == "time":  # clocks may stand still or go back; nothing is lost by it
                last = self._last_x.get(curve.name, -math.inf)
                for index, x in enumerate(xs):
                    last = xs[index] = max(x, last + 1e-7)
                self._last_x[curve.name] = last
            if xs:
                curve.extend(xs, ys)
            if back is not None and self.x_axis != "time":
                curve.truncate_after(run.history.x(self.x_axis, back, 0.0))

    def _draw_all(self, run_id: str | None = None) -> None:
        """Draw the curves anew: of one run, or of all."""
        wanted = {self._key(run, metric) for run in self._runs for metric in self.metrics}
        for curve in self.curves:
            if curve.name not in wanted:
                self.remove_series(curve.name)
        for run in self._runs if run_id is None else (run_id,):
            for metric in self.metrics:
                curve = self._curves.get(self._key(run, metric))
                if curve is not None:
                    curve.clear()
                    self._last_x.pop(curve.name, None)
                self._extend(run, metric, 0)
        self._marks.clear()
        for step, time, label, kind in self._places:
            self.mark(self._runs[""].history.x(self.x_axis, step, time), label, kind)
        self._touch()

    def clear(self) -> None:
        """Remove all points, markers and other runs; the choice of metrics and axis stays."""
        super().clear()
        self._runs = {"": _Run("")}
        self._places.clear()
        self._was_finite = True
        self._last_x.clear()
        for curve in self.curves:
            if curve.name != "loss":
                self.remove_series(curve.name)

    def set_rate(self, rate: float | None) -> None:
        """Say what the run costs, in dollars a second; None if nothing that is known."""
        history = self._runs[""].history
        if rate != history.rate:
            history.rate = rate
            if "cost" in self.metrics:
                self._draw_all("")

    # -- other runs ---------------------------------------------------------------------------------

    @property
    def overlays(self) -> tuple[str, ...]:
        """The ids of the runs that are laid over the watched one."""
        return tuple(run for run in self._runs if run)

    def overlay(self, run_id: str, label: str, events: Sequence[Event]) -> None:
        """Lay another run over this one, or add what it said since.

        Args:
            run_id: The run's id.
            label: For the legend.
            events: What it said; may come in portions.
        """
        if run_id not in self._runs:
            self._runs[run_id] = _Run(label)
        self._take(run_id, events)

    def remove_overlay(self, run_id: str) -> None:
        """Take a run away again."""
        if run_id and self._runs.pop(run_id, None) is not None:
            self._draw_all("")

    def action_overlay(self) -> None:
        """Ask for other runs."""
        self.post_message(self.OverlayWanted(self))

    # -- what is shown ------------------------------------------------------------------------------

    def available(self) -> list[str]:
        """The metrics that some run has."""
        histories = [run.history for run in self._runs.values()]
        order = ("loss", VALIDATION, *METRICS[1:])
        return [metric for metric in order if any(history.has(metric) for history in histories)]

    def show_metrics(self, metrics: Sequence[str]) -> None:
        """Show these metrics; the first one's values are on the y axis."""
        self.metrics = tuple(metrics) or ("loss", VALIDATION)
        self.y_label = LABELS[self.metrics[0]]
        self.border_title = "Loss" if self.metrics[0] == "loss" else self.y_label.capitalize()
        self._forget_ranges()
        self._draw_all()
        self.repaint()

    def action_next_metric(self, direction: int) -> None:
        """Show the next metric alone; the loss comes with its validation."""
        alone = [metric for metric in self.available() if metric != VALIDATION]
        at = alone.index(self.metrics[0]) if self.metrics[0] in alone else 0
        metric = alone[(at + direction) % len(alone)]
        self.show_metrics(("loss", VALIDATION) if metric == "loss" else (metric,))

    def action_next_x(self) -> None:
        """Put the next thing on the x axis."""
        axes: tuple[XAxis, ...] = get_args(XAxis)
        step = self.cursor_step
        self.x_axis = axes[(axes.index(self.x_axis) + 1) % len(axes)]
        self.x_label = _X_LABELS[self.x_axis]
        self.x_window.fit()
        self._last_x.clear()
        self._draw_all()
        self.cursor_x = self._runs[""].history.x_of_step(self.x_axis, step) if step is not None else None
        self.repaint()

    def action_legend(self) -> None:
        """Choose which curves are shown."""
        entries = [Entry(f"m:{m}", LABELS[m], m in self.metrics) for m in self.available()]
        if len(self._runs) > 1:
            entries += [
                Entry(f"r:{key}", run.label or "this run", run.visible) for key, run in self._runs.items()
            ]
        self.app.push_screen(LegendScreen(entries, self._toggle_entry))

    def _toggle_entry(self, key: str, shown: bool) -> None:
        kind, _, name = key.partition(":")
        if kind == "m":
            order = ("loss", VALIDATION, *METRICS[1:])
            chosen = set(self.metrics) | {name} if shown else set(self.metrics) - {name}
            self.show_metrics([metric for metric in order if metric in chosen])
        elif name in self._runs:
            self._runs[name].visible = shown
            self._draw_all()
            self.repaint()

    # -- the link to the log ------------------------------------------------------------------------

    @property
    def cursor_step(self) -> int | None:
        """The step at the crosshair; None without one."""
        if self.cursor_x is None:
            return None
        return self._runs[""].history.step_at(self.x_axis, self.cursor_x)

    def show_step(self, step: int | None) -> None:
        """Put the crosshair at a step, without telling; None hides it."""
        x = None if step is None else self._runs[""].history.x_of_step(self.x_axis, step)
        with self.prevent(Chart.CursorMoved):
            if x is not None and self._builder is not None:
                self._keep_visible(x)
            self.cursor_x = x

    # -- files --------------------------------------------------------------------------------------

    def action_export(self) -> None:
        """Save picture and numbers, in a thread."""
        if self._builder is None or self._builder.extent() is None:
            self.notify("There are no points to save.", markup=False)
            return
        from backend.files import atomic_file
        from tui.charts.picture import png, svg
        from tui.exports import export_path
        from tui.runs.chart_export import write_csv

        figure = self._builder.figure()
        figure = replace(figure, title=" · ".join(filter(None, (self.export_name, figure.title))))
        histories = [(run.label or self.export_name, run.history) for run in self._runs.values()]
        name, folder = f"{self.export_name}-{self.metrics[0]}", self.export_folder

        def save() -> None:
            try:
                write_csv(export_path(name, ".csv", folder), histories)
                for suffix, picture in ((".svg", svg(figure)), (".png", png(figure))):
                    path = export_path(name, suffix, folder)
                    with atomic_file(path) as file:
                        file.write(picture)
            except OSError as error:
                self.post_message(self._Saved(f"The chart cannot be saved: {error.strerror or error}", True))
            else:
                self.post_message(
                    self._Saved(f"Saved {path.stem} as .png, .svg and .csv in {path.parent}", False)
                )

        self.run_worker(save, name="chart export", group="chart-export", thread=True, exit_on_error=False)

    def on_loss_chart__saved(self, event: _Saved) -> None:
        """Say where the files are."""
        event.stop()
        self.notify(event.text, severity="error" if event.problem else "information", markup=False)
