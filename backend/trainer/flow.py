"""Flow matching on FLUX's latents: noising, target, token layout, loss.

Latents are ``[batch, channels, height, width]``; the transformer sees tokens
``[batch, height/2 * width/2, 4 * channels]``, each a 2x2 patch.
"""

from __future__ import annotations

import torch

HUBER_C = 0.01  # ai-toolkit's


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Latents ``[b, c, h, w]`` as tokens ``[b, h/2 * w/2, 4c]``; in a token: channel, row, column."""
    b, c, h, w = latents.shape
    patches = latents.view(b, c, h // 2, 2, w // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // 2) * (w // 2), c * 4)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of :func:`pack` for latents of ``height`` x ``width``."""
    b, _, d = tokens.shape
    patches = tokens.view(b, height // 2, width // 2, d // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(b, d // 4, height, width)


def image_ids(height: int, width: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Position of each token of latents ``height`` x ``width``: ``[tokens, 3]`` of (0, row, column)."""
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    ids = torch.stack((torch.zeros_like(rows), rows, columns), dim=-1)
    return ids.reshape(-1, 3).to(device=device, dtype=dtype)


def text_ids(tokens: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Positions of text tokens: zeros ``[tokens, 3]``."""
    return torch.zeros(tokens, 3, device=device, dtype=dtype)


def draw_noise(latents: torch.Tensor, offset: float, generator: torch.Generator) -> torch.Tensor:
    """Noise for ``latents``: N(0, 1), plus ``offset`` times a draw per picture and channel.

    The offset is crosslabs' noise offset (https://www.crosslabs.org/blog/diffusion-with-offset-noise).
    """
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    if offset:
        shape = (*latents.shape[:2], 1, 1)
        noise += offset * torch.randn(shape, generator=generator, device=latents.device)
    return noise


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """``(1 - sigma) * x0 + sigma * noise`` (rectified flow, Liu et al. 2022), one sigma a picture."""
    level = sigmas.view(-1, 1, 1, 1)
    return (1.0 - level) * latents + level * noise


def velocity(latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What the model predicts: ``noise - x0``, the direction from data to noise."""
    return noise - latents


def picture_losses(
    prediction: torch.Tensor,
    target: torch.Tensor,
    *,
    kind: str = "mse",
    weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean error of each picture in float32, ``[b]``.

    Args:
        prediction: ``[b, c, h, w]``.
        target: The same shape.
        kind: ``mse``, ``mae`` or ``pseudo_huber`` (``sqrt(d^2 + c^2) - c`` with c = 0.01; Song & Dhariwal,
            Improved Techniques for Training Consistency Models, 2023).
        weights: Factor on each picture's error, ``[b]``.
        mask: How much each place counts, ``[b, 1, h, w]``; its mean over the batch should be 1.

    Raises:
        ValueError: The kind is not known.
    """
    difference = prediction.float() - target.float()
    if kind == "mse":
        errors = difference.square()
    elif kind == "mae":
        errors = difference.abs()
    elif kind == "pseudo_huber":
        errors = (difference.square() + HUBER_C**2).sqrt() - HUBER_C
    else:
        raise ValueError(f"unknown loss_type {kind!r}")
    if weights is not None:
        errors = errors * weights.view(-1, 1, 1, 1)
    if mask is not None:
        errors = errors * mask
    return errors.mean(dim=(1, 2, 3))


def flow_loss(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error in float32: mean over a picture, then over the batch. A scalar."""
    return picture_losses(prediction, target).mean()
