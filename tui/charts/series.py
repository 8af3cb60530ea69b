"""The points of one curve, in columns that grow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from tui.charts.ema import EmaState, Floats, extend_ema

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_FIRST_CAPACITY = 1024
_serials = count()


class Series:
    """Points sorted by x, with their smoothed values beside them.

    A y that is not finite is kept as NaN: a gap with a place. Appending at or before the last x is a
    rewind (a resumed run reports steps again, a reconnected stream sends them twice): the points from
    there on are replaced.

    Args:
        weight: Smoothing, from 0 (none) to below 1.
        limit: Most points kept; beyond it every four of the older half are thinned to the two that
            are lowest and highest, so that no extreme is lost.

    Attributes:
        serial: Another number for every series.
        epoch: Grows whenever points that were there changed or went; appending leaves it.
        lowest: A lower bound of the finite values; infinite while there are none.
    """

    def __init__(self, weight: float = 0.0, *, limit: int = 4_000_000) -> None:
        self.serial = next(_serials)
        self.epoch = 0
        self.lowest = float("inf")
        self._weight = weight
        self._limit = max(8, limit)
        self._count = 0
        self._columns = np.empty((3, _FIRST_CAPACITY))
        self._gaps = np.empty(0, dtype=np.int64)
        self._state = EmaState()

    def __len__(self) -> int:
        return self._count

    @property
    def x(self) -> Floats:
        """Shape ``(n,)``, strictly increasing; a view, valid until the next change."""
        return self._columns[0, : self._count]

    @property
    def y(self) -> Floats:
        """Shape ``(n,)``, NaN where a value was not finite; a view."""
        return self._columns[1, : self._count]

    @property
    def smooth(self) -> Floats:
        """Shape ``(n,)``, the debiased moving average of ``y``; a view."""
        return self._columns[2, : self._count]

    @property
    def gaps(self) -> NDArray[np.int64]:
        """The indices of the NaN in ``y``, increasing."""
        return self._gaps

    @property
    def weight(self) -> float:
        """The smoothing weight; setting it computes the averages anew."""
        return self._weight

    @weight.setter
    def weight(self, weight: float) -> None:
        if weight != self._weight:
            self._weight = weight
            self._state = EmaState()
            self._columns[2, : self._count] = extend_ema(self.y, weight, self._state)
            self.epoch += 1

    def append(self, x: float, y: float) -> None:
        """Add one point; see :meth:`extend`."""
        self.extend((x,), (y,))

    def extend(self, xs: ArrayLike | Sequence[float], ys: ArrayLike | Sequence[float]) -> None:
        """Add points in the order in which they came.

        Args:
            xs: Shape ``(n,)``. Points whose x is not finite have no place and are left out.
            ys: Shape ``(n,)``.

        Raises:
            ValueError: The lengths differ.
        """
        x = np.atleast_1d(np.asarray(xs, dtype=np.float64))
        y = np.atleast_1d(np.asarray(ys, dtype=np.float64))
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"as many y as x are needed: {x.shape} and {y.shape}")
        placed = np.isfinite(x)
        if not placed.all():
            x, y = x[placed], y[placed]
        if not len(x):
            return
        finite = np.isfinite(y)
        if not finite.all():
            y = np.where(finite, y, np.nan)
        rewinds = np.flatnonzero(np.diff(x) <= 0) + 1
        start = 0
        for stop in [*rewinds.tolist(), len(x)]:
            self._extend_run(x[start:stop], y[start:stop])
            start = stop

    def _extend_run(self, x: Floats, y: Floats) -> None:
        if self._count and x[0] <= self._columns[0, self._count - 1]:
            self._truncate(int(np.searchsorted(self.x, x[0])))
        stop = self._count + len(x)
        if stop > self._columns.shape[1]:
            grown = np.empty((3, max(stop, 2 * self._columns.shape[1])))
            grown[:, : self._count] = self._columns[:, : self._count]
            self._columns = grown
        new = slice(self._count, stop)
        self._columns[0, new] = x
        self._columns[1, new] = y
        self._columns[2, new] = extend_ema(y, self._weight, self._state)
        missing = np.flatnonzero(np.isnan(y))
        if len(missing):
            self._gaps = np.concatenate([self._gaps, missing + self._count])
        if len(missing) < len(y):
            self.lowest = min(self.lowest, float(np.nanmin(y)))
        self._count = stop
        if self._count > self._limit:
            self._thin()

    def truncate_after(self, x: float) -> None:
        """Remove the points after ``x``, as a run does that resumes there."""
        self._truncate(int(np.searchsorted(self.x, x, side="right")))

    def _truncate(self, count: int) -> None:
        if count >= self._count:
            return
        self._count = count
        self._gaps = self._gaps[: np.searchsorted(self._gaps, count)]
        self.epoch += 1
        finite = count - len(self._gaps)
        self._state = EmaState(0.0, finite)
        if finite:
            last = count - 1
            while np.isnan(self._columns[1, last]):
                last -= 1
            # Undo the bias correction of the last average that is left.
            self._state.mean = float(self._columns[2, last]) * (1 - self._weight**finite)
        else:
            self.lowest = float("inf")

    def _thin(self) -> None:
        """Halve the older half: of every four neighbours keep the lowest and the highest."""
        groups = self._count // 8
        old = groups * 4
        quads = self._columns[1, :old].reshape(groups, 4)
        rows = np.arange(groups) * 4
        # A NaN is neither; a group of nothing else keeps its first two, and so its gap.
        low = np.argmin(np.where(np.isnan(quads), np.inf, quads), axis=1)
        high = np.argmax(np.where(np.isnan(quads), -np.inf, quads), axis=1)
        high = np.where(high == low, (low + 1) % 4, high)
        kept = np.sort(np.concatenate([rows + low, rows + high]))
        kept = np.concatenate([kept, np.arange(old, self._count)])
        finite = self._state.count
        self._columns[:, : len(kept)] = self._columns[:, kept]
        self._count = len(kept)
        self._gaps = np.flatnonzero(np.isnan(self.y))
        self._state.count = finite
        self.epoch += 1

    def nearest(self, x: float) -> int | None:
        """The index of the point nearest to ``x``; None while there are none."""
        if not self._count:
            return None
        right = int(np.searchsorted(self.x, x))
        if right == 0:
            return 0
        if right == self._count:
            return self._count - 1
        left_x, right_x = self._columns[0, right - 1], self._columns[0, right]
        return right if right_x - x < x - left_x else right - 1
