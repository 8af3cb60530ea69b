"""Small pictures at the size at which they are shown, in memory and on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from backend.datasets.errors import DatasetError, reason
from backend.datasets.sidecar import Box
from backend.files import atomic_file
from backend.home import cache_dir

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITY = 88
_PRUNE_EVERY = 256  # new files on disk between two looks at how much there is
_DECODERS = 2  # pictures decoded at the same time
_MOST = 64_000_000  # pixels that are decoded for a thumbnail, at the fraction that the format offers: 192 MB
_LARGE = 8_000_000  # pixels from which on one is decoded at a time
_large = threading.Lock()


class ThumbnailError(DatasetError):
    """A picture cannot be shown; the message is a clause about the file, without its path."""


class Thumbnails:
    """Makes and keeps thumbnails. Threads may share it: call :meth:`get` in workers.

    Args:
        root: Where they are kept on disk; the app's cache if None.
        memory: Bytes of pixels that are kept in memory, the last used.
        disk: Bytes that are kept on disk, the last used.
    """

    def __init__(
        self, root: Path | None = None, *, memory: int = 64 * 2**20, disk: int = 256 * 2**20
    ) -> None:
        self._root = root or cache_dir() / "thumbnails"
        self._memory, self._disk = memory, disk
        self._kept: OrderedDict[str, Image] = OrderedDict()
        self._bytes = 0
        self._written = 0
        self._lock = threading.Lock()
        self._decoders = threading.BoundedSemaphore(_DECODERS)

    def get(self, path: Path, width: int, height: int, crop: Box | None = None) -> Image:
        """An RGB picture, upright, proportions kept, at most ``width`` x ``height`` pixels.

        Args:
            path: The picture.
            width: Most columns.
            height: Most rows.
            crop: The part of the upright picture that is shown; None for all.

        Raises:
            ThumbnailError: It cannot be read, is damaged, or has too many pixels.
        """
        from PIL import Image

        key = self._key(path, width, height, crop)
        with self._lock:
            image = self._kept.get(key)
            if image is not None:
                self._kept.move_to_end(key)
                return image
        file = self._root / key[:2] / f"{key[2:]}.jpg"
        try:
            with Image.open(file) as stored:
                stored.load()
                image = stored.convert("RGB")
            with contextlib.suppress(OSError):
                os.utime(file)
        except Exception:  # not there, or damaged: it is made again
            with self._decoders:
                image = _decode(path, (max(1, width), max(1, height)), crop)
            self._store(file, image)
        self._keep(key, image)
        return image

    def cached(self, path: Path, width: int, height: int, crop: Box | None = None) -> Image | None:
        """The thumbnail if it is in memory; looks at the file's time, reads nothing."""
        try:
            key = self._key(path, width, height, crop)
        except ThumbnailError:
            return None
        with self._lock:
            return self._kept.get(key)

    def clear(self) -> None:
        """Forget what is in memory."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _key(self, path: Path, width: int, height: int, crop: Box | None) -> str:
        try:
            stat = path.stat()
        except OSError as error:
            raise ThumbnailError(f"cannot be read ({reason(error)})") from None
        what = f"\0{stat.st_size} {stat.st_mtime_ns} {width}x{height} {tuple(crop) if crop else ''}"
        return hashlib.sha256(os.fsencode(path) + what.encode()).hexdigest()[:40]

    def _keep(self, key: str, image: Image) -> None:
        size = image.width * image.height * 3
        with self._lock:
            if key in self._kept or size > self._memory:
                return
            self._kept[key] = image
            self._bytes += size
            while self._bytes > self._memory:
                _, old = self._kept.popitem(last=False)
                self._bytes -= old.width * old.height * 3

    def _store(self, file: Path, image: Image) -> None:
        with contextlib.suppress(OSError):  # a full disk: it is made again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as out:
                image.save(out, "JPEG", quality=_QUALITY)
        with self._lock:
            self._written += 1
            prune = self._written % _PRUNE_EVERY == 0
        if prune:
            self._prune()

    def _prune(self) -> None:
        found = []
        for file in self._root.glob("*/*.jpg"):
            with contextlib.suppress(OSError):
                stat = file.stat()
                found.append((stat.st_mtime, stat.st_size, file))
        total = sum(size for _, size, _ in found)
        for _, size, file in sorted(found, key=lambda entry: entry[0]):
            if total <= self._disk:
                return
            with contextlib.suppress(OSError):
                file.unlink()
            total -= size


def _decode(path: Path, most: tuple[int, int], crop: Box | None) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            edge = max(most)
            if crop is None:
                file.draft(None, (edge, edge))  # a JPEG is decoded at a fraction of its size
            pixels = file.width * file.height
            if pixels > _MOST:
                many = f"{pixels / 1e6:.0f} megapixels"
                raise ThumbnailError(f"has {many}, too many to show it small; it trains all the same")
            with _large if pixels > _LARGE else contextlib.nullcontext():
                if crop is None:
                    file.thumbnail((edge, edge), Image.Resampling.BILINEAR, reducing_gap=2.0)
                    image = ImageOps.exif_transpose(file)  # which may swap the sides
                else:
                    image = ImageOps.exif_transpose(file)
                    if crop.fits(*image.size):
                        image = image.crop(crop.corners)
                image = _rgb(image)
                image.thumbnail(most, Image.Resampling.BILINEAR, reducing_gap=2.0)
            return image
    except ThumbnailError:
        raise
    except UnidentifiedImageError:
        raise ThumbnailError("is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise ThumbnailError("has more pixels than can be trusted") from None
    except OSError as error:
        if "truncated" in str(error).lower():
            raise ThumbnailError("is truncated: its end is missing") from None
        raise ThumbnailError(f"cannot be read ({reason(error)})") from None
    except Exception as error:
        raise ThumbnailError(f"is damaged ({str(error) or type(error).__name__})") from None


def _rgb(image: Image) -> Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 256).convert("L")  # 16 bits come down to 8
    return image if image.mode == "RGB" else image.convert("RGB")
