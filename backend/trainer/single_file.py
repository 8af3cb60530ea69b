"""Loading a transformer or an autoencoder from one .safetensors file, as fine-tunes are shared.

The names in it may be Black Forest Labs' own (with ComfyUI's ``model.diffusion_model.`` in front or
not) or diffusers'; diffusers does the renaming. What the model is like is read off the file itself, so
nothing has to be downloaded to know it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.trainer.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, FluxTransformer2DModel

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
_CHANNELS = 64  # of a token: 16 latent channels in patches of 2 x 2

# FLUX.1's (transformer/config.json of FLUX.1-dev); what a file shows replaces it.
_CONFIG: dict[str, Any] = {
    "_class_name": "FluxTransformer2DModel",
    "attention_head_dim": 128,
    "axes_dims_rope": [16, 56, 56],
    "guidance_embeds": True,
    "in_channels": _CHANNELS,
    "joint_attention_dim": 4096,
    "num_attention_heads": 24,
    "num_layers": 19,
    "num_single_layers": 38,
    "patch_size": 1,
    "pooled_projection_dim": 768,
}


def load_transformer_file(path: Path, *, beside: Any, dtype: torch.dtype) -> FluxTransformer2DModel:
    """Load a FLUX.1 transformer from a file.

    Args:
        path: The .safetensors file.
        beside: The transformer's config of the model whose other parts are used, if it is known.
        dtype: Number format to load it in.

    Raises:
        TrainingError: It is no FLUX.1 transformer.
    """
    from diffusers import FluxTransformer2DModel
    from safetensors.torch import load_file

    tensors = without_scales(without_prefix(load_file(path)), dtype)
    known = beside if isinstance(beside, dict) else {}
    config = transformer_config({name: tuple(tensor.shape) for name, tensor in tensors.items()}, known)
    if config is None:
        raise TrainingError(
            f"{path} is not the transformer of a FLUX.1 model; only FLUX.1 can be trained",
            "unsupported_model",
            bad_input=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        model: FluxTransformer2DModel = FluxTransformer2DModel.from_single_file(
            tensors, config=folder, dtype=dtype, local_files_only=True
        )
    for parameter in model.parameters():  # a copy of what is still in the file, which may be replaced
        parameter.data = parameter.data.clone()
    return model


def load_vae_file(path: Path, *, config: Path, dtype: torch.dtype) -> AutoencoderKL:
    """Load an autoencoder from a file; ``config`` is the folder of one like it, in diffusers format."""
    from diffusers import AutoencoderKL

    model: AutoencoderKL = AutoencoderKL.from_single_file(
        str(path), config=str(config), dtype=dtype, local_files_only=True
    )
    return model


def without_prefix(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The transformer's tensors alone, by their names in it; a file may hold other models too."""
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in tensors):
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
    return dict(tensors)


def without_scales(tensors: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Multiply float8 weights by the scales that stand beside them (ComfyUI's scaled float8 files)."""
    result = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind in ("scale_weight", "weight_scale", "scale_input", "input_scale", "comfy_quant"):
            continue
        if name == "scaled_fp8":
            continue
        scale = tensors.get(f"{module}.scale_weight", tensors.get(f"{module}.weight_scale"))
        scaled = kind == "weight" and scale is not None and tensor.dtype.itemsize == 1
        result[name] = (tensor.float() * scale.float()).to(dtype) if scaled and scale is not None else tensor
    return result


def transformer_config(
    shapes: Mapping[str, tuple[int, ...]], known: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The diffusers config of the FLUX.1 transformer with these tensors; None if it is another model.

    Args:
        shapes: Shapes of its tensors, by BFL's or diffusers' names.
        known: A config to begin with instead of FLUX.1's.
    """
    config = _CONFIG | {key: value for key, value in known.items() if key in _CONFIG}
    if "double_blocks.0.img_attn.qkv.weight" in shapes and "single_blocks.0.linear1.weight" in shapes:
        names = ("img_in.weight", "txt_in.weight", "vector_in.in_layer.weight")
        blocks, singles, head = (
            "double_blocks",
            "single_blocks",
            "double_blocks.0.img_attn.norm.query_norm.scale",
        )
        guidance = "guidance_in.in_layer.weight"
    elif "transformer_blocks.0.attn.add_q_proj.weight" in shapes and "x_embedder.weight" in shapes:
        names = (
            "x_embedder.weight",
            "context_embedder.weight",
            "time_text_embed.text_embedder.linear_1.weight",
        )
        blocks, singles, head = (
            "transformer_blocks",
            "single_transformer_blocks",
            "transformer_blocks.0.attn.norm_q.weight",
        )
        guidance = "time_text_embed.guidance_embedder.linear_1.weight"
    else:
        return None
    if any(name not in shapes for name in (*names, head)) or shapes[names[0]][1] != _CHANNELS:
        return None  # more channels: Fill, Canny and Depth, which take a second picture
    image, text, pooled = (shapes[name] for name in names)
    return config | {
        "guidance_embeds": guidance in shapes,
        "joint_attention_dim": text[1],
        "pooled_projection_dim": pooled[1],
        "attention_head_dim": shapes[head][0],
        "num_attention_heads": image[0] // shapes[head][0],
        "num_layers": _count(shapes, blocks),
        "num_single_layers": _count(shapes, singles),
    }


def _count(shapes: Mapping[str, Any], blocks: str) -> int:
    found = (re.match(rf"{blocks}\.(\d+)\.", name) for name in shapes)
    return max(int(match[1]) for match in found if match) + 1
