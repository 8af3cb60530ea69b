from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.tui.fakes import escapes
from tui.runs.status import look
from tui.text import age, bar, clip, duration, fit, number, one_line, pace, plural, size
from tui.widgets.key_bar import Key, choose


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (59.4, "59s"), (59.6, "1m 00s"), (750, "12m 30s"), (3599.6, "1h 00m"), (11_100, "3h 05m"),
        (187_200, "2d 4h"), (-5, "0s"), (math.inf, "?"), (math.nan, "?"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-9, "now"), (59, "now"), (60, "1m"), (3600, "1h"), (86_399, "23h"), (1e6, "11d")]
)
def test_age(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.5, "1.5 s/step"), (0.25, "4.0 steps/s"), (0, "?"), (math.nan, "?"), (math.inf, "?")],
)
def test_pace(seconds: float, text: str) -> None:
    assert pace(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"), (12.3456, "12.346"), (0, "0"),
        (1e-4, "1e-4"), (1.5e-4, "1.5e-4"), (123456.0, "1.2e5"),
        (1e10, "1e10"),
        (2.5e-12, "2.5e-12"), (-0.5, "-0.5000"), (math.nan, "nan"), 
        (math.inf, "inf"), (-math.inf, "-inf"), (None, "–"),  # noqa: RUF001
    ],
)  # fmt: skip
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


@given(st.floats(-1e99, 1e99) | st.sampled_from([math.nan, math.inf]) | st.none())
def test_a_number_is_short(value: float | None) -> None:
    assert len(number(value)) <= 9


def test_sizes_and_plurals() -> None:
    assert [size(n) for n in (0, 1023, 1536, 1_288_490_188)] == ["0 B", "1023 B", "1.5 KiB", "1.2 GiB"]
    assert (plural(1, "run"), plural(0, "run")) == ("1 run", "0 runs")


@given(st.text(), st.integers(0, 80))
def test_text_fits_exactly_and_holds_nothing_a_terminal_obeys(text: str, width: int) -> None:
    line = fit(text, width)
    assert cell_len(line) == width
    assert not escapes(line)
    assert "\n" not in line
    assert cell_len(clip(text, width)) <= width
    assert one_line(one_line(text)) == one_line(text)


def test_cut_text_ends_with_a_mark() -> None:
    assert fit("watercolour", 6) == "water…"
    assert clip("short", 10) == "short"


@given(st.floats(allow_nan=True), st.integers(-3, 60))
def test_a_bar_is_as_wide_as_asked(fraction: float, width: int) -> None:
    done, rest = bar(fraction, width)
    assert len(done) + len(rest) == max(0, width)


def test_a_bar_shows_half_cells_and_both_ends() -> None:
    assert bar(0, 4) == ("", "────")
    assert bar(1, 4) == ("━━━━", "")
    assert bar(0.5, 5) == ("━━╸", "──")


def test_states_differ_without_colour() -> None:
    states = ("queued", "starting", "training", "stopping", "stopped", "finished", "failed", "interrupted")
    assert len({look(status).glyph for status in states}) == len(states)
    assert all(cell_len(look(status).glyph) == 1 for status in (*states, "of-a-newer-version"))


def key(name: str, text: str) -> Key:
    return Key(name, "x", "x", text, True)


def test_the_key_bar_keeps_help_then_quit_then_jump() -> None:
    keys = [
        key("a", "one"),
        key("b", "two"),
        key("app.jump", "Jump"),
        key("app.help", "Help"),
        key("app.quit", "Quit"),
    ]
    assert choose(keys, 200) == keys
    names = [[k.id for k in choose(keys, width)] for width in (6, 14, 22, 29)]
    assert names == [
        ["app.help"],
        ["app.help", "app.quit"],
        ["app.jump", "app.help", "app.quit"],
        ["a", "app.jump", "app.help", "app.quit"],
    ]
    assert choose(keys, 0) == []


def test_keys_that_do_nothing_now_are_the_first_to_go() -> None:
    keys = [Key("a", "a", "a", "Alpha", False), Key("b", "b", "b", "Beta", True)]
    assert [key.id for key in choose(keys, 8)] == ["b"]
    assert [key.id for key in choose(keys, 80)] == ["a", "b"]
