"""Composes a whole chart, axes and all, into rows of styled text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len, set_cell_size

from tui.charts.raster import DOTS_X, DOTS_Y, Canvas, Columns, Ints, braille, to_rows
from tui.charts.ticks import linear_ticks, log_ticks, tick_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

Run = tuple[str, str]
"""Text and the name of its style."""

_RAW, _LINE = 0, 100  # owners of canvas cells: raw lines, lines on top, and the rest
_GRID, _MARK, _CURSOR, _MISSING = 200, 201, 202, 203
_NAMES = {
    _GRID: "grid",
    _MARK: "mark-line",
    _CURSOR: "crosshair",
    _MISSING: "missing",
}
COLOURS = 6

MISSING = "\u00d7"  # a multiplication sign
MARK_GLYPHS = {"checkpoint": "◆", "resume": "»", "sample": "▪", "warning": "!", "error": "!"}


@dataclass(frozen=True)
class Mark:
    """A vertical marker.

    Attributes:
        x: Where.
        label: What, for the readout.
        kind: ``checkpoint``, ``resume``, ``sample``, ``warning``, ``error``, or any other word.
    """

    x: float
    label: str
    kind: str

    @property
    def glyph(self) -> str:
        """One cell for the axis."""
        return MARK_GLYPHS.get(self.kind, "▴")


@dataclass(frozen=True)
class Trace:
    """What to draw of one curve.

    Attributes:
        number: Colour, from 0.
        letter: Shown at the line's end.
        raw: The points' extents; None to leave them out.
        smooth: The averages' extents; None to leave them out.
        value: The y that the crosshair points at; None without one.
    """

    number: int
    letter: str
    raw: Columns | None
    smooth: Columns | None
    value: float | None = None


@dataclass(frozen=True)
class Layout:
    """Where the parts of a chart of a given size lie, in cells.

    Attributes:
        header: Rows for legend or readout.
        gutter: Cells for the labels and the line of the y axis.
        width: Cells of the plot.
        height: Rows of the plot.
        axis: Rows for the x axis's line.
        labels: Rows for the x axis's labels.
    """

    header: int
    gutter: int
    width: int
    height: int
    axis: int
    labels: int


def lay_out(width: int, height: int, label_width: int) -> Layout:
    """Divide a chart; the smaller it is, the less stands beside the curve."""
    header = int(height >= 3)
    labels = int(height >= 5)
    axis = int(height >= 8)
    gutter = label_width + 1 if width >= label_width + 13 else 0
    return Layout(
        header, gutter, max(1, width - gutter), max(1, height - header - labels - axis), axis, labels
    )


@dataclass(frozen=True)
class Scene:
    """All that a chart shows at one moment.

    Attributes:
        width: Cells.
        height: Rows.
        x: Left and right edge.
        y: Bottom and top.
        log: Whether y is logarithmic.
        traces: From the lowest layer to the highest.
        marks: Vertical markers.
        cursor: The crosshair's x.
        header: Legend or readout, from the left.
        state: What else to say, at the header's right end; given up first when there is no room.
        x_label: What x is.
        least_label: Cells that the labels of y get at least.
    """

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool = False
    traces: Sequence[Trace] = ()
    marks: Sequence[Mark] = ()
    cursor: float | None = None
    header: Sequence[Run] = ()
    state: Sequence[str] = ()
    x_label: str = ""
    least_label: int = 1
    y_ticks: list[float] = field(init=False)
    y_labels: list[str] = field(init=False)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        rows = max(1, self.height - 3)
        count = max(2, min(8, rows // 3))
        ticks = log_ticks(*self.y, count) if self.log else linear_ticks(*self.y, count)
        labels = tick_labels(ticks)
        object.__setattr__(self, "y_ticks", ticks)
        object.__setattr__(self, "y_labels", labels)
        widest = max([self.least_label, *map(len, labels)])
        object.__setattr__(self, "layout", lay_out(self.width, self.height, widest))

    # -- places -------------------------------------------------------------------------------------

    def column(self, x: float) -> int:
        """The plot's cell column that holds ``x``; may lie outside."""
        x0, x1 = self.x
        column = (x - x0) / (x1 - x0) * self.layout.width
        if column == self.layout.width:  # the right edge belongs to the last column
            return self.layout.width - 1
        return math.floor(min(max(column, -1e6), 1e6))

    def row(self, y: float) -> int:
        """The plot's cell row that holds ``y``; may lie outside."""
        bottom, top = self.y
        if self.log:
            if y <= 0:
                return self.layout.height
            y, bottom, top = math.log10(y), math.log10(bottom), math.log10(top)
        rows = self.layout.height * DOTS_Y
        row = (top - y) / ((top - bottom) or 1.0) * rows
        row = min(row, rows - 1) if y >= bottom else row
        return math.floor(min(max(row, -1e6), 1e6)) // DOTS_Y

    # -- painting -----------------------------------------------------------------------------------

    def paint(self) -> list[list[Run]]:
        """The chart as ``height`` rows of runs, each ``width`` cells wide."""
        canvas = self._plot()
        rows: list[list[Run]] = []
        if self.layout.header:
            rows.append(fit_runs(self.header, self.state, self.width))
        gutters = self._gutters() if self.layout.gutter else []
        for row, runs in enumerate(canvas.runs()):
            rows.append(gutters[row : row + 1] + [(text, _style_name(owner)) for text, owner in runs])
        if self.layout.axis:
            rows.append(self._axis())
        if self.layout.labels:
            rows.append(self._x_labels())
        return rows[: self.height]

    def _plot(self) -> Canvas:
        layout = self.layout
        canvas = Canvas(layout.width, layout.height)
        # Raw lines first, then those on top of them; a trace without averages has only the latter.
        layers = [(trace, trace.raw, trace.smooth is None) for trace in self.traces if trace.raw is not None]
        layers += [(trace, trace.smooth, True) for trace in self.traces if trace.smooth is not None]
        flags: dict[str, NDArray[np.bool_]] = {}
        if layers:
            columns = Columns.stack([layer[1] for layer in layers])
            spans = to_rows(columns, *self.y, layout.height * DOTS_Y, log=self.log)
            for (trace, _, bright), cells in zip(layers, braille(spans, layout.height), strict=True):
                canvas.draw(cells, trace.number + (_LINE if bright else _RAW))
            flags = {"above": spans.above, "below": spans.below, "missing": columns.missing > 0}
        for tick in self.y_ticks:
            row = self.row(tick)
            if 0 <= row < layout.height:
                free = canvas.owners[row] < 0
                canvas.characters[row][free] = ord("┈")
                canvas.owners[row][free] = _GRID
        self._put_marks(canvas)
        if len(self.traces) > 1:
            for index, (trace, _, bright) in enumerate(layers):
                if bright:
                    _put_letter(canvas, trace, spans.top[index], spans.bottom[index])
        for name, character, row in (
            ("above", "▴", 0),
            ("below", "▾", layout.height - 1),
            ("missing", MISSING, 0),
        ):
            if name in flags and flags[name].any():
                cells_marked = flags[name].any(axis=0).reshape(-1, DOTS_X).any(axis=1)
                for column in np.flatnonzero(cells_marked).tolist():
                    canvas.put(column, row, character, _MISSING)
        self._put_cursor(canvas)
        return canvas

    def _put_marks(self, canvas: Canvas) -> None:
        columns = {self.column(mark.x) for mark in self.marks}
        if len(columns) > self.layout.width // 4:
            return  # a fence of lines says nothing; the axis still has the glyphs
        for column in columns:
            if 0 <= column < canvas.width:
                free = (canvas.owners[:, column] < 0) | (canvas.owners[:, column] == _GRID)
                canvas.characters[free, column] = ord("┊")
                canvas.owners[free, column] = _MARK

    def _put_cursor(self, canvas: Canvas) -> None:
        if self.cursor is None:
            return
        column = self.column(self.cursor)
        if not 0 <= column < canvas.width:
            return
        free = (canvas.owners[:, column] < 0) | (canvas.owners[:, column] >= _GRID)
        canvas.characters[free, column] = ord("│")
        canvas.owners[free, column] = _CURSOR
        for trace in self.traces:
            if trace.value is not None and np.isfinite(trace.value):
                canvas.put(column, self.row(trace.value), "●", trace.number + _LINE)

    def _gutters(self) -> list[Run]:
        width = self.layout.gutter - 1
        texts = [" " * width + "│"] * self.layout.height
        for tick, label in zip(self.y_ticks, self.y_labels, strict=True):
            row = self.row(tick)
            if 0 <= row < self.layout.height:
                texts[row] = f"{label:>{width}}┤"
        return [(text, "axis") for text in texts]

    def _x_ticks(self) -> list[tuple[int, str]]:
        x0, x1 = self.x
        whole = float(x0).is_integer() or x1 - x0 > 4
        ticks = linear_ticks(x0, x1, max(2, self.layout.width // 11), whole=whole)
        return [
            (column, label)
            for tick, label in zip(ticks, tick_labels(ticks), strict=True)
            if 0 <= (column := self.column(tick)) < self.layout.width
        ]

    def _axis(self) -> list[Run]:
        line = ["─"] * self.layout.width
        for column, _ in self._x_ticks():
            line[column] = "┬"
        glyphs = {}
        for mark in self.marks:
            if 0 <= (column := self.column(mark.x)) < self.layout.width:
                glyphs[column] = mark.glyph
        runs: list[Run] = [(" " * (self.layout.gutter - 1) + "└", "axis")] if self.layout.gutter else []
        start = 0
        for column in sorted(glyphs):
            if column > start:
                runs.append(("".join(line[start:column]), "axis"))
            runs.append((glyphs[column], "mark"))
            start = column + 1
        if start < len(line):
            runs.append(("".join(line[start:]), "axis"))
        return runs

    def _x_labels(self) -> list[Run]:
        width, gutter = self.layout.width, self.layout.gutter
        line = [" "] * (width + gutter)
        name = set_cell_size(self.x_label, min(cell_len(self.x_label), width // 4))
        name = name if name.isascii() else ""
        limit = len(line) - (len(name) + 1 if name else 0)
        line[len(line) - len(name) :] = name
        end = -1
        for column, label in self._x_ticks():
            start = max(0, min(gutter + column - len(label) // 2, limit - len(label)))
            if start > end and start + len(label) <= limit and abs(start - gutter - column) <= len(label):
                line[start : start + len(label)] = label
                end = start + len(label)
        return [("".join(line), "axis")]


def _put_letter(canvas: Canvas, trace: Trace, top: Ints, bottom: Ints) -> None:
    """The letter of a curve at its end, so that it is known without colour."""
    columns = np.flatnonzero(top <= bottom)
    if len(columns):
        last = int(columns[-1])
        row = int(top[last] + bottom[last]) // 2 // DOTS_Y
        canvas.put(last // DOTS_X, row, trace.letter, trace.number + _LINE)


@cache
def _style_name(owner: int) -> str:
    if owner < 0:
        return ""
    if owner >= _GRID:
        return _NAMES[owner]
    kind, number = ("series", owner - _LINE) if owner >= _LINE else ("raw", owner)
    return f"{kind}-{number % COLOURS + 1}"


def fit_runs(left: Sequence[Run], right: Sequence[str], width: int) -> list[Run]:
    """One row of exactly ``width`` cells: ``left``, a space between, ``right`` as far as it fits.

    Args:
        left: From the left edge; cut where there is no room.
        right: Words for the right edge; the first ones are given up first.
        width: Cells.
    """
    left_width = sum(cell_len(text) for text, _ in left)
    kept = list(right)
    while kept and left_width + 2 + cell_len(" · ".join(kept)) > width:
        kept.pop(0)
    state = " · ".join(kept)
    room = width - cell_len(state)
    row: list[Run] = []
    for text, style in left:
        size = min(cell_len(text), room)
        if size > 0:
            row.append((set_cell_size(text, size), style))
            room -= size
    if room > 0:
        row.append((" " * room, ""))
    return [*row, (state, "state")] if state else row
