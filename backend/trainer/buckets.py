"""Which shape a picture is trained in: multi-resolution aspect-ratio buckets.

Three ways of choosing:

``new`` is that of ai-toolkit since May 2026 (``toolkit/buckets.py``): of the shapes with sides
divisible by 32 around the picture's own proportions, the one whose area is nearest to
``min(width * height, resolution ** 2)`` without exceeding ``resolution ** 2``.

``sdxl`` is ai-toolkit's older one: the shapes of SDXL's multi-aspect training (the SDXL paper's appendix I,
and two ribbons), scaled to the resolution and floored to multiples of 64; the one that loses the fewest
pixels to the crop is taken.

``square`` (``buckets: false``) is the resolution's square, whatever the picture; small ones are enlarged.

Pictures are scaled to cover the shape and cropped. In buckets they are never enlarged by more than the
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from typing import Literal, NamedTuple

DIVISIBILITY = 32  # FLUX: 8 (VAE) x 2 (2x2 packing) x 2 (as ai-toolkit)
_SDXL_DIVISIBILITY = 64
_SDXL_BASE = 1024
_SDXL_WIDE = (
    (1024, 960), (1088, 960), (1088, 896), (1152, 896), (1152, 832), (1216, 832), (1280, 768),
    (1344, 768), (1344, 704), (1408, 704), (1472, 704), (1536, 640), (1600, 640), (1664, 576),
    (1728, 576), (1792, 576), (1856, 512), (1920, 512), (1984, 512), (2048, 512), (8192, 128),
)  # fmt: skip

BucketKind = Literal["new", "sdxl", "square"]


class Bucket(NamedTuple):
    """A training shape in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def bucket_for(width: int, height: int, resolution: int, divisibility: int = DIVISIBILITY) -> Bucket:
    """The bucket of a picture of ``width`` x ``height`` pixels at ``resolution``.

    Args:
        width: Width in pixels, after EXIF rotation.
        height: Height in pixels.
        resolution: Edge of the square whose area is the most that is used.
        divisibility: Both sides become multiples of this.
    """
    most = max(resolution, divisibility) ** 2
    target = min(width * height, most)
    scale = math.sqrt(target / (width * height))
    shapes = [
        Bucket(columns * divisibility, rows * divisibility)
        for columns in _around(width * scale / divisibility)
        for rows in _around(height * scale / divisibility)
    ]
    fitting = [shape for shape in shapes if shape.width * shape.height <= most]
    if fitting:
        return min(fitting, key=lambda shape: abs(shape.width * shape.height - target))
    # A ribbon whose short side had to grow to one unit: give up length instead.
    longest = most // divisibility**2 * divisibility
    return Bucket(longest, divisibility) if width >= height else Bucket(divisibility, longest)


def _around(units: float) -> tuple[int, ...]:
    low, high = max(1, math.floor(units)), max(1, math.ceil(units))
    return (low,) if low == high else (low, high)


def sdxl_bucket(width: int, height: int, resolution: int) -> Bucket:
    """The bucket of a picture of ``width`` x ``height`` pixels in SDXL's list, scaled to ``resolution``."""
    edge = min(resolution, math.isqrt(width * height))

    def lost(shape: Bucket) -> int:
        scale = max(shape.width / width, shape.height / height)
        covered_width, covered_height = int(width * scale), int(height * scale)
        return (covered_width - shape.width) * covered_height + (
            covered_height - shape.height
        ) * covered_width

    # Landscape and portrait mirror each other; the first of equals wins, as in the list's order.
    return min(_sdxl_shapes(edge), key=lost)


@cache
def _sdxl_shapes(edge: int) -> tuple[Bucket, ...]:
    def scaled(side: int) -> int:
        pixels = side * edge // _SDXL_BASE
        return max(_SDXL_DIVISIBILITY, pixels - pixels % _SDXL_DIVISIBILITY)

    wide = [Bucket(scaled(width), scaled(height)) for width, height in _SDXL_WIDE]
    square = Bucket(scaled(_SDXL_BASE), scaled(_SDXL_BASE))
    return (square, *wide, *(Bucket(shape.height, shape.width) for shape in wide))


def square_bucket(resolution: int) -> Bucket:
    """The square of ``resolution``, in multiples of 32."""
    side = max(DIVISIBILITY, resolution // DIVISIBILITY * DIVISIBILITY)
    return Bucket(side, side)


def buckets_for(
    width: int, height: int, resolutions: Iterable[int], kind: BucketKind = "new"
) -> list[Bucket]:
    """The distinct buckets of one picture over several resolutions, smallest first.

    A resolution at which the picture is not scaled down any more than at a smaller one is dropped:
    ai-toolkit would train a 600x800 picture twice at 608x800 for ``[768, 1024]``.
    """
    found: list[Bucket] = []
    for resolution in sorted(set(resolutions)):
        match kind:
            case "new":
                bucket = bucket_for(width, height, resolution)
            case "sdxl":
                bucket = sdxl_bucket(width, height, resolution)
            case "square":
                bucket = square_bucket(resolution)
        if bucket not in found:
            found.append(bucket)
        if resolution**2 >= width * height:
            break  # larger resolutions would use every pixel too
    return found


def cover_size(width: int, height: int, bucket: Bucket) -> tuple[int, int]:
    """Size to which a picture is scaled so that it covers ``bucket``, proportions kept."""
    scale = max(bucket.width / width, bucket.height / height)
    return max(bucket.width, round(width * scale)), max(bucket.height, round(height * scale))
