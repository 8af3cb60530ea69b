"""What the mouse does in a :class:`~tui.widgets.chart.Chart`: zoom, pan, crosshair."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widget import Widget

if TYPE_CHECKING:
    from textual import events
    from textual.reactive import reactive

    from tui.charts.scene import Scene
    from tui.charts.view import XWindow
    from tui.widgets.chart_scene import SceneBuilder


class ChartMouse(Widget):
    """The part of a chart that the mouse reaches."""

    if TYPE_CHECKING:  # the chart's own
        x_window: XWindow
        cursor_x: reactive[float | None]
        _scene: Scene | None
        _builder: SceneBuilder | None

        def _extent(self) -> tuple[float, float] | None: ...
        def repaint(self) -> None: ...  # noqa: D102
        def action_fit(self) -> None: ...  # noqa: D102

    _pressed: tuple[int, bool] | None = None  # where a button went down, and whether the mouse moved since

    def _x_at(self, event: events.MouseEvent) -> float | None:
        """The x under the mouse; None outside of the plot."""
        offset = event.get_content_offset(self)
        if self._scene is None or offset is None:
            return None
        layout = self._scene.layout
        x0, x1 = self._scene.x
        column = offset.x - layout.gutter
        return x0 + (column + 0.5) / layout.width * (x1 - x0) if column >= 0 else None

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        event.stop()
        extent = self._extent()
        if extent is not None:
            self.x_window.zoom(factor, self._x_at(event), *extent)
            self.repaint()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in round the mouse."""
        self._wheel(event, 0.8)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out round the mouse."""
        self._wheel(event, 1.25)

    def on_click(self, event: events.Click) -> None:
        """A double click shows everything."""
        if event.chain == 2:
            self.action_fit()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A drag or a click begins."""
        if event.button == 1:
            self.capture_mouse()
            self._pressed = (event.screen_x, False)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Dragging pans: what is under the mouse stays under it."""
        if self._pressed is None or self._scene is None:
            return
        moved = self._pressed[0] - event.screen_x
        extent = self._extent()
        if moved and extent is not None:
            x0, x1 = self._scene.x
            self.x_window.pan(moved / self._scene.layout.width * (x1 - x0), *extent)
            self._pressed = (event.screen_x, True)
            self.repaint()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Without a drag it was a click, which sets the crosshair."""
        pressed, self._pressed = self._pressed, None
        if pressed is None:
            return
        self.release_mouse()
        x = self._x_at(event)
        if not pressed[1] and x is not None and self._builder is not None:
            self.cursor_x = self._builder.snap(x)
