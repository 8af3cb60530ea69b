"""Shapes that are measured, and the arithmetic that a step on them takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

TEXT_TOKENS = 512
PATCH = 16  # pixels of a token's side

# FLUX.1-dev (its transformer/config.json): 11.9 billion weights.
FLUX_DEV: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}


def small(width: int, double: int, single: int, head: int = 32) -> dict[str, Any]:
    """A FLUX of the same build for a CPU, ``width`` wide, with so many double and single blocks."""
    return FLUX_DEV | {
        "num_layers": double,
        "num_single_layers": single,
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": width,
        "pooled_projection_dim": width // 2,
        "axes_dims_rope": (head // 4, head * 3 // 8, head * 3 // 8),
    }


def image_tokens(width: int, height: int) -> int:
    """Tokens of a picture of so many pixels."""
    return (width // PATCH) * (height // PATCH)


def step_flops(config: dict[str, Any], image: int, text: int = TEXT_TOKENS, batch: int = 1) -> float:
    """Floating-point operations that a LoRA's step cannot avoid: base model only, nothing recomputed.

    Each linear layer of the frozen model takes part twice, forward and for its input's gradient, with 2
    operations a weight and token; of a double block a token sees one stream's weights. Attention takes
    ``4 n^2 width`` forward and 2.5 times as much backward (five products instead of two; FlashAttention-2,
    Dao 2023). The modulation layers, once a picture, and the LoRA, under 1 %, are left out.

    Args:
        config: The transformer's config.
        image: Tokens of a picture.
        text: Tokens of a text.
        batch: Pictures.
    """
    width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    double, single = int(config["num_layers"]), int(config["num_single_layers"])
    tokens = image + text
    square = width * width
    weights = (double * 12 + single * 12) * square  # 4 + 8 of a stream; 3 + 4 + 5 of a single block
    linear = 2.0 * weights * tokens * 2
    attention = (double + single) * 4.0 * tokens * tokens * width * 3.5
    return batch * (linear + attention)


@torch.no_grad()
def random_transformer(
    config: dict[str, Any], device: torch.device, dtype: torch.dtype, seed: int = 0
) -> FluxTransformer2DModel:
    """A transformer of random weights, made where it stays: 12 billion weights take a second on a GPU.

    Weights are normal with a deviation of ``1 / sqrt(inputs)``, so activations keep their size; norms
    are 1.
    """
    from diffusers import FluxTransformer2DModel

    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            model = FluxTransformer2DModel.from_config(config)
    finally:
        torch.set_default_dtype(usual)
    if device.type == "meta":
        return model.requires_grad_(False)
    model = model.to_empty(device=device)
    generator = torch.Generator(device=device).manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        else:
            parameter.zero_()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and "norm" in name and name.endswith(".weight"):
            parameter.fill_(1.0)
    return model.requires_grad_(False)
