"""Which noise levels training draws.

A noise level is sigma in 0..1: the share of noise in ``(1 - sigma) * x0 + sigma * noise``; the
model's timestep is ``1000 * sigma``. As in ai-toolkit (``samplers/custom_flowmatch_sampler.py``) a
table of 1000 descending levels is made for each batch and entries are drawn from it uniformly, the
last one excluded.
"""

from __future__ import annotations

import math

import torch

TABLE_SIZE = 1000


def dynamic_shift_mu(tokens: int) -> float:
    """Exponent of FLUX's resolution-dependent shift for a number of image tokens (H/16 * W/16).

    A line through 0.5 at 256 tokens and 1.15 at 4096: ``calculate_shift`` of diffusers' FluxPipeline,
    after black-forest-labs/flux.
    """
    slope = (1.15 - 0.5) / (4096 - 256)
    return 0.5 + slope * (tokens - 256)


def shift_sigmas(sigmas: torch.Tensor, mu: float) -> torch.Tensor:
    """Move noise levels towards more noise: ``e^mu / (e^mu + 1/sigma - 1)`` (SD3 paper, eq. 23)."""
    factor = math.exp(mu)
    return factor / (factor + (1.0 / sigmas - 1.0))


def sigma_table(kind: str, tokens: int, generator: torch.Generator) -> torch.Tensor:
    """The 1000 noise levels of one batch, descending.

    Args:
        kind: ``sigmoid`` (logit-normal(0, 1), drawn afresh), ``linear`` (uniform) or ``shift`` and its
            synonyms (uniform, then shifted by the number of tokens).
        tokens: Image tokens of a picture.
        generator: Of the draws, on the CPU.

    Returns:
        float32 ``[1000]``, values in 0..1.

    Raises:
        ValueError: The kind is not known.
    """
    if kind == "sigmoid":
        drawn = torch.sigmoid(torch.randn(TABLE_SIZE, generator=generator))
        return drawn.sort(descending=True).values
    linear = torch.linspace(1.0, 1.0 / TABLE_SIZE, TABLE_SIZE)
    if kind == "linear":
        return linear
    if kind in ("shift", "flux_shift", "lumina2_shift"):
        return shift_sigmas(linear, dynamic_shift_mu(tokens))
    raise ValueError(f"unknown timestep_type {kind!r}")


def draw_sigmas(kind: str, count: int, tokens: int, generator: torch.Generator) -> torch.Tensor:
    """Noise levels for ``count`` pictures of ``tokens`` image tokens each: float32 ``[count]``."""
    table = sigma_table(kind, tokens, generator)
    return table[torch.randint(0, TABLE_SIZE - 1, (count,), generator=generator)]
