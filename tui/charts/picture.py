"""A chart as a picture for papers and messages: SVG and PNG. Imports numpy; PIL only for the latter."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from tui.charts.raster import Columns
from tui.charts.ticks import linear_ticks, log_ticks, tick_labels

WIDTH, HEIGHT = 1200, 675
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 24, 56, 56
PLOT = WIDTH - _LEFT - _RIGHT
"""Columns that a figure's curves should have: one for each pixel of the plot."""

# Okabe & Ito's colours, which people with colour-blindness can tell apart.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_GREY = "#888888"
_SWATCH = 22  # pixels of a line in the legend
_DOT = 3  # radius of a point that stands alone
_DASH = 3  # pixels of a marker's dashes, and between them
_MARKS = {"checkpoint": "#009e73", "resume": "#e69f00", "sample": "#56b4e9", "error": "#d50000"}


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        label: For the legend.
        number: Its colour.
        raw: What was measured, drawn as a band.
        smooth: The moving average, drawn as a line; None draws the middle of the band.
    """

    label: str
    number: int
    raw: Columns
    smooth: Columns | None


@dataclass(frozen=True)
class Figure:
    """What the picture shows.

    Attributes:
        title: Above it.
        x: Left and right edge.
        y: Bottom and top.
        log: Whether y is logarithmic.
        lines: The curves.
        marks: Vertical markers: x, label and kind.
        x_label: What x is.
        y_label: What y is.
    """

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    log: bool
    lines: Sequence[Line]
    marks: Sequence[tuple[float, str, str]] = ()
    x_label: str = ""
    y_label: str = ""

    def place_x(self, x: float) -> float:
        """Pixels from the left."""
        return _LEFT + (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0) * PLOT

    def place_y(self, y: np.ndarray) -> np.ndarray:
        """Pixels from the top, within the plot."""
        (bottom, top), values = self.y, y
        if self.log:
            bottom, top = float(np.log10(bottom)), float(np.log10(top))
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.log10(y)
        share = np.clip((top - values) / ((top - bottom) or 1.0), 0.0, 1.0)
        result: np.ndarray = _TOP + share * (HEIGHT - _TOP - _BOTTOM)
        return result

    def stretches(self, columns: Columns) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The curve without its gaps: x, highest and lowest in pixels."""
        valid = np.flatnonzero(np.isfinite(columns.lo))
        if not len(valid):
            return []
        breaks = np.flatnonzero((np.diff(valid) > 1) | ~columns.joined[valid[1:]]) + 1
        xs = _LEFT + (np.arange(len(columns.lo)) + 0.5) / len(columns.lo) * PLOT
        high, low = self.place_y(columns.hi), self.place_y(columns.lo)
        return [(xs[part], high[part], low[part]) for part in np.split(valid, breaks)]

    def ticks(self) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
        """Pixels and labels of the ticks of x and of y."""
        xs = linear_ticks(*self.x, 10)
        ys = log_ticks(*self.y, 8) if self.log else linear_ticks(*self.y, 8)
        return (
            [(self.place_x(x), label) for x, label in zip(xs, tick_labels(xs), strict=True)],
            [
                (float(self.place_y(np.array([y]))[0]), label)
                for y, label in zip(ys, tick_labels(ys), strict=True)
            ],
        )


def _points(xs: np.ndarray, ys: np.ndarray) -> list[tuple[float, float]]:
    return [(round(x, 1), round(y, 1)) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]


def _shapes(figure: Figure) -> list[tuple[str, str, list[tuple[float, float]]]]:
    """What is to be drawn, from back to front: ``band``, ``line``, ``grid`` or ``mark``, colour, points."""
    shapes: list[tuple[str, str, list[tuple[float, float]]]] = []
    x_ticks, y_ticks = figure.ticks()
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    shapes += [("grid", "#dddddd", [(_LEFT, y), (right, y)]) for y, _ in y_ticks]
    shapes += [("grid", _GREY, [(x, bottom), (x, bottom + 5)]) for x, _ in x_ticks]
    for x, _, kind in figure.marks:
        place = figure.place_x(x)
        if _LEFT <= place <= right:
            shapes.append(("mark", _MARKS.get(kind, _GREY), [(place, _TOP), (place, bottom)]))
    for line in figure.lines:
        colour = _COLOURS[line.number % len(_COLOURS)]
        for xs, high, low in figure.stretches(line.raw):
            edge = _points(xs, high) + _points(xs, low)[::-1]
            shapes.append(("band" if line.smooth is not None else "fill", colour, edge))
    for line in figure.lines:
        colour = _COLOURS[line.number % len(_COLOURS)]
        for xs, high, low in figure.stretches(line.smooth or line.raw):
            shapes.append(("line", colour, _points(xs, (high + low) / 2)))
    shapes.append(("grid", _GREY, [(_LEFT, _TOP), (_LEFT, bottom), (right, bottom)]))
    shapes += [(kind, colour, [(x, 40), (x + _SWATCH, 40)]) for x, kind, colour, _ in _legend(figure)]
    return shapes


def _legend(figure: Figure) -> list[tuple[float, str, str, str]]:
    """``(x of the swatch, its shape, colour, text)`` of every curve, then of every kind of marker."""
    entries = [("line", _COLOURS[line.number % len(_COLOURS)], line.label) for line in figure.lines]
    kinds = dict.fromkeys(kind for x, _, kind in figure.marks if figure.x[0] <= x <= figure.x[1] and kind)
    entries += [("mark", _MARKS.get(kind, _GREY), kind) for kind in kinds]
    legend, x = [], float(_LEFT)
    for shape, colour, text in entries:
        legend.append((x, shape, colour, text))
        x += _SWATCH + 8.5 * (len(text) + 3)
    return legend


def _texts(figure: Figure) -> list[tuple[float, float, str, str, str]]:
    """``(x, y of the middle, anchor, colour, text)``."""
    x_ticks, y_ticks = figure.ticks()
    texts: list[tuple[float, float, str, str, str]] = []
    texts += [(x, HEIGHT - _BOTTOM + 16.0, "middle", "#333333", label) for x, label in x_ticks]
    texts += [(_LEFT - 8, y, "end", "#333333", label) for y, label in y_ticks]
    texts.append((WIDTH / 2, HEIGHT - 14, "middle", "#333333", figure.x_label))
    texts.append((_LEFT, 16, "start", "#000000", figure.title))
    texts += [(x + _SWATCH + 6, 40, "start", "#333333", text) for x, _, _, text in _legend(figure)]
    return texts


def svg(figure: Figure) -> bytes:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="14"><rect width="100%" height="100%" fill="#ffffff"/>'
    ]
    for kind, colour, points in _shapes(figure):
        where = " ".join(f"{x:g},{y:g}" for x, y in points)
        if kind in ("band", "fill"):
            opacity = 0.25 if kind == "band" else 1
            parts.append(
                f'<polygon points="{where}" fill="{colour}" stroke="{colour}" stroke-width="0.5" '
                f'opacity="{opacity}"/>'
            )
        elif len(points) == 1:  # a line of one point would not be seen
            parts.append(f'<circle cx="{points[0][0]:g}" cy="{points[0][1]:g}" r="{_DOT}" fill="{colour}"/>')
        else:
            style = {"line": 'stroke-width="2"', "mark": f'stroke-dasharray="{_DASH} {_DASH}"'}.get(kind, "")
            parts.append(f'<polyline points="{where}" fill="none" stroke="{colour}" {style}/>')
    for x, y, anchor, colour, text in _texts(figure):
        parts.append(
            f'<text x="{x:g}" y="{y + 5:g}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
        )
    parts.append("</svg>\n")
    return "\n".join(parts).encode("utf-8", "replace")


def _dashes(
    start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """A line along one axis in dashes: PIL has none."""
    (x0, y0), (x1, y1) = start, end
    length = max(abs(x1 - x0), abs(y1 - y0), 1.0)
    across, down = (x1 - x0) / length, (y1 - y0) / length
    places = [(at, min(at + _DASH - 1, length)) for at in range(0, int(length) + 1, 2 * _DASH)]
    return [((x0 + across * a, y0 + down * a), (x0 + across * b, y0 + down * b)) for a, b in places]


def png(figure: Figure) -> bytes:
    """The picture as PNG."""
    from PIL import Image, ImageColor, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image, "RGBA")
    for kind, colour, points in _shapes(figure):
        red, green, blue = ImageColor.getrgb(colour)[:3]
        if kind in ("band", "fill") and len(points) > 2:
            draw.polygon(points, fill=(red, green, blue, 64 if kind == "band" else 255))
        elif kind == "mark":
            for dash in _dashes(*points):
                draw.line(dash, fill=(red, green, blue), width=1)
        elif len(points) > 1:
            draw.line(points, fill=(red, green, blue), width=2 if kind == "line" else 1)
        elif points:
            (x, y) = points[0]
            draw.ellipse((x - _DOT, y - _DOT, x + _DOT, y + _DOT), fill=(red, green, blue))
    font = ImageFont.load_default(14)
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    for x, y, anchor, colour, text in _texts(figure):
        draw.text((x, y), text, fill=colour, anchor=anchors[anchor], font=font)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
