from __future__ import annotations

import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.widgets import Button

from tui.widgets.chart import WEIGHTS, Chart

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot


class ChartApp(App[None]):
    def __init__(self, chart: Chart | None = None) -> None:
        super().__init__()
        self.chart = chart or Chart(x_label="step", y_label="loss")
        self.cursors: list[float | None] = []

    def compose(self) -> ComposeResult:
        yield self.chart
        yield Button("other")

    def on_mount(self) -> None:
        self.chart.focus()

    @on(Chart.CursorMoved)
    def _note(self, event: Chart.CursorMoved) -> None:
        assert event.control is self.chart
        self.cursors.append(event.x)


async def _until(pilot: Pilot[None], condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await pilot.pause()


def _rows(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


def _text(chart: Chart) -> str:
    return "\n".join(_rows(chart))


def _window(chart: Chart) -> tuple[float, float]:
    assert chart._scene is not None
    return chart._scene.x


def _loss(count: int, start: int = 1) -> tuple[list[int], list[float]]:
    xs = list(range(start, start + count))
    return xs, [0.1 + math.exp(-x / 200) + 0.05 * math.sin(x) for x in xs]


async def _shown(pilot: Pilot[None], chart: Chart) -> None:
    await _until(pilot, lambda: chart._scene is not None and not chart._stale)
    await pilot.pause()


async def test_it_is_honest_about_having_nothing_and_draws_what_comes() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.chart
        assert "no points yet" in _text(chart)
        loss = chart.add_series("loss", "loss")
        assert chart.series("loss") is loss
        assert chart.add_series("loss") is loss
        with pytest.raises(KeyError):
            chart.series("other")
        await pilot.pause()
        assert "no points yet" in _text(chart)
        loss.append(1, 0.5)
        await _shown(pilot, chart)
        assert "loss 0.5" in _rows(chart)[0]
        loss.extend(*_loss(300, 2))
        await _shown(pilot, chart)
        text = _text(chart)
        assert sum("\u2800" < c <= "\u28ff" for c in text) > 80
        assert "step" in _rows(chart)[-1]
        chart.clear()
        await _until(pilot, lambda: "no points yet" in _text(chart))


def test_the_widget_is_imported_and_shown_without_numpy() -> None:
    script = (
        "import sys, asyncio\n"
        "from textual.app import App\n"
        "from tui.widgets.chart import Chart\n"
        "from tui.widgets.log_pane import LogPane\n"
        "class A(App):\n"
        "    def compose(self):\n"
        "        self.c = Chart(); self.c.add_series('loss'); yield self.c; yield LogPane()\n"
        "async def main():\n"
        "    app = A()\n"
        "    async with app.run_test() as pilot:\n"
        "        await pilot.pause()\n"
        "        heavy = ('numpy', 'pydantic', 'yaml', 'PIL', 'modal', 'torch', 'watchfiles')\n"
        "        print([m for m in heavy if m in sys.modules])\n"
        "        app.c.series('loss').append(1, 1)\n"
        "        for _ in range(2000):\n"
        "            await pilot.pause(0.01)\n"
        "            if 'loss 1' in app.c.render_line(0).text: break\n"
        "        print('numpy' in sys.modules, 'loss 1' in app.c.render_line(0).text)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert done.stdout.splitlines() == ["[]", "True True"], done.stderr


async def test_zoom_pan_and_fit_by_keys() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        loss = chart.add_series("loss")
        loss.extend(*_loss(1000))
        await _shown(pilot, chart)
        whole = _window(chart)
        await pilot.press("plus")
        half = _window(chart)
        assert half[1] - half[0] == pytest.approx(999 / 2, rel=0.1)
        assert half[1] >= 1000
        await pilot.press("equals_sign")
        quarter = _window(chart)
        assert quarter[1] - quarter[0] == pytest.approx((half[1] - half[0]) / 2)
        await pilot.press("H")
        assert _window(chart)[1] < quarter[1]
        assert "not following" in _rows(chart)[0]
        before = _window(chart)
        await pilot.press("shift+left")
        assert _window(chart)[1] < before[1]
        await pilot.press("L", "shift+right", "L", "L")
        assert chart.x_window.live
        await pilot.press("minus")
        wider = _window(chart)
        assert wider[1] - wider[0] > quarter[1] - quarter[0]
        await pilot.press("plus", "plus", "0")
        assert _window(chart) == whole
        # A live window goes on with the points.
        loss.extend(*_loss(1000, 1001))
        await _until(pilot, lambda: _window(chart)[1] >= 2000)


async def test_log_axis_and_what_it_cannot_show() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("lr", smooth=False).extend(range(100), [10 ** (-x / 20) for x in range(100)])
        await _shown(pilot, chart)
        await pilot.press("y")
        assert chart.log_y
        assert "log y" in _rows(chart)[0]
        gutter = [row.split("┤")[0].strip() for row in _rows(chart) if "┤" in row]
        assert {"1", "0.1", "0.01", "0.001"} <= set(gutter)
        chart.series("lr").append(100, -1.0)
        await _until(pilot, lambda: "\u00d7 1" in _rows(chart)[0])
        await pilot.press("y")
        assert not chart.log_y
        assert "\u00d7" not in _text(chart)


async def test_smoothing_by_keys() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(300))
        chart.add_series("lr", smooth=False).extend([1, 300], [0.2, 0.1])
        await _shown(pilot, chart)
        assert "ema 0.9" in _rows(chart)[0]
        await pilot.press("E")
        assert chart.smoothing == 0.95
        assert "ema 0.95" in _rows(chart)[0]
        assert chart.series("loss").points.weight == 0.95
        assert chart.series("lr").points.weight == 0.0
        for _ in WEIGHTS:
            await pilot.press("e")
        assert chart.smoothing == 0.0
        assert "ema" not in _rows(chart)[0]
        assert "~" not in _rows(chart)[0]
        for _ in WEIGHTS:
            await pilot.press("E")
        assert chart.smoothing == max(WEIGHTS)


async def test_the_crosshair_by_keys() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        loss = chart.add_series("loss")
        loss.extend([0, 10, 20, 30, 40], [1, 2, 3, 4, 5])
        chart.mark(20, "x_000020.safetensors", "checkpoint")
        await _shown(pilot, chart)
        await pilot.press("left")
        assert chart.cursor_x == 40
        assert "step 40" in _rows(chart)[0]
        assert "●" in _text(chart)
        await pilot.press("h")
        assert chart.cursor_x == 30
        await pilot.press("left")
        assert "step 20  loss 3" in _rows(chart)[0]
        assert "◆ x_000020.safetensors" in _rows(chart)[0]
        await pilot.press("right", "l", "l", "l")
        assert chart.cursor_x == 40
        for _ in range(10):
            await pilot.press("left")
        assert chart.cursor_x == 0
        await pilot.press("escape")
        assert chart.cursor_x is None
        assert "●" not in _text(chart)
        await pilot.pause()
        assert app.cursors[0] == 40
        assert app.cursors[-1] is None


async def test_the_crosshair_moves_by_a_dot_among_many_points_and_takes_the_view_along() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(50_000))
        await _shown(pilot, chart)
        await pilot.press("left")
        first = chart.cursor_x
        await pilot.press("left")
        assert first is not None
        assert chart.cursor_x is not None
        assert 100 < first - chart.cursor_x < 1000
        await pilot.press(*["plus"] * 13)  # a few points are left
        x0, x1 = _window(chart)
        assert x0 <= chart.cursor_x <= x1
        before = chart.cursor_x
        await pilot.press(*["left"] * 8)
        assert chart.cursor_x == before - 8
        assert _window(chart)[0] <= chart.cursor_x < x0


async def test_esc_is_free_without_a_crosshair() -> None:
    class WithEscape(ChartApp):
        BINDINGS = [Binding("escape", "leave")]  # noqa: RUF012
        left = 0

        def action_leave(self) -> None:
            self.left += 1

    app = WithEscape()
    async with app.run_test(size=(80, 24)) as pilot:
        app.chart.add_series("loss").extend([1, 2], [1, 2])
        await _shown(pilot, app.chart)
        await pilot.press("left", "escape")
        assert app.left == 0
        await pilot.press("escape")
        assert app.left == 1


async def test_pause_holds_the_picture_and_catches_up() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        loss = chart.add_series("loss")
        loss.extend(*_loss(500))
        await _shown(pilot, chart)
        await pilot.press("p")
        assert chart.paused
        assert "PAUSED" in _rows(chart)[0]
        held = _text(chart)
        loss.extend(*_loss(500, 501))
        other = chart.add_series("val")
        other.append(1, 1)
        for _ in range(5):
            await pilot.pause(0.06)
        assert _text(chart) == held
        await pilot.press("plus")  # looking around shows the points of then
        assert _window(chart)[1] < 600
        await pilot.press("0")
        assert _text(chart).splitlines()[5:] == held.splitlines()[5:]
        await pilot.press("p")
        await _until(pilot, lambda: _window(chart)[1] >= 1000)


async def test_a_resumed_run_rewinds() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        loss = chart.add_series("loss", smooth=False)
        loss.extend(range(1, 101), [1.0] * 100)
        await _shown(pilot, chart)
        loss.truncate_after(50)
        chart.mark(50, "resumed", "resume")
        loss.extend(range(51, 61), [0.5] * 10)
        await _until(pilot, lambda: "loss 0.5" in _rows(chart)[0])
        assert _window(chart)[1] < 70
        assert "»" in _rows(chart)[-2]
        await pilot.press("p")
        loss.append(20, 0.25)  # also while paused
        await pilot.press("0")
        assert _window(chart)[1] == 20
        await pilot.press("p")
        await _until(pilot, lambda: "loss 0.25" in _rows(chart)[0])


async def test_an_outlier_may_lie_beyond_the_axis() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        xs, ys = _loss(500)
        chart.add_series("loss", smooth=False).extend([0, *xs], [400.0, *ys])
        await _shown(pilot, chart)
        assert chart._scene is not None
        assert chart._scene.y[1] < 3
        assert "▴" in _rows(chart)[1]
        await pilot.press("c")
        assert chart._scene.y[1] >= 400
        assert "no clip" in _rows(chart)[0]
        await pilot.press("c")
        assert chart._scene.y[1] < 3


async def test_gaps_are_marked() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        xs, ys = _loss(500)
        ys[200:260] = [math.nan] * 59 + [math.inf]
        chart.add_series("loss").extend(xs, ys)
        await _shown(pilot, chart)
        assert "\u00d7 60" in _rows(chart)[0]
        assert _rows(chart)[1].count("\u00d7") >= 8


async def test_the_mouse() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(1000))
        await _shown(pilot, chart)
        await pilot.click(chart, offset=(50, 10))
        await pilot.pause()
        assert chart.cursor_x is not None
        assert 400 < chart.cursor_x < 600
        x0, x1 = _window(chart)
        await pilot._post_mouse_events([events.MouseScrollUp], chart, offset=(50, 10))
        await pilot.pause()
        y0, y1 = _window(chart)
        assert y1 - y0 == pytest.approx(0.8 * (x1 - x0))
        assert x0 < y0 < y1 < x1
        await pilot._post_mouse_events([events.MouseScrollUp] * 3, chart, offset=(50, 10))
        await pilot.pause()
        x0, x1 = _window(chart)
        cursor = chart.cursor_x
        await pilot.mouse_down(chart, offset=(50, 10))
        await pilot.hover(chart, offset=(60, 10))
        await pilot.mouse_up(chart, offset=(60, 10))
        await pilot.pause()
        y0, y1 = _window(chart)
        assert y0 < x0  # the data follows the mouse
        assert y1 - y0 == pytest.approx(x1 - x0)
        assert chart.cursor_x == cursor  # a drag is no click
        await pilot._post_mouse_events([events.MouseScrollDown] * 20, chart, offset=(50, 10))
        await pilot.pause()
        assert chart.x_window.live


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (5, 4), (20, 5), (14, 6), (30, 8), (40, 10), (300, 90)])
async def test_no_size_is_too_small(size: tuple[int, int]) -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(300))
        chart.add_series("val", "a very long label for a small place").extend(*_loss(30))
        chart.mark(100, "m" * 200, "checkpoint")
        await _shown(pilot, chart)
        await pilot.resize_terminal(*size)
        await pilot.press("left", "plus", "y", "H", "c", "p", "p", "0", "E")
        await pilot.pause()
        for y in range(chart.size.height):
            assert chart.render_line(y).cell_length == chart.size.width


async def test_every_row_fills_the_width_with_a_wide_label() -> None:
    app = ChartApp(Chart(x_label="\u6b69", y_label="\u640d\u5931"))
    async with app.run_test(size=(60, 20)) as pilot:
        chart = app.chart
        chart.add_series("a", "\u6f22\u5b57[/b][red]\x1b[31m").extend(*_loss(30))
        chart.add_series("b").extend(*_loss(30))
        await _shown(pilot, chart)
        assert "\u6f22\u5b57[/b][red][31m" in _rows(chart)[0]
        assert "\x1b" not in _text(chart)
        await pilot.press("left")
        assert all(chart.render_line(y).cell_length == chart.size.width for y in range(chart.size.height))


async def test_series_differ_without_colour() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("one", smooth=False).extend([0, 100], [0, 1])
        chart.add_series("two", smooth=False).extend([0, 100], [1, 3])
        await _shown(pilot, chart)
        header, *plot = _rows(chart)
        assert "a one" in header
        assert "b two" in header
        ends = [row.rstrip()[-1:] for row in plot]
        assert "a" in ends
        assert "b" in ends
        chart.series("two").visible = False
        chart.repaint()
        assert "two" not in _rows(chart)[0]


async def test_marks_are_kept_once_and_many_do_not_hide_the_curve() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(1000))
        chart.mark(500, "half", "checkpoint")
        chart.mark(500, "half", "checkpoint")
        await _shown(pilot, chart)
        assert len(chart.marks) == 1
        assert _text(chart).count("┊") > 5
        for x in range(1000):
            chart.mark(x, "", "sample")
        await _shown(pilot, chart)
        assert "┊" not in _text(chart)
        assert _rows(chart)[-2].count("▪") > 50


async def test_only_rows_that_changed_are_painted_again() -> None:
    app = ChartApp()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.chart
        loss = chart.add_series("loss")
        loss.extend(*_loss(990))
        await _shown(pilot, chart)
        for y in range(chart.size.height):
            chart.render_line(y)
        before = list(chart._strip_rows)
        loss.extend(*_loss(1, 991))
        chart.repaint()
        kept = sum(new is old for new, old in zip(chart._strip_rows, before, strict=True))
        assert kept >= chart.size.height // 2
        assert chart._strip_rows[0] is None  # the legend shows the new value


async def test_another_theme_repaints() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(100))
        await _shown(pilot, chart)
        before = {segment.style for segment in chart.render_line(5)}
        app.theme = "textual-light"
        await pilot.pause()
        assert {segment.style for segment in chart.render_line(5)} != before


async def test_focus_is_visible_and_tab_passes_through() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        border = app.chart.styles.border_top
        await pilot.press("tab")
        assert isinstance(app.focused, Button)
        assert app.chart.styles.border_top != border


async def test_without_colour_the_smoothed_line_is_bold_and_the_raw_one_dim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.chart
        chart.add_series("loss").extend(*_loss(2000))
        await _shown(pilot, chart)
        styles = [s.style for y in range(1, chart.size.height) for s in chart.render_line(y) if s.style]
        assert any(style.dim for style in styles)
        assert any(style.bold for style in styles)


async def test_keys_can_be_remapped() -> None:
    app = ChartApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.set_keymap({"chart.pause": "x"})
        await pilot.press("p")
        assert not app.chart.paused
        await pilot.press("x")
        assert app.chart.paused


def test_every_binding_is_named_explained_and_unique() -> None:
    bindings = [b for b in Chart.BINDINGS if isinstance(b, Binding)]
    assert len({b.id for b in bindings}) == len(bindings)
    assert all(b.id and b.id.startswith("chart.") and b.tooltip for b in bindings)
    assert 3 <= sum(b.show for b in bindings) <= 5
    assert "##" in Chart.HELP
