"""What a :class:`~tui.widgets.chart.Chart` tells about itself: its keys, their help, its colours."""

from __future__ import annotations

from textual.binding import Binding, BindingType

HELP = """
## Chart

The dim line is what was measured, the bright line its moving average.

- **+** and **-** zoom (round the crosshair, or at the newest point), **H** and **L** or **shift** with the
  arrows pan, **0** shows everything. The wheel zooms, dragging pans.
- **left** and **right** (or **h** and **l**) move a crosshair that reads the values; a click sets it, **Esc**
  hides it.
- **y** switches to a logarithmic axis, **e** and **E** smooth less and more, **c** keeps a few outliers from
  flattening the rest, **p** holds the picture still.
- `×` marks values that are not finite (or not positive on a log axis), `▴` and `▾` values beyond the axis.
"""  # noqa: RUF001

BINDINGS: list[BindingType] = [
    Binding("plus,equals_sign", "zoom(0.5)", "Zoom in", id="chart.zoom-in", key_display="+",
            tooltip="Show half as much, round the crosshair or the newest point"),
    Binding("minus", "zoom(2.0)", "Zoom out", id="chart.zoom-out", key_display="-", show=False,
            tooltip="Show twice as much"),
    Binding("0", "fit", "Fit", id="chart.fit", tooltip="Show everything, and follow the newest point"),
    Binding("y", "toggle_log", "Log y", id="chart.log-y", tooltip="Logarithmic or linear y axis"),
    Binding("E", "smooth(1)", "Smooth more", id="chart.smooth-more", show=False,
            tooltip="More weight on the past in the moving average"),
    Binding("e", "smooth(-1)", "Smooth less", id="chart.smooth-less", show=False,
            tooltip="Less weight on the past; at the end no average"),
    Binding("right,l", "crosshair(1)", "Crosshair", id="chart.crosshair-right", key_display="←→",
            tooltip="Move the crosshair right and read the values"),
    Binding("left,h", "crosshair(-1)", "Crosshair left", id="chart.crosshair-left", show=False,
            tooltip="Move the crosshair left and read the values"),
    Binding("escape", "hide_crosshair", "Hide crosshair", id="chart.hide-crosshair", show=False,
            tooltip="Hide the crosshair"),
    Binding("H,shift+left", "pan(-0.25)", "Pan left", id="chart.pan-left", show=False,
            tooltip="Show earlier points"),
    Binding("L,shift+right", "pan(0.25)", "Pan right", id="chart.pan-right", show=False,
            tooltip="Show later points; at the end follow them"),
    Binding("p", "toggle_pause", "Pause", id="chart.pause", tooltip="Hold the picture still, or go on"),
    Binding("c", "toggle_clip", "Clip", id="chart.clip", show=False,
            tooltip="Let a few outliers lie beyond the axis, or show all"),
]  # fmt: skip

COMPONENT_CLASSES = {
    "chart--axis",
    "chart--grid",
    "chart--crosshair",
    "chart--mark",
    "chart--mark-line",
    "chart--missing",
    "chart--legend",
    "chart--readout",
    "chart--state",
    "chart--empty",
    *(f"chart--{kind}-{number}" for kind in ("series", "raw") for number in range(1, 7)),
}
CSS = """
Chart {
    width: 1fr;
    height: 1fr;
    border: round $foreground 30%;
    border-title-color: $foreground;
    border-subtitle-color: $text-muted;
    &:focus { border: round $primary; border-title-style: bold; }
    &:nocolor:focus { border: heavy $primary; }
    & > .chart--axis { color: $text-muted; }
    & > .chart--grid { color: $foreground 15%; }
    & > .chart--crosshair { color: $foreground 70%; }
    & > .chart--mark { color: $text-accent; }
    & > .chart--mark-line { color: $accent 40%; }
    & > .chart--missing { color: $text-error; text-style: bold; }
    & > .chart--legend { color: $foreground; }
    & > .chart--readout { color: $foreground; text-style: bold; }
    & > .chart--state { color: $text-muted; }
    & > .chart--empty { color: $text-muted; text-style: italic; }
    & > .chart--series-1 { color: $primary-lighten-2; text-style: bold; }
    & > .chart--series-2 { color: $warning; text-style: bold; }
    & > .chart--series-3 { color: $success; text-style: bold; }
    & > .chart--series-4 { color: $error; text-style: bold; }
    & > .chart--series-5 { color: $accent; text-style: bold; }
    & > .chart--series-6 { color: $foreground; text-style: bold; }
    & > .chart--raw-1 { color: $primary-lighten-2; text-style: dim; }
    & > .chart--raw-2 { color: $warning; text-style: dim; }
    & > .chart--raw-3 { color: $success; text-style: dim; }
    & > .chart--raw-4 { color: $error; text-style: dim; }
    & > .chart--raw-5 { color: $accent; text-style: dim; }
    & > .chart--raw-6 { color: $foreground; text-style: dim; }
}
"""
