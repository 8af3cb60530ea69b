"""What a picture's header says, without decoding its pixels."""

from __future__ import annotations

import mmap
import os
import re
import warnings
from pathlib import Path
from typing import NamedTuple

from backend.datasets.errors import DatasetError, reason

_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
_MOST_PIXELS = 178_956_970  # above this Pillow refuses to decode: twice its MAX_IMAGE_PIXELS
_JPEG_MARK = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # not those within a scan's data: a zero, a restart
_JPEG_END = 0xD9


class HeaderError(DatasetError):
    """A picture's header cannot be read; the message is a clause about the file, without its path."""


class Header(NamedTuple):
    """A picture as its header describes it.

    Attributes:
        format: Pillow's name of the format: JPEG, PNG, WEBP, ...
        width: Width in pixels, upright.
        height: Height in pixels, upright.
        mode: Pillow's colour mode: RGB, RGBA, CMYK, L, P, ...
        orientation: EXIF orientation, 1 (upright) to 8.
        frames: Pictures in it; above 1 it is animated.
        alpha: Whether it has transparency.
        truncated: Whether the file ends before the picture does.
    """

    format: str
    width: int
    height: int
    mode: str
    orientation: int = 1
    frames: int = 1
    alpha: bool = False
    truncated: bool = False


def read_header(path: Path) -> Header:
    """Read a picture's header and the end of its file.

    Raises:
        HeaderError: It is empty, no picture, has too many pixels, or cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise HeaderError("is empty: it has 0 bytes")
            with Image.open(file) as image:
                width, height = image.size
                if width * height > _MOST_PIXELS:
                    raise HeaderError(_bomb(width, height))
                # Without EXIF ahead of its pixels, Pillow would decode a whole PNG to look behind them.
                look = image.format != "PNG" or "exif" in image.info
                orientation = image.getexif().get(_ORIENTATION, 1) if look else 1
                name = image.format or "?"
                frames = 1 if name in ("MPO", "JPEG") else int(getattr(image, "n_frames", 1))
                alpha = image.has_transparency_data
                mode = image.mode
            truncated = _truncated(file.fileno(), name, size)
    except HeaderError:
        raise
    except UnidentifiedImageError:
        raise HeaderError("is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise HeaderError(_bomb(0, 0)) from None
    except OSError as error:
        if _is_cut_webp(path):  # its decoder wants all of it
            raise HeaderError("is truncated: its end is missing") from None
        raise HeaderError(f"cannot be read ({reason(error)})") from None
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise HeaderError(f"is damaged ({str(error) or type(error).__name__})") from None
    if orientation not in range(1, 9):
        orientation = 1
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Header(name, width, height, mode, orientation, frames, alpha, truncated)


def _bomb(width: int, height: int) -> str:
    size = f"{width}x{height} pixels, more" if width else "more pixels"
    return f"has {size} than can be trusted (179 million)"


def _is_cut_webp(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(12)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    return start[:4] == b"RIFF" and start[8:] == b"WEBP" and int.from_bytes(start[4:8], "little") + 8 > size


def _truncated(descriptor: int, name: str, size: int) -> bool:
    """Whether the end mark of the format is missing: JPEG's EOI, PNG's IEND, WebP's length."""
    if name == "WEBP":
        start = _at(descriptor, 0, 12)
        return int.from_bytes(start[4:8], "little") + 8 > size
    tail = _at(descriptor, max(0, size - 4096), 4096)
    if name in ("JPEG", "MPO"):
        return b"\xff\xd9" not in tail and not _jpeg_ends(descriptor)
    if name == "PNG":
        return b"IEND" not in tail
    return False


def _jpeg_ends(descriptor: int) -> bool:
    """Whether a JPEG's end mark stands somewhere before the file's end: phones append a film to a picture.

    Its segments are skipped by their lengths, for a thumbnail among them has an end mark too.
    """
    os.lseek(descriptor, 0, os.SEEK_SET)
    with (
        os.fdopen(os.dup(descriptor), "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw,
    ):
        at = 2  # after the start mark
        while (mark := _JPEG_MARK.search(raw, at)) is not None:
            kind, at = raw[mark.end() - 1], mark.end()
            if kind == _JPEG_END:
                return True
            at += int.from_bytes(raw[at : at + 2])
    return False


def _at(descriptor: int, offset: int, count: int) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)
