"""The debiased exponential moving average that smooths a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SHORT = 48  # up to here a plain loop is faster
_RANGE = 100.0  # decimal orders of magnitude that one block's weights may span
_BLOCK = 4096


@dataclass
class EmaState:
    """Where the average stands: the biased mean and how many finite values went into it."""

    mean: float = 0.0
    count: int = 0


def extend_ema(values: Floats, weight: float, state: EmaState) -> Floats:
    """The averages after each of ``values``; ``state`` moves on.

    ``m = weight * m + (1 - weight) * y``, divided by ``1 - weight ** count`` so that the start is not
    pulled to zero (the bias correction of Adam, Kingma & Ba 2015, also TensorBoard's smoothing).
    A NaN is skipped: it gives NaN and leaves the average as it was.

    Args:
        values: Shape ``(n,)``.
        weight: From 0 (no smoothing) to below 1.
        state: Carried from one call to the next.
    """
    if len(values) <= _SHORT:
        return _extend_plainly(values, weight, state)
    finite = np.isfinite(values)
    if finite.all():
        return _extend_blocks(values, weight, state)
    out = np.full(len(values), np.nan)
    if finite.any():
        out[finite] = _extend_blocks(values[finite], weight, state)
    return out


def _extend_plainly(values: Floats, weight: float, state: EmaState) -> Floats:
    out = np.empty(len(values))
    for index, value in enumerate(values.tolist()):
        if math.isfinite(value):
            state.mean = weight * state.mean + (1 - weight) * value
            state.count += 1
            out[index] = state.mean / (1 - weight**state.count)
        else:
            out[index] = math.nan
    return out


def _extend_blocks(values: Floats, weight: float, state: EmaState) -> Floats:
    """The same for finite values, a block at a time.

    Within a block ``m_k = w**k * cumsum((1 - w) * y_i * w**-i)``; blocks are short enough that the
    powers neither overflow nor lose digits. What came before a block only decays through it.
    """
    count = len(values)
    if weight <= 0:
        state.mean, state.count = float(values[-1]), state.count + count
        return values.copy()
    block = max(1, min(_BLOCK, int(-_RANGE / math.log10(weight))))
    blocks = -(-count // block)
    padded = np.zeros(blocks * block)
    padded[:count] = values
    table = padded.reshape(blocks, block)
    decay = weight ** np.arange(block)
    table *= (1 - weight) / decay
    np.cumsum(table, axis=1, out=table)
    table *= decay
    carries = np.empty(blocks)
    carry, through = state.mean, weight**block
    for index, end in enumerate(table[:, -1].tolist()):
        carries[index] = carry
        carry = end + through * carry
    table += np.outer(carries, decay * weight)
    out = padded[:count]
    state.mean = float(out[-1])
    # The correction is 1 within the precision of a float after a while.
    biased = min(count, max(0, int(-17 / math.log10(weight)) + 1 - state.count))
    out[:biased] /= 1 - weight ** np.arange(state.count + 1, state.count + biased + 1)
    state.count += count
    return out
