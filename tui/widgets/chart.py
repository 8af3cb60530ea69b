"""A live line chart in braille: zoom, pan, smoothing, log axis, crosshair. Knows points, not runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.worker import Worker, WorkerState

from tui.charts.curve import Curve
from tui.charts.view import XWindow, YRange
from tui.widgets import chart_look
from tui.widgets.chart_curves import ChartCurves
from tui.widgets.chart_mouse import ChartMouse

if TYPE_CHECKING:
    from rich.style import Style
    from textual.binding import BindingType

    from tui.charts.scene import Run, Scene
    from tui.widgets.chart_scene import SceneBuilder

WEIGHTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""The smoothing weights that ``e`` and ``E`` step through."""

_REPAINT_HZ = 10


class Chart(ChartMouse, ChartCurves, can_focus=True):
    """Curves over a common x, redrawn at most ten times a second while points come in.

    Points may be added from the first moment on; numpy is imported in a thread when there are some
    to be drawn. No point is lost to sampling: each dot column shows its lowest and highest value.

    Args:
        x_label: What x is, e.g. ``step``.
        y_label: What y is, e.g. ``loss``; heads the legend.
        smoothing: Weight of the moving average at first, from 0 to below 1.
        placeholder: What to say while there are no points.
    """

    HELP: ClassVar[str] = chart_look.HELP
    BINDINGS: ClassVar[list[BindingType]] = chart_look.BINDINGS
    COMPONENT_CLASSES: ClassVar[set[str]] = chart_look.COMPONENT_CLASSES
    DEFAULT_CSS = chart_look.CSS

    log_y: reactive[bool] = reactive(False, init=False)
    """Whether the y axis is logarithmic."""

    clip_outliers: reactive[bool] = reactive(True, init=False)
    """Whether a few outliers may lie beyond the axis."""

    paused: reactive[bool] = reactive(False, init=False)
    """Whether the picture is held still."""

    smoothing: reactive[float] = reactive(0.9, init=False)
    """Weight of the moving average, from 0 (none) to below 1."""

    cursor_x: reactive[float | None] = reactive(None, init=False)
    """Where the crosshair is; None hides it."""

    class CursorMoved(Message):
        """The crosshair moved or was hidden.

        Args:
            chart: The chart.
            x: Where it is now; None if hidden.
        """

        def __init__(self, chart: Chart, x: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

        @property
        def control(self) -> Chart:
            """The chart, for ``@on`` selectors."""
            return self.chart

    def __init__(
        self,
        *,
        x_label: str = "",
        y_label: str = "",
        smoothing: float = 0.9,
        placeholder: str = "no points yet",
        name: str | None = None,
        id: str | None = None,  # noqa: A002 - Textual's name
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.border_title = "Chart"
        self.x_label = x_label
        self.y_label = y_label
        self.placeholder = placeholder
        self.x_window = XWindow()
        self.y_range = YRange()
        self.other_ranges: dict[str, YRange] = {}
        self.set_reactive(Chart.smoothing, smoothing)
        self._frozen: dict[str, int] = {}
        self._builder: SceneBuilder | None = None
        self._loading: Worker[None] | None = None
        self._scene: Scene | None = None
        self._text_rows: list[list[Run]] = []
        self._strip_rows: list[Strip | None] = []
        self._styles_by_name: dict[str, Style] = {}

    def clear(self) -> None:
        """Remove all points and markers; the curves stay."""
        self._marks.clear()
        for curve in self._curves.values():
            curve.clear()
        self.x_window.fit()
        self._forget_ranges()
        self.cursor_x = None
        self.paused = False
        self._touch()

    def _forget_ranges(self) -> None:
        self.y_range.forget()
        self.other_ranges.clear()

    # -- repainting ---------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Start looking for new points."""
        self.set_interval(1 / _REPAINT_HZ, self._tick)

    def _tick(self) -> None:
        if self._stale and not self.paused and self.size and self.screen.is_current:
            self.repaint()

    def repaint(self) -> None:
        """Draw the chart as it is now; only rows that differ reach the terminal."""
        if not self.size:
            return
        if not self._ready():
            return
        self._stale = False
        assert self._builder is not None
        self._scene = self._builder.build()
        if self._scene is None:
            self._strip_rows = []
            self._text_rows = []
            self.refresh()
            return
        rows = self._scene.paint()
        if len(rows) != len(self._text_rows) or len(rows) != len(self._strip_rows):
            self._strip_rows = [None] * len(rows)
            self.refresh()
        else:
            for y, (new, old) in enumerate(zip(rows, self._text_rows, strict=True)):
                if new != old:
                    self._strip_rows[y] = None
                    self.refresh(Region(0, y, self.size.width, 1))
        self._text_rows = rows

    def _ready(self) -> bool:
        """Whether numpy is there; if there are points to draw, have a thread fetch it."""
        if self._builder is not None:
            return True
        if not any(curve.pending for curve in self._curves.values()):
            self._stale = False
            return False
        if "numpy" not in sys.modules:
            if self._loading is None:
                self._loading = self.run_worker(
                    _import_numpy, name="load numpy", group="chart-load", thread=True, exit_on_error=False
                )
            if self._loading.state in (WorkerState.PENDING, WorkerState.RUNNING):
                return False
        from tui.widgets.chart_scene import SceneBuilder

        self._builder = SceneBuilder(self)
        return True

    def on_resize(self) -> None:
        """Draw for the new size at once, also while paused."""
        self._text_rows = []
        self.repaint()

    def notify_style_update(self) -> None:
        """The theme or a style changed."""
        super().notify_style_update()
        self._styles_by_name.clear()
        self._strip_rows = [None] * len(self._text_rows)

    def _named_style(self, name: str) -> Style:
        style = self._styles_by_name.get(name)
        if style is None:
            # Not the partial style: only the whole one blends an alpha into the background.
            style = self.get_component_rich_style(f"chart--{name}") if name else self.rich_style
            self._styles_by_name[name] = style
        return style

    def render_line(self, y: int) -> Strip:
        """One row of the chart."""
        width = self.size.width
        base = self._named_style("")
        if y >= len(self._strip_rows):
            if not self._text_rows and y == max(0, (self.size.height - 1) // 2):
                text = (self.placeholder + " · paused" * self.paused)[:width]
                lead = " " * ((width - len(text)) // 2)
                return Strip(
                    [Segment(lead, base), Segment(text, self._named_style("empty"))]
                ).adjust_cell_length(width, base)
            return Strip.blank(width, base)
        strip = self._strip_rows[y]
        if strip is None:
            segments = [Segment(text, self._named_style(name)) for text, name in self._text_rows[y]]
            strip = Strip(segments).adjust_cell_length(width, base)
            self._strip_rows[y] = strip
        return strip

    # -- the view -----------------------------------------------------------------------------------

    def frozen_count(self, curve: Curve) -> int:
        """How many points of a curve are shown: all, or those that were there when it was paused."""
        count = len(curve.points) if curve.points is not None else 0
        return min(count, self._frozen.get(curve.name, 0)) if self.paused else count

    def _extent(self) -> tuple[float, float] | None:
        return self._builder.extent() if self._builder is not None else None

    def action_zoom(self, factor: float) -> None:
        """Change the window's width by ``factor``, round the crosshair or at the right edge."""
        extent = self._extent()
        if extent is not None:
            around = self.cursor_x
            if around is None and not self.x_window.live:
                around = self.x_window.right
            self.x_window.zoom(factor, around, *extent)
            self.repaint()

    def action_pan(self, share: float) -> None:
        """Move the window by a share of its width."""
        extent = self._extent()
        if extent is not None:
            x0, x1 = self.x_window.bounds(*extent)
            self.x_window.pan((x1 - x0) * share, *extent)
            self.repaint()

    def action_fit(self) -> None:
        """Show everything, and follow."""
        self.x_window.fit()
        self._forget_ranges()
        self.repaint()

    def action_toggle_log(self) -> None:
        """Logarithmic or linear y axis."""
        self.log_y = not self.log_y

    def action_toggle_clip(self) -> None:
        """Let outliers lie beyond the axis, or show all."""
        self.clip_outliers = not self.clip_outliers

    def action_toggle_pause(self) -> None:
        """Hold the picture still, or go on."""
        self.paused = not self.paused

    def action_smooth(self, direction: int) -> None:
        """Go to the next larger (1) or smaller (-1) smoothing weight."""
        if direction > 0:
            self.smoothing = min((w for w in WEIGHTS if w > self.smoothing), default=self.smoothing)
        else:
            self.smoothing = max((w for w in WEIGHTS if w < self.smoothing), default=self.smoothing)

    def watch_log_y(self) -> None:
        """Draw with the other axis."""
        self._forget_ranges()
        self.repaint()

    def watch_clip_outliers(self) -> None:
        """Fit y anew."""
        self._forget_ranges()
        self.repaint()

    def watch_paused(self, paused: bool) -> None:
        """Remember what is shown, or catch up."""
        if paused:
            for curve in self._curves.values():
                curve.load(self.smoothing) if self._builder is not None else None
            self._frozen = {c.name: len(c.points) for c in self._curves.values() if c.points is not None}
        else:
            self._frozen = {}
        self.set_class(paused, "-paused")
        self.repaint()

    def watch_smoothing(self, weight: float) -> None:
        """Compute the averages anew."""
        for curve in self._curves.values():
            if curve.smooth and curve.points is not None:
                curve.points.weight = weight
        self.repaint()

    # -- crosshair ----------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to the chart only while there is a crosshair to hide."""
        return self.cursor_x is not None if action == "hide_crosshair" else True

    def watch_cursor_x(self, old: float | None, new: float | None) -> None:
        """Tell, and draw."""
        self.post_message(self.CursorMoved(self, new))
        if (old is None) != (new is None):
            self.refresh_bindings()
        self.repaint()

    def action_crosshair(self, direction: int) -> None:
        """Show the crosshair, or move it by a dot column (by a point where they are farther apart)."""
        if self._builder is not None:
            x = self._builder.step_cursor(direction)
            if x is not None:
                self._keep_visible(x)
                self.cursor_x = x

    def _keep_visible(self, x: float) -> None:
        extent = self._extent()
        if extent is None:
            return
        x0, x1 = self.x_window.bounds(*extent)
        if x < x0:
            self.x_window.pan(x - x0 - (x1 - x0) * 0.1, *extent)
        elif x > x1:
            self.x_window.pan(x - x1 + (x1 - x0) * 0.1, *extent)

    def action_hide_crosshair(self) -> None:
        """Hide the crosshair."""
        self.cursor_x = None


async def _import_numpy() -> None:
    """Import what drawing needs; in a thread it costs the event loop nothing."""
    import tui.widgets.chart_scene  # noqa: F401
