from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui.charts.curve import Curve
from tui.charts.ema import EmaState, extend_ema
from tui.charts.series import Series

_VALUE = st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.just(math.inf))


def _ema(values: list[float], weight: float) -> list[float]:
    mean, count, out = 0.0, 0, []
    for value in values:
        if math.isfinite(value):
            mean = weight * mean + (1 - weight) * value
            count += 1
            out.append(mean / (1 - weight**count))
        else:
            out.append(math.nan)
    return out


def _points(series: Series) -> list[tuple[float, float]]:
    return list(zip(series.x.tolist(), series.y.tolist(), strict=True))


@given(
    st.lists(_VALUE, max_size=300),
    st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999]),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_the_average_is_the_definition_however_it_is_fed(
    values: list[float], weight: float, cuts: list[int]
) -> None:
    state = EmaState()
    places = sorted({min(cut, len(values)) for cut in cuts} | {0, len(values)})
    parts = [
        extend_ema(np.array(values[a:b], dtype=float), weight, state) for a, b in itertools.pairwise(places)
    ]
    got = np.concatenate([*parts, np.empty(0)])
    np.testing.assert_allclose(got, _ema(values, weight), rtol=1e-9, atol=1e-9)


def test_the_average_over_many_blocks() -> None:
    values = np.random.default_rng(0).normal(size=30_000) + 5
    for weight in (0.5, 0.9, 0.999):
        np.testing.assert_allclose(extend_ema(values, weight, EmaState()), _ema(values.tolist(), weight))


def test_a_constant_stays_what_it_is() -> None:
    series = Series(0.99)
    series.extend(range(1000), [7.0] * 1000)
    np.testing.assert_allclose(series.smooth, 7.0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), _VALUE), max_size=80),
    st.lists(st.integers(0, 80), max_size=5),
    st.sampled_from([0.0, 0.9]),
)
def test_rewinds_replace_what_was_there_however_it_is_fed(
    points: list[tuple[int, float]], cuts: list[int], weight: float
) -> None:
    expected: list[tuple[float, float]] = []
    for x, y in points:
        while expected and expected[-1][0] >= x:
            expected.pop()
        expected.append((x, y if math.isfinite(y) else math.nan))
    series = Series(weight)
    places = sorted({min(cut, len(points)) for cut in cuts} | {0, len(points)})
    for a, b in itertools.pairwise(places):
        series.extend([x for x, _ in points[a:b]], [y for _, y in points[a:b]])
    np.testing.assert_array_equal(series.x, [x for x, _ in expected])
    np.testing.assert_array_equal(series.y, [y for _, y in expected])
    np.testing.assert_array_equal(series.gaps, [i for i, (_, y) in enumerate(expected) if math.isnan(y)])
    np.testing.assert_allclose(series.smooth, _ema([y for _, y in expected], weight), rtol=1e-6, atol=1e-6)
    assert all(y >= series.lowest for _, y in expected if not math.isnan(y))


def test_truncating_and_going_on_equals_never_having_gone_there() -> None:
    series, straight = Series(0.9), Series(0.9)
    ys = np.sin(np.arange(100.0))
    series.extend(range(100), ys)
    epoch = series.epoch
    series.truncate_after(49)
    assert len(series) == 50
    assert series.epoch > epoch
    series.truncate_after(1000)
    assert len(series) == 50
    series.extend(range(50, 80), ys[50:80])
    straight.extend(range(80), ys[:80])
    np.testing.assert_allclose(series.smooth, straight.smooth)
    series.truncate_after(-1)
    assert len(series) == 0
    series.append(1, 5)
    assert series.smooth.tolist() == [5]


def test_a_point_without_a_place_is_left_out() -> None:
    series = Series()
    series.extend([1, math.nan, 2, math.inf], [1, 2, 3, 4])
    assert _points(series) == [(1, 1), (2, 3)]
    with pytest.raises(ValueError, match="as many y as x"):
        series.extend([1, 2], [1])


def test_appending_grows_without_copying_each_time() -> None:
    series = Series()
    buffers = set()
    for index in range(5000):
        series.append(index, index)
        buffers.add(id(series._columns))
    assert len(buffers) <= 4
    assert len(series) == 5000


def test_the_limit_thins_old_points_and_keeps_extremes() -> None:
    series = Series(0.5, limit=1000)
    ys = np.random.default_rng(1).normal(size=20_000)
    ys[123], ys[7777], ys[555] = 99.0, -99.0, math.nan
    for start in range(0, 20_000, 100):
        series.extend(range(start, start + 100), ys[start : start + 100])
        assert len(series) <= 1000
    assert np.nanmax(series.y) == 99.0
    assert np.nanmin(series.y) == -99.0
    assert (np.diff(series.x) > 0).all()
    assert series.x[-1] == 19_999
    np.testing.assert_allclose(series.smooth[-50:], _ema(ys.tolist(), 0.5)[-50:])


def test_another_weight_computes_the_averages_anew() -> None:
    series = Series(0.9)
    series.extend(range(100), np.arange(100.0))
    series.weight = 0.5
    np.testing.assert_allclose(series.smooth, _ema(list(map(float, range(100))), 0.5))
    series.append(100, 3)
    np.testing.assert_allclose(series.smooth[-1], _ema([*map(float, range(100)), 3.0], 0.5)[-1])


def test_nearest() -> None:
    series = Series()
    assert series.nearest(1) is None
    series.extend([0, 10, 20], [1, 2, 3])
    assert [series.nearest(x) for x in (-5, 4, 6, 19, 99)] == [0, 0, 1, 2, 2]


def test_a_curve_waits_with_its_points() -> None:
    changes = []
    curve = Curve("loss", "the\x1b loss\n", 27, smooth=True, changed=lambda: changes.append(1))
    assert (curve.label, curve.letter) == ("the loss", "b")
    curve.append(1, 2)
    curve.extend([2, 3], [4, 5])
    assert curve.points is None
    assert curve.pending == 3
    curve.truncate_after(2)
    curve.load(0.9)
    assert curve.points is not None
    assert curve.points.x.tolist() == [1, 2]
    assert curve.pending == 0
    curve.truncate_after(1)
    assert curve.points.x.tolist() == [1]
    with pytest.raises(ValueError, match="as many y as x"):
        curve.extend([1], [])
    curve.clear()
    assert curve.points is None
    assert len(changes) == 5
