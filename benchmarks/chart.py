"""How long a chart takes to repaint, beside other libraries and a naive braille plot of the same data.

Run ``python -m benchmarks.chart``. A repaint is everything from the points to the finished rows of the
screen (reduce, rasterise, compose, style); "one more point" adds a point to every series first. The
naive plot walks over all points in Python, as most terminal plotting libraries do.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import math
import random
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from textual.app import App, ComposeResult

from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from textual.widget import Widget

WIDTH, HEIGHT = 120, 36
SERIES = 3
OTHERS = 10_000  # most points that other libraries' charts get


class OneWidget(App[None]):
    """A screen filled by one widget."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        """The widget."""
        yield self.widget


class ChartApp(App[None]):
    """A screen filled by one chart."""

    CSS = "Chart { border: none; }"

    def compose(self) -> ComposeResult:
        """The chart."""
        yield Chart(x_label="step", y_label="loss")


def make_points(count: int, seed: int) -> tuple[list[float], list[float]]:
    """A noisy falling curve."""
    rng = random.Random(seed)
    xs = [float(x) for x in range(count)]
    ys = [0.1 * seed + math.exp(-3 * x / count) + rng.gauss(0, 0.1) for x in xs]
    return xs, ys


def naive_plot(data: list[tuple[list[float], list[float]]]) -> list[str]:
    """Every point of every series into a braille grid, one after the other."""
    x0 = min(min(xs) for xs, _ in data)
    x1 = max(max(xs) for xs, _ in data)
    y0 = min(min(ys) for _, ys in data)
    y1 = max(max(ys) for _, ys in data)
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    cells = [[0x2800] * WIDTH for _ in range(HEIGHT)]
    for xs, ys in data:
        for x, y in zip(xs, ys, strict=True):
            column = int((x - x0) / (x1 - x0) * (2 * WIDTH - 1))
            row = int((y1 - y) / (y1 - y0) * (4 * HEIGHT - 1))
            cells[row // 4][column // 2] |= bits[row % 4][column % 2]
    return ["".join(map(chr, row)) for row in cells]


def timed(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median and best milliseconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times), min(times)


async def measure(count: int, repeats: int) -> dict[str, tuple[float, float]]:
    """All figures for ``SERIES`` series of ``count`` points."""
    data = [make_points(count, seed) for seed in range(SERIES)]
    results: dict[str, tuple[float, float]] = {}
    app = ChartApp()
    async with app.run_test(size=(WIDTH, HEIGHT)) as pilot:
        chart = app.query_one(Chart)
        curves = [chart.add_series(f"series {index}") for index in range(SERIES)]
        for curve, (xs, ys) in zip(curves, data, strict=True):
            curve.extend(xs, ys)
        while chart._scene is None:
            await pilot.pause(0.01)

        def render() -> None:
            chart.repaint()
            for y in range(chart.size.height):
                chart.render_line(y)

        def full() -> None:
            assert chart._builder is not None
            chart._builder._caches.clear()
            chart._text_rows = []
            render()

        last = count

        def one_more() -> None:
            nonlocal last
            for curve in curves:
                curve.append(last, 0.5)
            last += 1
            render()

        def append_only() -> None:
            nonlocal last
            for curve in curves:
                curve.append(last, 0.5)
                curve.load(0.9)
            last += 1

        def smooth() -> None:
            chart.smoothing = 0.95 if chart.smoothing == 0.9 else 0.9

        full()
        results["repaint, everything anew"] = timed(full, repeats)
        one_more()
        results["one more point in each, and repaint"] = timed(one_more, repeats * 4)
        results["one more point in each, data only"] = timed(append_only, repeats * 4)
        results["another smoothing weight, and repaint"] = timed(smooth, max(3, repeats // 4))
    results["naive braille plot in Python"] = timed(lambda: naive_plot(data), 3 if count <= 100_000 else 1)
    # At a million points the others take minutes: they get the first ones only, which their names say.
    few = [(xs[:OTHERS], ys[:OTHERS]) for xs, ys in data]
    of = f", {min(count, OTHERS):,} points each"
    if importlib.util.find_spec("plotext") is not None:
        results["plotext" + of] = timed(lambda: plotext_plot(few), 1)
    for module, plot in (("textual_plotext", textual_plotext_plot), ("textual_plot", textual_plot_plot)):
        if importlib.util.find_spec(module) is not None:
            results[module.replace("_", "-") + of] = await plot(few)
    return results


def plotext_plot(data: list[tuple[list[float], list[float]]]) -> str:
    """The same with plotext, where it is installed."""
    plotext = importlib.import_module("plotext")

    plotext.clear_figure()
    plotext.plot_size(WIDTH, HEIGHT)
    for xs, ys in data:
        plotext.plot(xs, ys, marker="braille")
    return str(plotext.build())


async def textual_plotext_plot(data: list[tuple[list[float], list[float]]]) -> tuple[float, float]:
    """A repaint of textual-plotext's widget, where it is installed."""
    library = importlib.import_module("textual_plotext")
    widget = library.PlotextPlot()
    async with OneWidget(widget).run_test(size=(WIDTH, HEIGHT)) as pilot:
        await pilot.pause()
        for xs, ys in data:
            widget.plt.plot(xs, ys, marker="braille")

        def paint() -> None:
            widget.refresh()
            widget._render()

        return timed(paint, 1)


async def textual_plot_plot(data: list[tuple[list[float], list[float]]]) -> tuple[float, float]:
    """A repaint of textual-plot's widget, where it is installed."""
    library = importlib.import_module("textual_plot")
    numpy = importlib.import_module("numpy")
    widget = library.PlotWidget()
    async with OneWidget(widget).run_test(size=(WIDTH, HEIGHT)) as pilot:
        await pilot.pause()
        for xs, ys in data:
            widget.plot(numpy.array(xs), numpy.array(ys), hires_mode=library.HiResMode.BRAILLE)
        return timed(widget._render_plot, 1)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    for count in arguments.points:
        print(f"\n{SERIES} series x {count:,} points on {WIDTH}x{HEIGHT} cells")
        results = asyncio.run(measure(count, arguments.repeats))
        ours = results["repaint, everything anew"][0]
        for name, (median, best) in results.items():
            ratio = f"{median / ours:8.1f}x" if "plot" in name else ""
            print(f"  {name:<40} {median:10.2f} ms  (best {best:.2f})  {ratio}")
    print("\ntargets at 1,000,000 points: repaint < 16 ms, one more point < 2 ms")


if __name__ == "__main__":
    main()
