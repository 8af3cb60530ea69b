"""Between one adapter on a BFL layer and the adapters on the diffusers layers that are its rows.

Several adapters become one by stacking: their ``A`` one below the other, their ``B`` as blocks on a
diagonal, ranks added up. It is exact, and so is the way back: the blocks are cut out again. An ``up``
matrix that is not made of blocks, as kohya's trainer makes them, is cut into rows; every part then
keeps the whole ``down``. (By behaviour as kohya's ``networks/convert_flux_lora.py``, which however
needs all parts present and of one rank.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from backend.lora.number_formats import Bits, NumberFormat, is_nonzero

# For each part the columns of ``up`` (rows of ``down``) that are its own, or None if it has no adapter.
Cut = tuple[tuple[int, int] | None, ...]


def plan_stack(downs: Sequence[Bits | None]) -> Cut:
    """Where the parts' adapters go: one after the other, or all in one place if their ``A`` are the same.

    Args:
        downs: ``A`` [rank, in] of each part, None where there is no adapter.
    """
    present = [down for down in downs if down is not None]
    if len(present) > 1 and all(np.array_equal(present[0], down) for down in present[1:]):
        return tuple(None if down is None else (0, len(down)) for down in downs)
    ends = list(itertools.accumulate((0 if down is None else len(down)) for down in downs))
    return tuple(
        None if down is None else (end - len(down), end) for down, end in zip(downs, ends, strict=True)
    )


def stack_down(downs: Sequence[Bits | None], cut: Cut) -> Bits:
    """The parts' ``A`` as one, [sum of ranks, in]."""
    pieces: dict[tuple[int, int], Bits] = {}
    for down, place in zip(downs, cut, strict=True):
        if down is not None and place is not None:
            pieces[place] = down
    return np.concatenate(list(pieces.values()))


def stack_up(ups: Sequence[Bits | None], rows: Sequence[int], cut: Cut) -> Bits:
    """The parts' ``B`` [rows, rank] as one, [sum of rows, sum of ranks], zero outside of their blocks."""
    present = [up for up in ups if up is not None]
    rank = max(place[1] for place in cut if place is not None)
    whole = np.zeros((sum(rows), rank), present[0].dtype)
    start = 0
    for up, height, place in zip(ups, rows, cut, strict=True):
        if up is not None and place is not None:
            whole[start : start + height, place[0] : place[1]] = up
        start += height
    return whole


def find_cut(up: Bits, rows: Sequence[int], number: NumberFormat) -> Cut:
    """See from the zeros of an ``up`` matrix what it was stacked of.

    Args:
        up: [sum of rows, rank].
        rows: Output width of each part.
        number: The format of its numbers.
    """
    rank, count = up.shape[1], len(rows)
    if count == 1:
        return ((0, rank),)
    used = [columns.nonzero()[0] for columns in _used_columns(up, rows, number)]
    spans = [(int(columns[0]), int(columns[-1]) + 1) if len(columns) else None for columns in used]
    if all(span is None for span in spans):  # nothing to see, and nothing to lose
        return ((0, rank),) * count
    each = rank // count
    equal = tuple((part * each, (part + 1) * each) for part in range(count))
    if rank % count == 0 and all(
        span is None or (span[0] >= place[0] and span[1] <= place[1])
        for span, place in zip(spans, equal, strict=True)
    ):
        return equal
    present = [span for span in spans if span is not None]
    if any(left[1] > right[0] for left, right in itertools.pairwise(present)):
        return tuple(None if span is None else (0, rank) for span in spans)
    # Blocks in order. Columns of zeros between them go to the block before, so that no row of down is lost.
    starts = [0, *(span[0] for span in present[1:]), rank]
    places = iter(itertools.pairwise(starts))
    return tuple(None if span is None else next(places) for span in spans)


def fits_cut(up: Bits, rows: Sequence[int], number: NumberFormat, cut: Cut) -> bool:
    """Whether cutting an ``up`` matrix like this loses nothing but zeros."""
    if len(cut) != len(rows):
        return False
    for columns, place in zip(_used_columns(up, rows, number), cut, strict=True):
        begin, end = place or (0, 0)
        if end > up.shape[1] or columns[:begin].any() or columns[end:].any():
            return False
    return True


def cut_up(up: Bits, rows: Sequence[int], cut: Cut, part: int) -> Bits:
    """The ``B`` of one part, [rows of the part, rank of the part]."""
    begin, end = cut[part] or (0, 0)
    start = sum(rows[:part])
    return up[start : start + rows[part], begin:end]


def _used_columns(up: Bits, rows: Sequence[int], number: NumberFormat) -> list[Bits]:
    """For each part, whether its rows have anything but zeros in a column, [rank]."""
    ends = itertools.accumulate(rows)
    return [
        np.any(is_nonzero(up[end - height : end], number), axis=0)
        for height, end in zip(rows, ends, strict=True)
    ]
