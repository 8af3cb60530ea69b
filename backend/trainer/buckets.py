"""Which shape a picture is trained in: multi-resolution aspect-ratio buckets.

The algorithm is that of ai-toolkit since May 2026 (``toolkit/buckets.py``): of the shapes with sides
divisible by 32 around the picture's own proportions, the one whose area is nearest to
``min(width * height, resolution ** 2)`` without exceeding ``resolution ** 2``. Pictures are
scaled to cover the shape and centre-cropped; they are never enlarged by more than the rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

DIVISIBILITY = 32  # FLUX: 8 (VAE) x 2 (2x2 packing) x 2 (as ai-toolkit)


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


def buckets_for(width: int, height: int, resolutions: Iterable[int]) -> list[Bucket]:
    """The distinct buckets of one picture over several resolutions, smallest first.

    A resolution at which the picture is not scaled down any more than at a smaller one is dropped:
    ai-toolkit would train a 600x800 picture twice at 608x800 for ``[768, 1024]``.
    """
    found: list[Bucket] = []
    for resolution in sorted(set(resolutions)):
        bucket = bucket_for(width, height, resolution)
        if bucket not in found:
            found.append(bucket)
        if resolution**2 >= width * height:
            break  # larger resolutions would use every pixel too
    return found


def cover_size(width: int, height: int, bucket: Bucket) -> tuple[int, int]:
    """Size to which a picture is scaled so that it covers ``bucket``, proportions kept."""
    scale = max(bucket.width / width, bucket.height / height)
    return max(bucket.width, round(width * scale)), max(bucket.height, round(height * scale))
