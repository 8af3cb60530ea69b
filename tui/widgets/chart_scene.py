"""Gathers what a :class:`~tui.widgets.chart.Chart` shows into a scene. Imports numpy: load it late."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tui.charts.curve import Curve
from tui.charts.picture import PLOT, Figure, Line
from tui.charts.raster import ColumnCache, Columns, column_edges
from tui.charts.scene import COLOURS, MISSING, Mark, Run, Scene, Trace
from tui.charts.series import Series
from tui.charts.ticks import short_number
from tui.charts.view import YRange, robust_range

if TYPE_CHECKING:
    from tui.widgets.chart import Chart


class SceneBuilder:
    """Builds the scenes of one chart, and keeps what can be used again for the next.

    Args:
        chart: The chart.
    """

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._caches: dict[tuple[str, str], ColumnCache] = {}

    # -- points -------------------------------------------------------------------------------------

    def _shown(self) -> list[tuple[Curve, Series, int]]:
        """The curves to draw, their points, and how many of them."""
        chart = self._chart
        shown = []
        for curve in chart.curves:
            curve.load(chart.smoothing)
            if curve.visible and curve.points is not None:
                count = chart.frozen_count(curve)
                if count:
                    shown.append((curve, curve.points, count))
        return shown

    def extent(self) -> tuple[float, float] | None:
        """The first and the last x of all curves; None without points."""
        shown = self._shown()
        if not shown:
            return None
        return (
            min(float(points.x[0]) for _, points, _ in shown),
            max(float(points.x[count - 1]) for _, points, count in shown),
        )

    def snap(self, x: float) -> float | None:
        """The x of the point nearest to ``x``, of whichever curve."""
        best: float | None = None
        for _, points, count in self._shown():
            near = float(points.x[min(points.nearest(x) or 0, count - 1)])
            if best is None or abs(near - x) < abs(best - x):
                best = near
        return best

    def step_cursor(self, direction: int) -> float | None:
        """Where the crosshair goes from where it is: the next point at least a dot column away."""
        chart = self._chart
        extent = self.extent()
        if extent is None:
            return None
        x0, x1 = chart.x_window.bounds(*extent)
        current = chart.cursor_x
        if current is None:  # it appears at the newest visible point
            return self.snap(min(x1, extent[1]))
        scene_width = chart._scene.layout.width if chart._scene is not None else chart.size.width
        target = current + direction * (x1 - x0) / (2 * max(1, scene_width))
        candidates = []
        for _, points, count in self._shown():
            xs = points.x[:count]
            if direction > 0:
                index = int(np.searchsorted(xs, target))
                index = index if index < count else count - 1
            else:
                index = max(0, int(np.searchsorted(xs, target, side="right")) - 1)
            if (float(xs[index]) - current) * direction > 0:
                candidates.append(float(xs[index]))
        return min(candidates, key=lambda x: abs(x - current), default=current)

    # -- scene --------------------------------------------------------------------------------------

    def build(self) -> Scene | None:
        """The scene as of now; None while there are no points."""
        chart = self._chart
        shown = self._shown()
        extent = self.extent()
        if extent is None:
            return None
        width, height = chart.size
        x0, x1 = chart.x_window.bounds(*extent)
        marks = chart.marks
        # The width of the y labels is known only after the columns: begin with what it was last.
        layout = chart._scene.layout if chart._scene is not None else None
        plot = (
            layout.width
            if layout is not None and layout.width + layout.gutter == width
            else max(1, width - 6)
        )
        # Another width may mean another range of y and other labels, back and forth: labels only ever
        # get wider here, so this ends.
        label = 1
        while True:
            traces = self._traces(shown, x0, x1, plot)
            traces, y = self._share_y([curve.axis for curve, _, _ in shown], traces)
            scene = Scene(
                width,
                height,
                (x0, x1),
                y,
                log=chart.log_y,
                traces=traces,
                marks=marks,
                cursor=chart.cursor_x,
                header=self._readout(shown, marks, (x1 - x0) / plot) or self._legend(shown),
                state=self._state(traces),
                x_label=chart.x_label,
                least_label=label,
            )
            if scene.layout.width == plot:
                return scene
            plot, label = scene.layout.width, max([label, *map(len, scene.y_labels)])

    def figure(self) -> Figure:
        """What is shown, for a picture; there must be points."""
        chart, shown, extent = self._chart, self._shown(), self.extent()
        assert extent is not None
        x0, x1 = chart.x_window.bounds(*extent)
        caches, self._caches = self._caches, {}  # another width: leave the screen's alone
        try:
            traces = self._traces(shown, x0, x1, PLOT // 2)
        finally:
            self._caches = caches
        traces, y = self._share_y([curve.axis for curve, _, _ in shown], traces)
        lines = [
            Line(curve.label, curve.number, trace.raw, trace.smooth)
            for (curve, _, _), trace in zip(shown, traces, strict=True)
            if trace.raw is not None
        ]
        marks = [(mark.x, mark.label, mark.kind) for mark in chart.marks]
        title = " · ".join(self._state(traces))
        return Figure(title, (x0, x1), y, chart.log_y, lines, marks, chart.x_label, chart.y_label)

    def _traces(self, shown: list[tuple[Curve, Series, int]], x0: float, x1: float, plot: int) -> list[Trace]:
        edges = column_edges(x0, x1, 2 * plot)
        log, cursor = self._chart.log_y, self._chart.cursor_x
        traces = []
        for curve, points, count in shown:
            smooth = curve.smooth and points.weight > 0
            gaps = points.gaps
            gaps = gaps[: int(np.searchsorted(gaps, count))]
            key = (x0, x1, plot, points.epoch, points.serial)
            raw = self._columns(
                curve.name, "raw", key, points.x[:count], points.y[:count], edges, gaps, log, points
            )
            line = (
                self._columns(
                    curve.name,
                    "smooth",
                    key,
                    points.x[:count],
                    points.smooth[:count],
                    edges,
                    gaps,
                    log,
                    points,
                )
                if smooth
                else None
            )
            value = None
            if cursor is not None:
                index = points.nearest(cursor)
                if index is not None and index < count:
                    value = float((points.smooth if smooth else points.y)[index])
            traces.append(Trace(curve.number, curve.letter, raw, line, value))
        return traces

    def _columns(
        self,
        name: str,
        kind: str,
        key: tuple[object, ...],
        x: np.ndarray,
        y: np.ndarray,
        edges: np.ndarray,
        gaps: np.ndarray,
        log: bool,
        points: Series,
    ) -> Columns:
        cache = self._caches.setdefault((name, kind), ColumnCache())
        return cache.get(key, x, y, edges, gaps, log=log, lowest=points.lowest)

    def _share_y(self, axes: list[str], traces: list[Trace]) -> tuple[list[Trace], tuple[float, float]]:
        """The range of the first curve's axis, and curves of other axes moved from their ranges into it."""
        chart = self._chart
        lead = axes[0]
        y = self._y([t for t, axis in zip(traces, axes, strict=True) if axis == lead], chart.y_range)
        if len(set(axes)) == 1:
            return traces, y
        moved = []
        for trace, axis in zip(traces, axes, strict=True):
            if axis != lead:
                same = [t for t, a in zip(traces, axes, strict=True) if a == axis]
                own = self._y(same, chart.other_ranges.setdefault(axis, YRange()))
                trace = _moved(trace, own, y, log=chart.log_y)
            moved.append(trace)
        return moved, y

    def _y(self, traces: list[Trace], y_range: YRange) -> tuple[float, float]:
        lows: list[float] = []
        highs: list[float] = []
        for trace in traces:
            if trace.raw is not None:
                finite = np.isfinite(trace.raw.lo)
                if (finite & trace.raw.sampled).any():  # not the long way down from an outlier
                    finite &= trace.raw.sampled
                lows += trace.raw.lo[finite].tolist()
                highs += trace.raw.hi[finite].tolist()
        log = self._chart.log_y
        if log:
            lows, highs = np.log10(lows).tolist(), np.log10(highs).tolist()
        bounds = robust_range(lows, highs, clip=self._chart.clip_outliers)
        if bounds is None:
            return (0.1, 1.0) if log else (0.0, 1.0)
        lo, hi = (10.0 ** bounds[0], 10.0 ** bounds[1]) if log else bounds
        return y_range.update(lo, hi, log=log)

    # -- words --------------------------------------------------------------------------------------

    def _legend(self, shown: list[tuple[Curve, Series, int]]) -> list[Run]:
        runs: list[Run] = []
        if self._chart.y_label and len(shown) > 1:
            runs.append((f"{self._chart.y_label}  ", "state"))
        for curve, points, count in shown:
            runs += self._values(curve, points, count - 1, len(shown) > 1)
        return runs

    @staticmethod
    def _values(curve: Curve, points: Series, index: int, several: bool) -> list[Run]:
        style = f"series-{curve.number % COLOURS + 1}"
        name = f"{curve.letter} {curve.label}" if several else curve.label
        text = short_number(float(points.y[index]))
        runs: list[Run] = [(name, style), (f" {text}", "legend")]
        if curve.smooth and points.weight > 0 and np.isfinite(points.smooth[index]):
            runs.append((f" ~{short_number(float(points.smooth[index]))}", style))
        runs.append(("  ", ""))
        return runs

    def _readout(self, shown: list[tuple[Curve, Series, int]], marks: list[Mark], cell: float) -> list[Run]:
        chart = self._chart
        x = chart.cursor_x
        if x is None:
            return []
        runs: list[Run] = [(f"{chart.x_label or 'x'} {short_number(x, 8)}  ", "readout")]
        for curve, points, count in shown:
            index = min(points.nearest(x) or 0, count - 1)
            runs += self._values(curve, points, index, len(shown) > 1)
        near = [mark for mark in marks if abs(mark.x - x) <= cell / 2]
        if near:
            mark = min(near, key=lambda mark: abs(mark.x - x))
            runs.append((f"{mark.glyph} {mark.label or mark.kind}", "mark"))
        return runs

    def _state(self, traces: list[Trace]) -> list[str]:
        chart = self._chart
        words = []
        missing = sum(int(trace.raw.missing.sum()) for trace in traces if trace.raw is not None)
        if missing:
            words.append(f"{MISSING} {missing:,}")
        if not chart.clip_outliers:
            words.append("no clip")
        if any(trace.smooth is not None for trace in traces):
            words.append(f"ema {chart.smoothing:g}")
        if chart.log_y:
            words.append("log y")
        if chart.paused:
            words.append("PAUSED")
        elif not chart.x_window.live:
            words.append("not following")
        return words


def _moved(trace: Trace, own: tuple[float, float], into: tuple[float, float], *, log: bool) -> Trace:
    """A trace of another axis, stretched from its own range into the one that is labelled."""

    def move(values: np.ndarray) -> np.ndarray:
        (a, b), (c, d) = own, into
        if log:
            with np.errstate(invalid="ignore", divide="ignore"):
                share = (np.log(values) - np.log(a)) / ((np.log(b) - np.log(a)) or 1.0)
            result: np.ndarray = np.exp(np.log(c) + share * (np.log(d) - np.log(c)))
        else:
            result = c + (values - a) / ((b - a) or 1.0) * (d - c)
        return result

    def columns(of: Columns | None) -> Columns | None:
        return None if of is None else replace(of, lo=move(of.lo), hi=move(of.hi))

    value = None if trace.value is None else float(move(np.array([trace.value]))[0])
    return replace(trace, raw=columns(trace.raw), smooth=columns(trace.smooth), value=value)
