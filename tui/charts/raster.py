"""From points to braille: what a curve covers in each dot column, and the cells that show it.

A terminal cell is 2 x 4 braille dots, so a chart has twice as many dot columns as cells. A curve is
reduced to the lowest and highest value in each dot column: exact at that resolution, no point is lost
to sampling (the idea of M4, Jugel et al., VLDB 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tui.charts.ema import Floats

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Numbers = TypeVar("Numbers", bound=NDArray[np.generic])

DOTS_X = 2
DOTS_Y = 4
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_COVERED = [  # by dot column of the cell, then by `first * 5 + after`
    np.array(
        [sum(_BITS[row][column] for row in range(first, after)) for first in range(5) for after in range(5)],
        dtype=np.uint8,
    )
    for column in range(DOTS_X)
]
_BRAILLE = 0x2800
_FAR = 1 << 20  # dot rows beyond which a value is simply far outside


@dataclass(repr=False)  # arrays make no readable one
class Columns:
    """What a curve covers in each dot column.

    Arrays may have leading axes, to hold many curves (:meth:`stack`).

    Attributes:
        lo: Lowest value, shape ``(columns,)``; NaN where the curve is not.
        hi: Highest value; NaN where ``lo`` is.
        joined: Whether the curve runs on from the column before, without a gap.
        missing: How many points of the column cannot be shown: not finite, or not positive on a log axis.
        sampled: Whether there is a point in the column; if not, its value was interpolated.
    """

    lo: Floats
    hi: Floats
    joined: Bools
    missing: Ints
    sampled: Bools

    @staticmethod
    def stack(curves: Sequence[Columns]) -> Columns:
        """Several curves over the same columns as one, along a new first axis."""
        return Columns(*(np.stack([getattr(curve, f.name) for curve in curves]) for f in fields(Columns)))


def column_edges(x0: float, x1: float, columns: int) -> Floats:
    """The x at the edges of ``columns`` equal dot columns from ``x0`` to ``x1``, shape ``(columns + 1,)``."""
    return np.linspace(x0, x1, columns + 1)


def column_extents(
    x: Floats, y: Floats, edges: Floats, gaps: Ints, *, log: bool = False, lowest: float = float("-inf")
) -> Columns:
    """The exact extents of a curve in each dot column.

    A point lies in the column whose left edge is at or before it (the last column has its right edge
    too). A column without points gets the value of the straight line between its neighbours.

    Args:
        x: Strictly increasing, shape ``(n,)``.
        y: Shape ``(n,)``, NaN where there is a gap.
        edges: Shape ``(columns + 1,)``, from :func:`column_edges`.
        gaps: The indices of the NaN in ``y``.
        log: Whether the axis is logarithmic: values that are not positive are gaps too.
        lowest: A lower bound of the finite values, which saves looking for such values.
    """
    count = len(edges) - 1
    first = np.searchsorted(x, edges)
    first[-1] = np.searchsorted(x, edges[-1], side="right")
    if log and lowest <= 0:
        begin = max(0, int(first[0]) - 1)
        window = y[begin : int(first[-1]) + 1]
        with np.errstate(invalid="ignore"):
            hidden = ~(window > 0)
        y = y.copy()
        y[begin : int(first[-1]) + 1][hidden] = np.nan
        gaps = np.flatnonzero(hidden) + begin
    lo, hi = np.full(count, np.nan), np.full(count, np.nan)
    filled = np.flatnonzero(np.diff(first))
    if len(filled):
        seen = y[: first[-1]]
        starts = first[:-1][filled]
        lo[filled] = np.fmin.reduceat(seen, starts)
        hi[filled] = np.fmax.reduceat(seen, starts)
    joined = np.zeros(count, dtype=bool)
    if len(x) > 1:
        # The line crosses a column's left edge between the points on either side of it.
        right = first[:-1]
        crossing = (right > 0) & (right < len(x))
        right = _within(right, 1, len(x) - 1)
        joined = crossing & np.isfinite(y[right - 1]) & np.isfinite(y[right])
        empty = np.flatnonzero((first[1:] == first[:-1]) & joined)
        if len(empty):
            after = first[:-1][empty]
            value = _between(x, y, after, (edges[empty] + edges[empty + 1]) / 2, log=log)
            lo[empty] = value
            hi[empty] = value
    missing = np.diff(np.searchsorted(gaps, first))
    sampled = np.zeros(count, dtype=bool)
    sampled[filled] = True
    return Columns(lo, hi, joined, missing, sampled)


def _within(values: Numbers, low: float, high: float) -> Numbers:
    """``np.clip``, which takes longer for its arguments than for arrays as small as these."""
    clipped: Numbers = np.minimum(np.maximum(values, low), high)
    return clipped


def _between(x: Floats, y: Floats, after: Ints, at: Floats, *, log: bool) -> Floats:
    """The straight line's value at ``at``, between the points before and at the indices ``after``."""
    x_left, x_right = x[after - 1], x[after]
    y_left, y_right = y[after - 1], y[after]
    if log:
        y_left, y_right = np.log(y_left), np.log(y_right)
    share = (at - x_left) / (x_right - x_left)
    value: Floats = y_left + share * (y_right - y_left)
    return np.exp(value) if log else value


class ColumnCache:
    """Keeps the extents of a curve that only grows, and looks at its new points only.

    The view must stay where it is for that, which is why a live chart's right edge moves in steps.
    """

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._count = 0
        self._columns: Columns | None = None

    def get(
        self,
        key: tuple[object, ...],
        x: Floats,
        y: Floats,
        edges: Floats,
        gaps: Ints,
        *,
        log: bool = False,
        lowest: float = float("-inf"),
    ) -> Columns:
        """:func:`column_extents`, from the cache where possible.

        Args:
            key: Equal keys promise that the points seen before, and the edges, are the same.
            x: As there.
            y: As there.
            edges: As there.
            gaps: As there.
            log: As there.
            lowest: As there.
        """
        key = (*key, log, log and lowest <= 0)
        known = self._columns
        if known is None or key != self._key or len(x) < self._count or not self._count:
            known = column_extents(x, y, edges, gaps, log=log, lowest=lowest)
        elif len(x) > self._count:
            # From the column of the last point known on, everything may have changed.
            start = int(np.searchsorted(edges, x[self._count - 1], side="right")) - 1
            start = min(max(0, start), len(edges) - 2)
            part = column_extents(x, y, edges[start:], gaps, log=log, lowest=lowest)
            known.lo[start:], known.hi[start:] = part.lo, part.hi
            known.joined[start:], known.missing[start:] = part.joined, part.missing
            known.sampled[start:] = part.sampled
        self._key, self._count, self._columns = key, len(x), known
        return known


@dataclass(repr=False)
class Spans:
    """The dot rows that a curve covers in each dot column; row 0 is the top.

    Attributes:
        top: First row, shape ``(columns,)``.
        bottom: Last row; above ``top`` (smaller) where nothing is to be drawn.
        above: Whether something lies above the chart.
        below: Whether something lies below the chart.
    """

    top: Ints
    bottom: Ints
    above: Bools
    below: Bools


def to_rows(columns: Columns, y0: float, y1: float, rows: int, *, log: bool = False) -> Spans:
    """Place extents on ``rows`` dot rows between ``y0`` (bottom) and ``y1`` (top), and join neighbours.

    Where a curve runs on from one column to the next, both spans grow until they touch halfway, so
    that a steep line has no holes. Spans only ever grow: every point stays inside its column's span.
    """
    valid = np.isfinite(columns.lo)
    lo, hi = np.where(valid, columns.lo, y0), np.where(valid, columns.hi, y0)
    if log:
        lo, hi, y0, y1 = np.log10(lo), np.log10(hi), float(np.log10(y0)), float(np.log10(y1))
    scale = rows / ((y1 - y0) or 1.0)
    top = np.floor(_within((y1 - hi) * scale, -_FAR, _FAR)).astype(np.int64)
    bottom = np.floor(_within((y1 - lo) * scale, -_FAR, _FAR)).astype(np.int64)
    # The value y0 itself belongs to the last row.
    top = np.where(valid & (hi >= y0) & (top == rows), rows - 1, top)
    bottom = np.where(valid & (lo >= y0) & (bottom == rows), rows - 1, bottom)
    above, below = valid & (top < 0), valid & (bottom >= rows)

    # `left` and `right` are the two sides of each border between neighbouring columns.
    joined = columns.joined[..., 1:] & valid[..., 1:] & valid[..., :-1]
    left_top, right_top = top[..., :-1], top[..., 1:]
    left_bottom, right_bottom = bottom[..., :-1], bottom[..., 1:]
    new_top, new_bottom = top.copy(), bottom.copy()
    falls = joined & (right_top > left_bottom)
    middle = (left_bottom + right_top) // 2
    np.maximum(new_bottom[..., :-1], middle, out=new_bottom[..., :-1], where=falls)
    np.minimum(new_top[..., 1:], middle + 1, out=new_top[..., 1:], where=falls)
    rises = joined & (right_bottom < left_top)
    middle = (right_bottom + left_top) // 2
    np.minimum(new_top[..., :-1], middle + 1, out=new_top[..., :-1], where=rises)
    np.maximum(new_bottom[..., 1:], middle, out=new_bottom[..., 1:], where=rises)

    outside = ~valid | (new_bottom < 0) | (new_top >= rows)
    return Spans(
        np.where(outside, 1, _within(new_top, 0, rows - 1)),
        np.where(outside, 0, _within(new_bottom, 0, rows - 1)),
        above,
        below,
    )


def braille(spans: Spans, height: int) -> NDArray[np.uint8]:
    """The dots of each cell as braille bits, shape ``(..., height, columns / 2)``."""
    # Of each cell row, every dot column covers the dots from `first` up to but not including `after`.
    offsets = (np.arange(height, dtype=np.int32) * DOTS_Y)[:, None]
    first = _within(spans.top.astype(np.int32)[..., None, :] - offsets, 0, DOTS_Y)
    after = _within(spans.bottom.astype(np.int32)[..., None, :] + 1 - offsets, 0, DOTS_Y)
    which = first * (DOTS_Y + 1) + after
    cells: NDArray[np.uint8] = _COVERED[0][which[..., 0::DOTS_X]] | _COVERED[1][which[..., 1::DOTS_X]]
    return cells


class Canvas:
    """A grid of characters, each with one owner: the layer whose colour it takes.

    A later layer hides an earlier one cell by cell; colours never mix.

    Args:
        width: Cells across.
        height: Cells down.

    Attributes:
        characters: Code points, shape ``(height, width)``.
        owners: Layer numbers, -1 where nothing is.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.characters = np.full((height, width), ord(" "), dtype=np.uint32)
        self.owners = np.full((height, width), -1, dtype=np.int16)

    def draw(self, cells: NDArray[np.uint8], owner: int) -> None:
        """Put braille bits of shape ``(height, width)`` on top."""
        covered = cells > 0
        self.characters[covered] = cells[covered].astype(np.uint32) + _BRAILLE
        self.owners[covered] = owner

    def put(self, column: int, row: int, character: str, owner: int, *, under: bool = False) -> None:
        """Put one character, if the cell exists; ``under`` leaves cells that are taken."""
        if 0 <= column < self.width and 0 <= row < self.height:
            if under and self.owners[row, column] >= 0:
                return
            self.characters[row, column] = ord(character)
            self.owners[row, column] = owner

    def runs(self) -> list[list[tuple[str, int]]]:
        """Each row as ``(text, owner)`` pieces from left to right."""
        text = self.characters.astype("<u4").tobytes().decode("utf-32-le")
        cuts: list[list[int]] = [[0] for _ in range(self.height)]
        changes = np.nonzero(self.owners[:, 1:] != self.owners[:, :-1])
        for row, column in zip(changes[0].tolist(), changes[1].tolist(), strict=True):
            cuts[row].append(column + 1)
        rows: list[list[tuple[str, int]]] = []
        for row, owners in enumerate(self.owners.tolist()):
            offset = row * self.width
            cuts[row].append(self.width)
            rows.append([(text[offset + a : offset + b], owners[a]) for a, b in pairwise(cuts[row])])
        return rows
