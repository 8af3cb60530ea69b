"""Rows of numbers: each event's row once, where its number belongs."""

from __future__ import annotations

import random

from tui.runs.numbered_rows import NumberedRows


def test_late_rows_take_their_place_and_known_ones_change_nothing() -> None:
    order = list(range(1, 200))
    random.Random(3).shuffle(order)
    rows = NumberedRows("twice", "square")
    for number in order:
        place = rows.put(number, (2 * number, number * number))
        assert place is not None
        assert rows.value("twice", place) == 2 * number
        assert rows.put(number, (-1, -1)) is None
    assert len(rows) == 199
    assert rows.last == 199
    assert rows.column("twice").tolist() == [2 * number for number in range(1, 200)]
    assert list(rows.rows()) == [(2 * number, number * number) for number in range(1, 200)]


def test_columns_are_cut_as_lists_are() -> None:
    rows, values = NumberedRows("value"), [float(number) for number in range(10, 20)]
    assert rows.column("value", -64).tolist() == []
    assert (rows.last, rows.row_after(5)) == (0, 0)
    for number, value in enumerate(values, 1):
        rows.put(1_000_000 * number, (value,))
    for start, stop in ((0, None), (3, 7), (-4, None), (7, 3), (-64, 2), (5, 99)):
        assert rows.column("value", start, stop).tolist() == values[start:stop]
    assert rows.value("value", -1) == 19
    assert [rows.row_after(n) for n in (0, 1_000_000, 1_000_001, 10_000_000, 99_000_000)] == [0, 1, 1, 10, 10]
