"""Masks: which places of a picture count in the loss.

A mask is a picture of its own (white is learned, black is not) or the transparency of the picture
itself. It goes the way of its picture - upright, mirrored, scaled, cropped - and then down to the
latent grid by the nearest pixel, as in ai-toolkit (``toolkit/dataloader_mixins.py``), with one
difference: ai-toolkit blurs a mask by a random radius each time it is read; this is left out, so that
a run can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from backend.trainer.pictures import (
    CELL,
    EXTENSIONS,
    Framing,
    PictureError,
    file_hash,
    open_alpha,
    open_grey,
    picture_size,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_PREFERENCE = (".jpg", ".jpeg", ".png", ".webp")
_ODD = 0.02  # how far a mask's proportions may be from its picture's before somebody should look


@dataclass(frozen=True, slots=True)
class Mask:
    """Where a picture's mask comes from, and how it is read.

    Attributes:
        path: The mask's file; the picture's own when its transparency is the mask.
        alpha: Whether the transparency is the mask.
        inverted: Whether black and white change places.
        least: Weight of black, 0..1.
    """

    path: Path
    alpha: bool = False
    inverted: bool = False
    least: float = 0.0

    def content(self) -> str:
        """What tells this mask from any other.

        Raises:
            PictureError: The file cannot be read.
        """
        try:
            return f"{file_hash(self.path)} {self.alpha} {self.inverted} {self.least}"
        except PictureError as error:
            raise self._named(error) from None

    def open(self) -> Image | None:
        """The mask as brightness; None where the picture has no transparency to serve as one.

        Raises:
            PictureError: It is damaged.
        """
        from PIL import ImageOps

        try:
            image = open_alpha(self.path) if self.alpha else open_grey(self.path)
        except PictureError as error:
            raise self._named(error) from None
        return ImageOps.invert(image) if image is not None and self.inverted else image

    def _named(self, error: PictureError) -> PictureError:
        return error if self.alpha else PictureError(f"has a mask, {self.path}, that {error}")


def mask_weights(image: Image, size: tuple[int, int], framing: Framing, least: float) -> torch.Tensor:
    """How much each latent cell of a picture counts.

    Args:
        image: The mask as brightness.
        size: Width and height of its picture; a mask of another size is stretched over it.
        framing: How the picture is framed.
        least: Weight of black.

    Returns:
        float32 ``[1, height/8, width/8]`` in ``least``..1.

    Raises:
        PictureError: Nothing in it counts.
    """
    import numpy as np

    values = torch.from_numpy(np.array(framing.apply(image, size), dtype=np.uint8))
    cells = values[::CELL, ::CELL].to(torch.float32).div_(255.0)  # the nearest pixel, as torch counts
    weights = cells.mul_(1.0 - least).add_(least)[None].contiguous()
    if not weights.any():
        raise PictureError("has a mask that is black all over: nothing of it would be learned")
    return weights


class MaskFolder:
    """Finds the masks of pictures in a folder: the same place and stem, or the same stem at its top.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, Path] = {}
        files = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS]
        files.sort(key=lambda path: (_PREFERENCE.index(path.suffix.lower()), path))
        for path in files:
            self._found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)

    def find(self, relative: Path) -> Path | None:
        """The mask of the picture at ``relative`` to its dataset's folder, or None."""
        return self._found.get(relative.with_suffix("").as_posix()) or self._found.get(relative.stem)


def is_stretched(mask: Path, size: tuple[int, int]) -> bool:
    """Whether a mask's proportions are clearly not those of its picture of ``size``.

    Raises:
        PictureError: The mask is no picture.
    """
    width, height = picture_size(mask)
    return abs(width * size[1] / (height * size[0]) - 1) > _ODD
