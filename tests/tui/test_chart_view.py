from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.charts.ticks import linear_ticks, log_ticks, nice_step, short_number, tick_labels
from tui.charts.view import XWindow, YRange, robust_range


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 12), st.booleans())
def test_linear_ticks_are_few_round_and_inside(lo: float, span: float, count: int, whole: bool) -> None:
    hi = lo + span
    ticks = linear_ticks(lo, hi, count, whole=whole)
    assert len(ticks) <= count + 1
    assert ticks == sorted(ticks)
    slack = span * 1e-6 + 2 * math.ulp(max(abs(lo), abs(hi)))  # finer than that no number is
    assert all(lo - slack <= tick <= hi + slack for tick in ticks)
    if whole:
        assert all(tick == int(tick) for tick in ticks)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("lo", "hi", "count", "labels"),
    [
        (0, 1, 5, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0, 3000, 6, ["0", "500", "1000", "1500", "2000", "2500", "3000"]),
        (0, 1_000_000, 4, ["0", "0.25M", "0.50M", "0.75M", "1.00M"]),
        (0, 50_000, 5, ["0", "10k", "20k", "30k", "40k", "50k"]),
        (0, 0.0005, 5, ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]),
        (-1, 1, 4, ["-1.0", "-0.5", "0.0", "0.5", "1.0"]),
        (5, 5, 4, ["5"]),
    ],
)
def test_tick_labels(lo: float, hi: float, count: int, labels: list[str]) -> None:
    assert tick_labels(linear_ticks(lo, hi, count)) == labels


def test_no_ticks_for_nonsense() -> None:
    assert linear_ticks(math.nan, 1, 5) == []
    assert linear_ticks(2, 1, 5) == []
    assert log_ticks(-1, 1, 5) == []
    assert tick_labels([]) == []
    assert nice_step(0, 5) == 1.0
    assert nice_step(math.inf, 5) == 1.0


@given(st.floats(1e-9, 1e6), st.floats(1.01, 1e9), st.integers(2, 8))
def test_log_ticks_are_inside(lo: float, ratio: float, count: int) -> None:
    ticks = log_ticks(lo, lo * ratio, count)
    assert all(lo * 0.999 <= tick <= lo * ratio * 1.001 for tick in ticks)
    assert ticks == sorted(ticks)
    assert len(ticks) <= max(5, count + 2)


def test_log_ticks_have_decades() -> None:
    assert log_ticks(0.001, 100, 6) == pytest.approx([0.001, 0.01, 0.1, 1, 10, 100])
    assert log_ticks(0.15, 25, 6) == pytest.approx([0.2, 0.5, 1, 2, 5, 10, 20])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (1.5, "1.5"), (12, "12"), (12500, "12,500"), (1.2e-5, "1.2e-5"), (0, "0"),
     (-0.5, "-0.5"), (math.nan, "not finite"), (1e12, "1e12"), (123.456, "123.5")],
)  # fmt: skip
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


# -- the window over x ------------------------------------------------------------------------------


def test_it_fits_everything_and_its_edge_moves_in_steps() -> None:
    window = XWindow()
    assert window.bounds(5, 5) == (4.5, 5.5)
    edges = {window.bounds(0, last)[1] for last in range(1000, 1100)}
    assert len(edges) <= 4
    assert all(window.bounds(0, last)[1] >= last for last in range(1, 2000))


def test_zooming_at_the_live_edge_keeps_following() -> None:
    window = XWindow()
    window.zoom(0.5, None, 0, 1000)
    assert window.live
    x0, x1 = window.bounds(0, 1000)
    assert x1 >= 1000
    assert x1 - x0 == pytest.approx(500)
    assert window.bounds(0, 2000)[1] >= 2000


def test_zooming_round_a_place_keeps_it_there() -> None:
    window = XWindow()
    window.zoom(0.5, 300, 0, 1000)
    x0, x1 = window.bounds(0, 1000)
    assert (300 - x0) / (x1 - x0) == pytest.approx(0.3)
    assert not window.live
    for _ in range(5):
        window.zoom(2, 300, 0, 1000)
    assert window.bounds(0, 1000) == XWindow().bounds(0, 1000)


def test_zooming_has_an_end() -> None:
    window = XWindow()
    for _ in range(200):
        window.zoom(0.5, 500, 0, 1000)
    x0, x1 = window.bounds(0, 1000)
    assert x1 > x0


def test_panning_lets_go_and_the_right_end_follows_again() -> None:
    window = XWindow()
    window.pan(-100, 0, 1000)
    assert window.live  # everything is visible: nothing to pan
    window.zoom(0.25, None, 0, 1000)
    window.pan(-100, 0, 1000)
    assert not window.live
    held = window.bounds(0, 1000)
    assert window.bounds(0, 5000) == held
    window.pan(-5000, 0, 1000)
    assert window.bounds(0, 1000)[0] == 0
    window.pan(5000, 0, 1000)
    assert window.live


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("zoom"), st.floats(0.1, 10), st.one_of(st.none(), st.floats(-50, 1200))),
            st.tuples(st.just("pan"), st.floats(-2000, 2000), st.none()),
        ),
        max_size=20,
    )
)
def test_the_window_never_leaves_the_data(moves: list[tuple[str, float, float | None]]) -> None:
    window = XWindow()
    for kind, amount, around in moves:
        if kind == "zoom":
            window.zoom(amount, around, 0, 1000)
        else:
            window.pan(amount, 0, 1000)
        x0, x1 = window.bounds(0, 1000)
        assert x0 < x1
        assert x1 - x0 <= 1100
        assert x0 < 1000
        assert x1 > 0


# -- the range of y ---------------------------------------------------------------------------------


def test_one_huge_first_value_does_not_flatten_the_curve() -> None:
    lows = highs = [500.0] + [1 + 0.01 * i for i in range(50)]
    clipped = robust_range(lows, highs, clip=True)
    assert clipped is not None
    assert clipped[1] < 2
    assert robust_range(lows, highs, clip=False) == (1.0, 500.0)


def test_an_ordinary_curve_is_never_cut() -> None:
    curve = [math.exp(-i / 30) for i in range(200)]
    assert robust_range(curve, curve, clip=True) == (min(curve), max(curve))
    assert robust_range([], [], clip=True) is None
    assert robust_range([3.0], [3.0], clip=True) == (3.0, 3.0)


def test_the_range_keeps_still_while_it_fits() -> None:
    y = YRange()
    first = y.update(0.0, 1.0, log=False)
    assert y.update(0.05, 0.95, log=False) == first
    wider = y.update(0.0, 1.5, log=False)
    assert wider[1] >= 1.5
    assert y.update(0.0, 0.3, log=False)[1] < 1
    assert y.update(2.0, 2.0, log=False)[0] < 2 < y.bounds[1]


@given(st.floats(1e-6, 1e6), st.floats(1, 1e6), st.booleans())
def test_the_range_holds_the_values(lo: float, ratio: float, log: bool) -> None:
    y = YRange()
    bottom, top = y.update(lo, lo * ratio, log=log)
    assert bottom < top
    assert bottom <= lo * (1 + 1e-9)
    assert top >= lo * ratio * (1 - 1e-9)
    assert bottom >= 0
