"""Which part of a picture is trained in which bucket: the trainer's own arithmetic, for a preview."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backend.datasets.sidecar import Box
from backend.trainer.buckets import Bucket, BucketKind, buckets_for, cover_size

__all__ = ["Bucket", "BucketKind", "Frame", "frames"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture in one bucket.

    Attributes:
        bucket: The shape in which it is trained.
        box: Left, top, right, bottom of what is seen, in pixels of the whole upright picture; fractions
            because the cut is made after scaling.
        scale: Factor by which it is scaled; above 1 it is enlarged.
    """

    bucket: Bucket
    box: tuple[float, float, float, float]
    scale: float


def frames(
    width: int, height: int, resolutions: Iterable[int], kind: BucketKind = "new", crop: Box | None = None
) -> list[Frame]:
    """The frames in which the trainer sees a picture, smallest first (without ``random_crop``).

    Args:
        width: Width in pixels, upright.
        height: Height in pixels, upright.
        resolutions: ``datasets.resolution``.
        kind: ``datasets.bucket_algorithm``, or ``square`` for ``buckets: false``.
        crop: The crop of its sidecar; one that does not fit the picture is not used, as in the trainer.
    """
    left = top = 0
    if crop is not None and crop.fits(width, height):
        left, top, width, height = crop
    found = []
    for bucket in buckets_for(width, height, resolutions, kind):
        covering = cover_size(width, height, bucket)
        x, y = (covering[0] - bucket.width) // 2, (covering[1] - bucket.height) // 2
        across, down = width / covering[0], height / covering[1]
        box = (
            left + x * across,
            top + y * down,
            left + (x + bucket.width) * across,
            top + (y + bucket.height) * down,
        )
        found.append(Frame(bucket, box, covering[0] / width))
    return found
