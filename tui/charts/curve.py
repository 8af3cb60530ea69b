"""One named curve of a chart: takes points at any time, loads numpy only when they are to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.charts.series import Series


class Curve:
    """A handle on a curve; :meth:`~tui.widgets.chart.Chart.add_series` makes it.

    Adding a point costs a list append. The columns (:attr:`points`) take the points over when the
    chart paints next.

    Args:
        name: Key within the chart.
        label: For the legend.
        number: Position among the curves, from 0; decides letter and colour.
        smooth: Whether a smoothed line is drawn over the raw one.
        changed: Called after every change.
        axis: What it measures: curves of one axis share the range of y.

    Attributes:
        letter: Tells curves apart without colour.
        visible: Whether it is drawn.
        points: The columns; None until :meth:`load` found points.
    """

    def __init__(
        self, name: str, label: str, number: int, *, smooth: bool, changed: Callable[[], None], axis: str = ""
    ) -> None:
        self.name = name
        self.label = "".join(character for character in label if character.isprintable())
        self.number = number
        self.letter = "abcdefghijklmnopqrstuvwxyz"[number % 26]
        self.smooth = smooth
        self.axis = axis
        self.visible = True
        self.points: Series | None = None
        self._changed = changed
        self._xs: list[float] = []
        self._ys: list[float] = []

    @property
    def pending(self) -> int:
        """Points that wait for :meth:`load`."""
        return len(self._xs)

    def append(self, x: float, y: float) -> None:
        """Add a point. One at or before the last x replaces what was there from it on.

        Args:
            x: Its place; a point without a finite one is dropped.
            y: Its value; what is not finite shows as a gap with a mark.
        """
        self._xs.append(x)
        self._ys.append(y)
        self._changed()

    def extend(self, xs: Iterable[float], ys: Iterable[float]) -> None:
        """Add many points, in order, as :meth:`append` does.

        Raises:
            ValueError: There are not as many ys as xs.
        """
        new_xs, new_ys = list(xs), list(ys)
        if len(new_xs) != len(new_ys):
            raise ValueError(f"as many y as x are needed: {len(new_xs)} and {len(new_ys)}")
        self._xs += new_xs
        self._ys += new_ys
        self._changed()

    def truncate_after(self, x: float) -> None:
        """Remove the points after ``x``, as a run does that resumes there."""
        kept = [(a, b) for a, b in zip(self._xs, self._ys, strict=True) if a <= x]
        self._xs, self._ys = [a for a, _ in kept], [b for _, b in kept]
        if self.points is not None:
            self.points.truncate_after(x)
        self._changed()

    def clear(self) -> None:
        """Remove all points."""
        self._xs, self._ys = [], []
        self.points = None
        self._changed()

    def load(self, weight: float) -> None:
        """Move waiting points into the columns; imports numpy the first time.

        Args:
            weight: Smoothing of new columns.
        """
        if not self._xs:
            return
        if self.points is None:
            from tui.charts.series import Series

            self.points = Series(weight if self.smooth else 0.0)
        self.points.extend(self._xs, self._ys)
        self._xs, self._ys = [], []
