"""Round numbers for axes, and short labels for them."""

from __future__ import annotations

import math
from itertools import pairwise

_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def nice_step(span: float, count: int) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that makes at most ``count`` parts of ``span``."""
    if not (span > 0 and math.isfinite(span)):
        return 1.0
    rough = span / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0):
        if factor * power >= rough * (1 - 1e-9):
            return factor * power
    return 10.0 * power


def linear_ticks(lo: float, hi: float, count: int, *, whole: bool = False) -> list[float]:
    """At most about ``count + 1`` round numbers from ``lo`` to ``hi``; ``whole`` wants integers."""
    if not (math.isfinite(lo) and math.isfinite(hi)) or hi < lo:
        return []
    if hi == lo:
        return [lo]
    step = nice_step(hi - lo, count)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first = math.ceil(lo / step - 1e-9)
    last = math.floor(hi / step + 1e-9)
    # Multiples, not sums: no error adds up, and zero is exactly zero.
    return [index * step for index in range(first, last + 1)] if last - first < 1000 else []


def log_ticks(lo: float, hi: float, count: int) -> list[float]:
    """Powers of ten from ``lo`` to ``hi``, with 2 and 5 between them if few; linear below one decade."""
    if not (0 < lo < hi and math.isfinite(hi)):
        return []
    first, last = math.ceil(math.log10(lo) - 1e-9), math.floor(math.log10(hi) + 1e-9)
    every = max(1, -(-(last - first + 1) // max(1, count)))
    decades = [10.0**power for power in range(first, last + 1, every)]
    if len(decades) >= max(2, count // 2):
        return decades
    finer = [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5)]
    finer = [value for value in finer if lo * (1 - 1e-9) <= value <= hi * (1 + 1e-9)]
    if len(finer) > max(4, count + 2):
        return decades
    return finer if len(finer) >= 2 else linear_ticks(lo, hi, count)


def tick_labels(values: list[float]) -> list[str]:
    """Labels with as few digits as tell the values apart, all in the same style."""
    if not values:
        return []
    largest = max(abs(value) for value in values)
    steps = [b - a for a, b in pairwise(values) if b > a]
    step = min(steps, default=largest or 1.0)
    if largest == 0:
        return ["0"] * len(values)
    if largest < 1e-3:
        return ["0" if value == 0 else short_number(value, 3) for value in values]
    for unit, suffix in _SUFFIXES:
        if largest >= (10 * unit if unit == 1e3 else unit):
            digits = _decimals(step / unit)
            if digits > 3:
                break  # close together far from zero: plain digits are shorter
            return ["0" if value == 0 else f"{value / unit:.{digits}f}{suffix}" for value in values]
    ratio = max(values) / min(values) if min(values) > 0 else 1.0
    if ratio >= 100:  # a log axis: each label has its own number of digits
        return [short_number(value, 3) for value in values]
    digits = _decimals(step)
    return [f"{value:.{digits}f}" for value in values]


def _decimals(step: float) -> int:
    """Digits after the point that a multiple of ``step`` needs."""
    for digits in range(12):
        scaled = step * 10**digits
        if round(scaled) >= 1 and abs(scaled - round(scaled)) < 1e-3 * scaled:
            return digits
    return 12


def short_number(value: float, digits: int = 4) -> str:
    """``value`` with about ``digits`` significant digits: ``0.0123``, ``1.2e-05``, ``12,500``."""
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    size = abs(value)
    if size < 1e-3 or size >= 1e7:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
