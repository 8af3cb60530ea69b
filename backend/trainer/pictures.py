"""Reading pictures: size, identity, and how they are framed for a bucket. Without torch."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from backend.trainer.buckets import Bucket, cover_size

if TYPE_CHECKING:
    from PIL.Image import Image

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
CELL = 8  # pixels along a side of what one latent value stands for
_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})

Flip = Literal["", "x", "y", "xy"]
"""How a copy of a picture is mirrored: left to right (x), top to bottom (y), both or not at all."""


class PictureError(Exception):
    """A picture cannot be used; the message says why, without the path."""


class Header(NamedTuple):
    """What a picture's header says: size in pixels after EXIF rotation, and frames if it is animated."""

    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Framing:
    """How a picture is brought into shape: scaled to cover the bucket, mirrored, cropped.

    Attributes:
        bucket: The shape in which it is trained.
        flip: Which copy of it.
        whole: Keep all that lies over the bucket's edge, in whole latent cells; training then crops at a
            random place. Else the middle is cut out.
    """

    bucket: Bucket
    flip: Flip = ""
    whole: bool = False

    def kept(self, width: int, height: int) -> tuple[int, int]:
        """Size in pixels of what is kept of a picture of ``width`` x ``height``."""
        if not self.whole:
            return self.bucket
        covering = cover_size(width, height, self.bucket)
        return covering[0] // CELL * CELL, covering[1] // CELL * CELL

    def apply(self, image: Image, size: tuple[int, int] | None = None) -> Image:
        """The framed picture (resized bicubically); ``size`` is the picture's for its mask, else its own."""
        from PIL import Image as Pillow

        size = size or image.size
        covering = cover_size(*size, self.bucket)
        if image.size != covering:
            image = image.resize(covering, Pillow.Resampling.BICUBIC)
        if "x" in self.flip:
            image = image.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
        if "y" in self.flip:
            image = image.transpose(Pillow.Transpose.FLIP_TOP_BOTTOM)
        width, height = self.kept(*size)
        left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
        return image.crop((left, top, left + width, top + height))


def picture_header(path: Path) -> Header:
    """Read a picture's header alone.

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
            # A camera's MPO holds the same view twice: no animation.
            frames = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise PictureError(_why(error)) from None
    return Header(height, width, frames) if sideways else Header(width, height, frames)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels after EXIF rotation, from the header alone.

    Raises:
        PictureError: It is no picture, or cannot be read.
    """
    header = picture_header(path)
    return header.width, header.height


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
    """The whole picture in memory, upright (EXIF) and RGB; of an animation the first frame.

    Transparency is dropped without a background, as ai-toolkit does: what colour lies under it shows.

    Raises:
        PictureError: It is damaged, truncated or unreasonably large.
    """
    upright = _decoded(path)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def open_grey(path: Path) -> Image:
    """The whole picture in memory, upright (EXIF), as 8-bit brightness (Pillow's ``L``).

    Raises:
        PictureError: It is damaged, truncated or unreasonably large.
    """
    return _decoded(path).convert("L")


def open_alpha(path: Path) -> Image | None:
    """The picture's opacity (``L``, 255 is opaque), upright; None if it has no transparency.

    Raises:
        PictureError: It is damaged, truncated or unreasonably large.
    """
    image = _decoded(path)
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def _decoded(path: Path) -> Image:
    """The picture in memory, upright, in its own mode; 16-bit greys come down to 8."""
    from PIL import Image, ImageOps

    try:
        with _quietly(), Image.open(path) as file:
            upright: Image.Image = ImageOps.exif_transpose(file)
            upright.load()
            if upright.mode == "I" or upright.mode.startswith("I;16"):
                return _eight_bits(upright)
            return upright
    except Exception as error:
        raise PictureError(_why(error)) from None


def _eight_bits(image: Image) -> Image:
    """The upper 8 of 16 bits: Pillow's own conversion would clip all above 255 to white."""
    import numpy as np
    from PIL import Image as Pillow

    values = np.asarray(image).astype(np.int64)
    return Pillow.fromarray((values >> 8).clip(0, 255).astype(np.uint8))


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
