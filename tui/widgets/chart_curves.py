"""What a :class:`~tui.widgets.chart.Chart` holds: its curves and its markers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widget import Widget

from tui.charts.curve import Curve

if TYPE_CHECKING:
    from tui.charts.scene import Mark


class ChartCurves(Widget):
    """The part of a chart that takes points in; every change makes the picture stale."""

    def __init__(self, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(name=name, id=id, classes=classes)
        self._curves: dict[str, Curve] = {}
        self._marks: dict[tuple[float, str, str], None] = {}  # a set that keeps its order
        self._stale = True

    def add_series(self, name: str, label: str | None = None, smooth: bool = True, axis: str = "") -> Curve:
        """Add a curve, or return the one of that name.

        Args:
            name: Key for :meth:`series`.
            label: For the legend; the name if None.
            smooth: Whether to draw a moving average over it.
            axis: What it measures. The first visible curve's axis is labelled; curves of others are drawn
                over their own range, and the legend has their values.
        """
        if name not in self._curves:
            taken = {curve.number for curve in self._curves.values()}
            number = next(n for n in range(len(taken) + 1) if n not in taken)
            self._curves[name] = Curve(
                name, label or name, number, smooth=smooth, changed=self._touch, axis=axis
            )
            self._touch()
        return self._curves[name]

    def series(self, name: str) -> Curve:
        """The curve of that name.

        Raises:
            KeyError: There is none; see :meth:`add_series`.
        """
        return self._curves[name]

    def remove_series(self, name: str) -> None:
        """Remove a curve, if there is one of that name; its letter is free again."""
        if self._curves.pop(name, None) is not None:
            self._touch()

    @property
    def curves(self) -> list[Curve]:
        """All curves, in the order of their letters."""
        return list(self._curves.values())

    def mark(self, x: float, label: str, kind: str = "") -> None:
        """Put a vertical marker at ``x``; the same one twice is one.

        Args:
            x: Where.
            label: For the readout.
            kind: ``checkpoint``, ``resume``, ``sample``, ``warning`` or ``error`` have glyphs of their own.
        """
        entry = (float(x), "".join(c for c in label if c.isprintable()), kind)
        if entry not in self._marks:
            self._marks[entry] = None
            self._touch()

    @property
    def marks(self) -> list[Mark]:
        """The markers, in the order in which they were put."""
        from tui.charts.scene import Mark

        return [Mark(*entry) for entry in self._marks]

    def _touch(self) -> None:
        self._stale = True
