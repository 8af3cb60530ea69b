"""Reading pictures: size, identity, and the pixels of a bucket."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from backend.trainer.buckets import Bucket, cover_size

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})


class PictureError(Exception):
    """A picture cannot be used; the message says why, without the path."""


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels after EXIF rotation, from the header alone.

    Raises:
        PictureError: It is no picture, or cannot be read.
    """
    from PIL import Image

    try:
        with _quietly(), Image.open(path) as image:
            width, height = image.size
            # Without EXIF ahead of its pixels, Pillow would decode a whole PNG to look behind them.
            look = image.format != "PNG" or "exif" in image.info
            sideways = look and image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise PictureError(_why(error)) from None
    return (height, width) if sideways else (width, height)


def file_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex.

    Raises:
        PictureError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(_why(error)) from None


def open_picture(path: Path) -> Image:
    """The whole picture in memory, upright (EXIF) and RGB.

    Raises:
        PictureError: It is damaged, truncated or unreasonably large.
    """
    from PIL import Image, ImageOps

    try:
        with _quietly(), Image.open(path) as file:
            upright: Image.Image = ImageOps.exif_transpose(file).convert("RGB")
    except Exception as error:
        raise PictureError(_why(error)) from None
    return upright


def pixels_of(image: Image, bucket: Bucket) -> torch.Tensor:
    """An RGB picture scaled to cover ``bucket`` (bicubic) and centre-cropped.

    Returns:
        float32 tensor ``[3, bucket.height, bucket.width]`` in -1..1.
    """
    import numpy as np
    import torch
    from PIL import Image as Pillow

    size = cover_size(*image.size, bucket)
    if image.size != size:
        image = image.resize(size, Pillow.Resampling.BICUBIC)
    left, top = (size[0] - bucket.width) // 2, (size[1] - bucket.height) // 2
    fitted = image.crop((left, top, left + bucket.width, top + bucket.height))
    values = torch.from_numpy(np.array(fitted, dtype=np.uint8))
    return values.permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1.0).contiguous()


def _quietly() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")


def _why(error: Exception) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "is not a picture that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return "has more pixels than can be trusted (over 178 million)"
    if isinstance(error, OSError) and "truncated" in str(error).lower():
        return "is truncated: its end is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is damaged ({str(error) or type(error).__name__})"
