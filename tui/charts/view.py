"""Which part of the data a chart shows: the window over x, the range of y."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tui.charts.ticks import nice_step

_EDGE_STEPS = 24  # a live right edge moves in steps of about this part of the window
_SMALLEST = 1e-9  # of the whole extent: no zooming in beyond it


@dataclass
class XWindow:
    """A window over x that fits everything, follows the newest point, or stays put.

    Attributes:
        span: Its width; None fits all there is.
        right: Its right edge; None follows the newest point.
    """

    span: float | None = None
    right: float | None = None

    @property
    def live(self) -> bool:
        """Whether new points will be in it."""
        return self.right is None

    def bounds(self, first: float, last: float) -> tuple[float, float]:
        """The window over points from ``first`` to ``last``.

        A live right edge is rounded up, so that columns keep their places from one point to the next.
        """
        extent = last - first
        if extent <= 0:
            return first - 0.5, first + 0.5
        span = extent if self.span is None else self.span
        if self.right is not None:
            return self.right - span, self.right
        step = nice_step(span, _EDGE_STEPS)
        edge = math.ceil(last / step - 1e-9) * step
        if self.span is None:
            return first, max(edge, last)
        return edge - span, edge

    def fit(self) -> None:
        """Show everything, and follow."""
        self.span = self.right = None

    def zoom(self, factor: float, around: float | None, first: float, last: float) -> None:
        """Change the width by ``factor`` (below 1 zooms in).

        Args:
            factor: The new width over the old one.
            around: The x that keeps its place; None keeps the right edge, and following it.
            first: The first point's x.
            last: The last point's x.
        """
        x0, x1 = self.bounds(first, last)
        extent = last - first
        if extent <= 0:
            return
        span = max((x1 - x0) * factor, extent * _SMALLEST, math.ulp(abs(x1) + 1) * 1024)
        if span >= extent:
            self.fit()
            return
        if around is None or (self.right is None and around >= x1):
            self.span = span
            return
        self.span, self.right = span, around + (x1 - around) * span / (x1 - x0)
        self._settle(first, last)

    def pan(self, distance: float, first: float, last: float) -> None:
        """Move by ``distance``; reaching the newest point takes up following it, moving left lets go."""
        x0, x1 = self.bounds(first, last)
        if x1 - x0 >= last - first and self.span is None:
            return  # everything is visible
        self.span, self.right = x1 - x0, x1 + distance
        self._settle(first, last, may_follow=distance > 0)

    def _settle(self, first: float, last: float, *, may_follow: bool = True) -> None:
        """Keep the window over the data."""
        if self.span is None or self.right is None:
            return
        if self.right >= last:
            self.right = None if may_follow else max(last, self.right)
        elif self.right - self.span < first:
            self.right = first + self.span


def robust_range(lows: Sequence[float], highs: Sequence[float], *, clip: bool) -> tuple[float, float] | None:
    """The range of y that shows the columns; None if there are none.

    With ``clip`` the highest and lowest hundredth of the columns (at least one) may stay outside, but
    only if they would squeeze the rest into less than half of the height: one huge first loss must
    not flatten the curve, and an ordinary curve is never cut.

    Args:
        lows: The lowest finite value of each column.
        highs: The highest finite value of each column.
        clip: Whether outliers may stay outside.
    """
    if not len(lows):
        return None
    low_sorted, high_sorted = sorted(lows), sorted(highs)
    lowest, highest = low_sorted[0], high_sorted[-1]
    if clip and len(lows) >= 8:
        skip = max(1, math.ceil((len(lows) - 1) * 0.01))
        inner_low, inner_high = low_sorted[skip], high_sorted[-1 - skip]
        inner = max(inner_high - inner_low, 0.0)
        margin = inner * 0.1
        if inner > 0 and highest - lowest > 2 * (inner + margin):
            # Each side on its own: an outlier above is no reason to cut below.
            if highest - inner_high > inner:
                highest = inner_high + margin
            if inner_low - lowest > inner:
                lowest = inner_low - margin
    return lowest, highest


class YRange:
    """The range of y on the axis, which changes only when it has to.

    Attributes:
        bounds: Bottom and top.
    """

    def __init__(self) -> None:
        self.bounds = (0.0, 1.0)
        self._log: bool | None = None

    def forget(self) -> None:
        """Fit anew at the next update."""
        self._log = None

    def update(self, lo: float, hi: float, *, log: bool) -> tuple[float, float]:
        """Make sure that ``lo`` to ``hi`` is shown; keep the range if it still fits well.

        A range that holds the values and is not more than about twice as wide as they need stays.
        """
        if log:
            lo, hi = math.log10(lo), math.log10(hi)
        if self._log == log:
            bottom, top = (math.log10(v) for v in self.bounds) if log else self.bounds
            if bottom <= lo and hi <= top and (hi - lo) >= 0.55 * (top - bottom):
                return self.bounds
        span = hi - lo
        pad = span * 0.06 if span > 0 else (0.5 if log else max(abs(hi) * 0.1, 1e-9))
        bottom, top = lo - pad, hi + pad
        if not log and lo >= 0 > bottom:
            bottom = 0.0  # a loss is not negative: do not suggest it could be
        self._log = log
        self.bounds = (10.0**bottom, 10.0**top) if log else (bottom, top)
        return self.bounds
