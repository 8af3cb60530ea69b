"""An autoencoder that works in tiles where a whole picture does not fit the device's memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

T = TypeVar("T")

_TILE = 512  # pixels of a tile's side; neighbours overlap by a quarter and are blended


def tiled_if_needed(vae: AutoencoderKL, work: Callable[[], T]) -> T:
    """What ``work`` gives; if it runs out of memory, once more in tiles, which the autoencoder then keeps to.

    Tiles change a picture a little where they meet, so they are not used where they are not needed.

    Raises:
        torch.OutOfMemoryError: A tile does not fit either.
    """
    try:
        return work()
    except torch.OutOfMemoryError:
        if vae.use_tiling:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    vae.enable_tiling()
    levels = len(vae.config.block_out_channels) - 1
    vae.tile_sample_min_size, vae.tile_latent_min_size = _TILE, _TILE >> levels
    return work()
