"""Pictures made of ordinary text: each cell shows two pixels by a half block in two colours."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

if TYPE_CHECKING:
    from PIL import Image

_UPPER_HALF = "▀"
_MAX_PIXELS = 64_000_000  # a larger picture is no sample; decoding it would take the memory


class Frame(NamedTuple):
    """The part of a picture that counts, in fractions of its width and height from the upper left."""

    left: float
    top: float
    right: float
    bottom: float


class PictureError(Exception):
    """A picture cannot be shown; the message says why in a few words."""


def open_picture(path: Path, width: int, height: int) -> Image.Image:
    """Decode a picture, upright, scaled to fit ``width`` x ``height`` pixels, in RGB.

    Takes milliseconds to tenths of a second: call it in a thread.

    Raises:
        PictureError: The file is missing, no picture, damaged or far too large.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise PictureError(f"too large to show ({picture.width} x {picture.height})")
            picture.draft("RGB", (width, height))  # JPEG: decode at a fraction of its size
            ImageOps.exif_transpose(picture, in_place=True)
            scaled = picture.convert("RGB")
    except FileNotFoundError:
        raise PictureError("the file is not here") from None
    except UnidentifiedImageError:
        raise PictureError("the file is no picture") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise PictureError("the file cannot be read") from error
    ratio = min(width / scaled.width, height / scaled.height)
    target = (max(1, round(scaled.width * ratio)), max(1, round(scaled.height * ratio)))
    return scaled.resize(target, Image.Resampling.LANCZOS)


def framed(picture: Image.Image, frame: Frame | None) -> Image.Image:
    """The picture with what lies outside ``frame`` darkened, and a line around it.

    The darkening shows without colour too.
    """
    if frame is None or frame == (0, 0, 1, 1):
        return picture
    from PIL import Image, ImageDraw

    width, height = picture.size
    left, right = round(frame.left * width), max(1, round(frame.right * width))
    top, bottom = round(frame.top * height), max(1, round(frame.bottom * height))
    out = Image.blend(picture, Image.new("RGB", picture.size), 0.7)
    out.paste(picture.crop((left, top, right, bottom)), (left, top))
    line = max(1, max(picture.size) // 300)
    ImageDraw.Draw(out).rectangle((left, top, right - 1, bottom - 1), outline=(255, 214, 64), width=line)
    return out


def half_cells(path: Path, width: int, height: int) -> list[Strip]:
    """A picture as lines of text that fit into ``width`` x ``height`` cells.

    Raises:
        PictureError: See :func:`open_picture`.
    """
    if width < 1 or height < 1:
        return []
    return cells_of(open_picture(path, width, height * 2))


def cells_of(picture: Image.Image) -> list[Strip]:
    """A small RGB picture as lines of text: a cell for each column and each two rows of its pixels."""
    columns, rows = picture.size
    data = picture.tobytes()
    strips = []
    for top in range(0, rows, 2):
        row = 3 * top * columns
        upper, lower = data[row : row + 3 * columns], data[row + 3 * columns : row + 6 * columns]
        line = []
        start = 0
        for x in range(1, columns + 1):
            here, before = slice(3 * x, 3 * x + 3), slice(3 * start, 3 * start + 3)
            if x < columns and upper[here] == upper[before] and lower[here] == lower[before]:
                continue  # one segment for a run of cells that are alike
            below = Color.from_rgb(*lower[before]) if lower else None
            style = Style.from_color(Color.from_rgb(*upper[before]), below)
            line.append(Segment(_UPPER_HALF * (x - start), style))
            start = x
        strips.append(Strip(line, columns))
    return strips
