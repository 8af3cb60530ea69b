"""The demo's pictures: one small fox, drawn again and again.

One subject in one style is what people train a LoRA on most. The fox keeps its shapes and its orange
coat; background, place, size and format change and are named in the captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_Color = tuple[int, int, int]
_Point = tuple[float, float]

_OVERSAMPLING = 4  # drawn larger and scaled down: smooth edges
_COAT, _SHADE, _CREAM, _DARK = (232, 119, 34), (190, 84, 20), (255, 240, 219), (43, 33, 36)
_BACKGROUNDS: dict[str, _Color] = {
    "teal": (24, 128, 128),
    "navy": (30, 44, 96),
    "yellow": (246, 205, 84),
    "mint": (164, 218, 178),
    "violet": (112, 74, 156),
    "grey": (138, 144, 152),
}
_PLACES = {"on the left": 0.36, "in the middle": 0.5, "on the right": 0.64}


@dataclass(frozen=True)
class Emblem:
    """One picture to draw.

    Attributes:
        stem: File name without its extension.
        size: Width and height in pixels.
        background: Name of the background's colour.
        place: Where the head is, one of the captions' phrases.
        scale: Height of the head as a share of the picture's shorter side.
    """

    stem: str
    size: tuple[int, int]
    background: str
    place: str
    scale: float = 0.8

    @property
    def caption(self) -> str:
        """The caption; ``[trigger]`` stands for the trigger word."""
        width, height = self.size
        shape = "square" if width == height else "wide" if width > height else "tall"
        return f"[trigger], a fox head {self.place} of a {shape} {self.background} picture, flat emblem"


_SQUARE, _WIDE, _TALL = (256, 256), (320, 176), (176, 320)

EMBLEMS: tuple[Emblem, ...] = (
    Emblem("fox-01", _SQUARE, "teal", "in the middle"),
    Emblem("fox-02", _SQUARE, "navy", "in the middle", 0.7),
    Emblem("fox-03", _SQUARE, "yellow", "in the middle"),
    Emblem("fox-04", _SQUARE, "mint", "in the middle", 0.75),
    Emblem("fox-05", _SQUARE, "violet", "in the middle", 0.7),
    Emblem("fox-06", _SQUARE, "grey", "in the middle"),
    Emblem("fox-07", _WIDE, "teal", "on the left"),
    Emblem("fox-08", _WIDE, "violet", "on the right"),
    Emblem("fox-09", _WIDE, "navy", "in the middle"),
    Emblem("fox-10", _TALL, "mint", "in the middle"),
    Emblem("fox-11", _TALL, "yellow", "in the middle", 0.75),
    Emblem("fox-12", _TALL, "grey", "in the middle"),
)
"""The dataset, in the order of its file names."""


def draw(emblem: Emblem) -> Image.Image:
    """The picture, RGB, ``emblem.size`` pixels large; the same pixels at every call."""
    from PIL import Image, ImageDraw

    width, height = (side * _OVERSAMPLING for side in emblem.size)
    picture = Image.new("RGB", (width, height), _BACKGROUNDS[emblem.background])
    canvas = ImageDraw.Draw(picture)
    radius = min(width, height) * emblem.scale / 2
    left, top = width * _PLACES[emblem.place], height / 2

    def at(*points: _Point) -> list[_Point]:
        return [(left + x * radius, top + y * radius) for x, y in points]

    def dot(x: float, y: float, size: float) -> list[_Point]:
        return at((x - size, y - size), (x + size, y + size))

    for side in (-1, 1):
        canvas.polygon(at((side * 0.18, -0.42), (side * 0.78, -1.0), (side * 0.95, 0.02)), fill=_SHADE)
        canvas.polygon(at((side * 0.4, -0.46), (side * 0.72, -0.76), (side * 0.8, -0.16)), fill=_DARK)
    canvas.polygon(
        at((-0.95, 0.02), (-0.55, -0.5), (0, -0.58), (0.55, -0.5), (0.95, 0.02), (0, 1.0)), fill=_COAT
    )
    for side in (-1, 1):
        canvas.polygon(
            at((side * 0.95, 0.02), (side * 0.5, 0.02), (side * 0.08, 0.56), (0, 1.0)), fill=_CREAM
        )
        canvas.ellipse(dot(side * 0.36, -0.1, 0.11), fill=_DARK)
    canvas.ellipse(dot(0, 0.86, 0.14), fill=_DARK)
    return picture.resize(emblem.size, Image.Resampling.LANCZOS)
