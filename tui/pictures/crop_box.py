"""A crop box on a picture, moved and resized in steps, that never leaves the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

STEP = 1 / 40  # of the picture's longer side, for a coarse step
SMALLEST = 64  # pixels of the box's sides, or the picture's if it is smaller


class Shape(NamedTuple):
    """Proportions that a box can be held to; ``ratio`` is width / height, None for any."""

    name: str
    ratio: float | None


SHAPES = (
    Shape("free", None),
    Shape("1:1", 1.0),
    Shape("4:5", 4 / 5),
    Shape("3:4", 3 / 4),
    Shape("2:3", 2 / 3),
    Shape("9:16", 9 / 16),
    Shape("5:4", 5 / 4),
    Shape("4:3", 4 / 3),
    Shape("3:2", 3 / 2),
    Shape("16:9", 16 / 9),
)


@dataclass(frozen=True)
class CropBox:
    """A box in pixels of the upright picture.

    Attributes:
        picture: Width and height of the picture after EXIF rotation.
        left: Pixels to the left of the box.
        top: Pixels above it.
        width: Of the box.
        height: Of the box.
        shape: The proportions it is held to.
    """

    picture: tuple[int, int]
    left: int
    top: int
    width: int
    height: int
    shape: Shape = SHAPES[0]

    @classmethod
    def whole(cls, picture: tuple[int, int]) -> CropBox:
        """The box that cuts nothing off."""
        return cls(picture, 0, 0, *picture)

    @property
    def is_whole(self) -> bool:
        """Whether it cuts nothing off."""
        return (self.left, self.top, self.width, self.height) == (0, 0, *self.picture)

    def _steps(self, count: int, fine: bool) -> int:
        return count if fine else count * max(1, round(max(self.picture) * STEP))

    def move(self, right: int, down: int, *, fine: bool = False) -> CropBox:
        """Move by steps, one pixel each if ``fine``; the picture's edge stops it."""
        return self._placed(
            self.left + self._steps(right, fine), self.top + self._steps(down, fine), self.width, self.height
        )

    def resize(self, wider: int, taller: int, *, fine: bool = False) -> CropBox:
        """Move the right and the lower edge by steps; a held shape keeps its proportions."""
        ratio = self.shape.ratio
        width = self.width + self._steps(wider, fine)
        height = self.height + self._steps(taller, fine)
        if ratio is not None:
            width, height = (width, round(width / ratio)) if wider else (round(height * ratio), height)
        return self._fitted(self.left, self.top, width, height)

    def zoom(self, steps: int, *, fine: bool = False) -> CropBox:
        """Grow or shrink around its middle by steps, proportions kept."""
        change = self._steps(steps, fine)
        ratio = self.width / self.height
        wide = self.width >= self.height
        width = self.width + 2 * change if wide else round((self.height + 2 * change) * ratio)
        height = round(width / ratio) if wide else self.height + 2 * change
        middle = (self.left + self.width / 2, self.top + self.height / 2)
        sized = self._fitted(self.left, self.top, width, height, ratio)
        return sized._placed(
            round(middle[0] - sized.width / 2), round(middle[1] - sized.height / 2), sized.width, sized.height
        )

    def centre(self) -> CropBox:
        """Put it in the middle of the picture."""
        return self._placed(
            (self.picture[0] - self.width) // 2, (self.picture[1] - self.height) // 2, self.width, self.height
        )

    def next_shape(self, way: int = 1) -> CropBox:
        """Hold it to the next proportions: the largest such box around its middle inside its old one."""
        at = next((i for i, shape in enumerate(SHAPES) if shape.name == self.shape.name), 0)
        return self.with_shape(SHAPES[(at + way) % len(SHAPES)])

    def with_shape(self, shape: Shape) -> CropBox:
        """Hold it to ``shape``: the largest such box in the picture around the box's middle."""
        box = replace(self, shape=shape)
        if shape.ratio is None:
            return box
        most = self.picture
        width = min(most[0], round(most[1] * shape.ratio))
        height = min(most[1], round(width / shape.ratio))
        x, y = self.left + self.width / 2, self.top + self.height / 2
        return box._placed(round(x - width / 2), round(y - height / 2), max(1, width), max(1, height))

    def _fitted(self, left: int, top: int, width: int, height: int, ratio: float | None = None) -> CropBox:
        """At least :data:`SMALLEST`, at most the picture, and in proportion."""
        ratio = ratio or self.shape.ratio
        most = self.picture
        least = (min(SMALLEST, most[0]), min(SMALLEST, most[1]))
        width = max(least[0], min(width, most[0]))
        height = max(least[1], min(height, most[1]))
        if ratio is not None:
            width = min(most[0], max(width, least[0]))
            height = max(1, round(width / ratio))
            if height > most[1]:
                height = most[1]
                width = max(1, min(most[0], round(height * ratio)))
        return self._placed(left, top, width, height)

    def _placed(self, left: int, top: int, width: int, height: int) -> CropBox:
        left = max(0, min(left, self.picture[0] - width))
        top = max(0, min(top, self.picture[1] - height))
        return replace(self, left=left, top=top, width=width, height=height)
