"""The pixels of framed pictures as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from backend.trainer.buckets import Bucket
from backend.trainer.pictures import Framing

if TYPE_CHECKING:
    from PIL.Image import Image


def pixels_of(image: Image, bucket: Bucket) -> torch.Tensor:
    """An RGB picture scaled to cover ``bucket`` (bicubic) and centre-cropped.

    Returns:
        float32 tensor ``[3, bucket.height, bucket.width]`` in -1..1.
    """
    return framed_pixels(image, Framing(bucket))


def framed_pixels(image: Image, framing: Framing) -> torch.Tensor:
    """The pixels of a framed RGB picture: float32 ``[3, height, width]`` in -1..1."""
    values = torch.from_numpy(np.array(framing.apply(image), dtype=np.uint8))
    return values.permute(2, 0, 1).to(torch.float32).div_(127.5).sub_(1.0).contiguous()
