from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tui.charts.raster import (
    Canvas,
    ColumnCache,
    Columns,
    braille,
    column_edges,
    column_extents,
    to_rows,
)

_YS = st.lists(st.one_of(st.floats(-100, 100), st.just(math.nan)), min_size=1, max_size=120)


def _data(ys: list[float], step: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = np.array(ys, dtype=float)
    return np.arange(len(ys)) * step, y, np.flatnonzero(np.isnan(y))


@settings(deadline=None)
@given(_YS, st.integers(1, 60), st.floats(-20, 150), st.floats(0.1, 200), st.booleans())
def test_every_point_lies_inside_its_columns_extent(
    ys: list[float], columns: int, x0: float, span: float, log: bool
) -> None:
    x, y, gaps = _data(ys)
    edges = column_edges(x0, x0 + span, columns)
    found = column_extents(x, y, edges, gaps, log=log)
    missing = 0
    for px, py in zip(x, y, strict=True):
        if not edges[0] <= px <= edges[-1]:
            continue
        column = min(int(np.searchsorted(edges, px, side="right")) - 1, columns - 1)
        if math.isnan(py) or (log and py <= 0):
            missing += 1
            assert found.missing[column] >= 1
        else:
            assert found.lo[column] <= py <= found.hi[column]
    assert found.missing.sum() == missing
    # Nothing is made up: all values lie within those of the data.
    valid = y[np.isfinite(y) & ((y > 0) | (not log))]
    for value in (*found.lo[np.isfinite(found.lo)], *found.hi[np.isfinite(found.hi)]):
        assert valid.min() - 1e-6 <= value <= valid.max() + 1e-6


@settings(deadline=None)
@given(_YS, st.integers(1, 40), st.integers(1, 60), st.floats(-50, 50), st.floats(0.5, 100))
def test_every_point_that_is_in_range_has_its_dot(
    ys: list[float], columns: int, rows: int, y0: float, span: float
) -> None:
    x, y, gaps = _data(ys)
    edges = column_edges(0, len(ys), columns)
    spans = to_rows(column_extents(x, y, edges, gaps), y0, y0 + span, rows)
    drawn = spans.top <= spans.bottom
    assert (spans.top[drawn] >= 0).all()
    assert (spans.bottom[drawn] < rows).all()
    for px, py in zip(x, y, strict=True):
        column = min(int(np.searchsorted(edges, px, side="right")) - 1, columns - 1)
        if math.isnan(py):
            continue
        if y0 <= py <= y0 + span:
            row = min(math.floor((y0 + span - py) * (rows / span)), rows - 1)
            assert spans.top[column] <= row <= spans.bottom[column]
        else:
            # (A value that rounds into the edge row is drawn there.)
            assert spans.above[column] or spans.below[column] or drawn[column]


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40), st.integers(1, 50), st.integers(4, 60))
def test_a_curve_without_gaps_has_no_holes(ys: list[float], columns: int, rows: int) -> None:
    x, y, gaps = _data(ys, step=3.7)
    edges = column_edges(x[0], x[-1], columns)
    spans = to_rows(column_extents(x, y, edges, gaps), -100, 100, rows)
    assert (spans.top <= spans.bottom).all()
    assert (spans.top[1:] <= spans.bottom[:-1] + 1).all()
    assert (spans.bottom[1:] >= spans.top[:-1] - 1).all()


def test_a_gap_is_not_bridged() -> None:
    x, y, gaps = _data([1, 1, math.nan, 1, 1], step=10)
    found = column_extents(x, y, column_edges(0, 40, 40), gaps)
    drawn = np.isfinite(found.lo)
    assert drawn[:11].all()
    assert not drawn[11:30].any()
    assert drawn[30:].all()
    assert found.missing.tolist() == [int(column == 20) for column in range(40)]


def test_a_line_between_far_points_crosses_a_narrow_window() -> None:
    x, y, gaps = _data([0, 100], step=100)
    found = column_extents(x, y, column_edges(40, 60, 20), gaps)
    np.testing.assert_allclose(found.lo, np.arange(40.5, 60.5))
    logged = column_extents(x, y + 1, column_edges(40, 60, 20), gaps, log=True, lowest=1)
    np.testing.assert_allclose(np.log(logged.lo), np.arange(40.5, 60.5) / 100 * math.log(101))


def test_one_spike_among_a_million_is_drawn() -> None:
    y = np.zeros(1_000_000)
    y[654_321] = 1.0
    x = np.arange(1_000_000.0)
    found = column_extents(x, y, column_edges(0, 1_000_000, 200), np.empty(0, dtype=np.int64))
    assert found.hi[130] == 1.0
    assert (found.hi == 1).sum() == 1


@settings(deadline=None)
@given(_YS, st.integers(1, 30), st.lists(st.integers(1, 120), max_size=6), st.booleans())
def test_the_cache_equals_a_fresh_look(ys: list[float], columns: int, counts: list[int], log: bool) -> None:
    x, y, gaps = _data(ys)
    edges = column_edges(0, 100, columns)
    cache = ColumnCache()
    for count in sorted({min(count, len(ys)) for count in counts} | {len(ys)}):
        part = gaps[: np.searchsorted(gaps, count)]
        lowest = np.nanmin(y[:count]) if np.isfinite(y[:count]).any() else math.inf
        got = cache.get(("key",), x[:count], y[:count], edges, part, log=log, lowest=lowest)
        fresh = column_extents(x[:count], y[:count], edges, part, log=log, lowest=lowest)
        for name in ("lo", "hi", "joined", "missing", "sampled"):
            np.testing.assert_array_equal(getattr(got, name), getattr(fresh, name), name)


def test_the_cache_notices_another_key() -> None:
    x, y, gaps = _data([1.0, 2.0, 3.0])
    edges = column_edges(0, 2, 2)
    cache = ColumnCache()
    cache.get((1,), x, y, edges, gaps)
    assert cache.get((2,), x, y * 10, edges, gaps).hi[-1] == 30


def test_braille_dots() -> None:
    nothing = np.zeros(4, dtype=bool)
    lo, hi = np.array([0.0, 3.0, np.nan, 0.0]), np.array([0.0, 3.0, np.nan, 4.0])
    columns = Columns(lo, hi, nothing, nothing.astype(int), ~nothing)
    cells = braille(to_rows(columns, 0, 4, 4), 1)
    text = "".join(chr(0x2800 + int(cell)) for cell in cells[0])
    assert text == chr(0x2800 + 0x40 + 0x10) + chr(0x2800 + 0x08 + 0x10 + 0x20 + 0x80)


def test_layers_hide_each_other_and_never_mix() -> None:
    canvas = Canvas(3, 1)
    canvas.draw(np.array([[0x01, 0x02, 0x00]], dtype=np.uint8), 1)
    canvas.draw(np.array([[0x00, 0x40, 0x00]], dtype=np.uint8), 2)
    canvas.put(2, 0, "x", 3)
    canvas.put(0, 0, "y", 4, under=True)
    canvas.put(99, 0, "z", 5)
    canvas.put(0, -1, "z", 5)
    assert canvas.runs() == [[("\u2801", 1), ("\u2840", 2), ("x", 3)]]
