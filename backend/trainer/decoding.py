"""From the transformer's tokens to a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.trainer.flow import unpack
from backend.trainer.tiling import tiled_if_needed

if TYPE_CHECKING:
    import torch
    from diffusers import FluxPipeline


def tokens_to_latents(pipeline: FluxPipeline, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Tokens ``[1, tokens, 4c]`` of ``height`` x ``width`` pixels as latents ``[1, c, h, w]``."""
    unit = pipeline.vae_scale_factor * 2
    return unpack(tokens, height // unit * 2, width // unit * 2)


def latents_to_pixels(pipeline: FluxPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents ``[1, c, h, w]`` as pixels ``[1, 3, 8h, 8w]``, about -1..1.

    The autoencoder's number format is used: it may differ from the transformer's.
    """
    vae = pipeline.vae
    latents = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    latents = latents.to(vae.dtype)
    pixels: torch.Tensor = tiled_if_needed(vae, lambda: vae.decode(latents, return_dict=False)[0])
    return pixels
