"""How much memory a training step needs and has, and whether it must recompute activations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch.overrides import TorchFunctionMode

from backend.trainer.budget import tokens_of
from backend.trainer.cache import free_memory_here
from backend.trainer.flow import image_ids, text_ids
from backend.trainer.lora import attach_lora
from backend.trainer.report import Reporter
from config.schema import NetworkConfig, ProcessConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from backend.trainer.buckets import Bucket

_COPIES = 5  # of the adapter in float32: itself, gradient, two moments, moving average
_WORKSPACE = 1 << 30  # bytes: what matrix products and allocation take beside
_SHARE = 0.92  # of the free memory that may be planned with: allocators leave gaps


def wants_checkpointing(
    transformer: FluxTransformer2DModel,
    process: ProcessConfig,
    batches: Iterable[tuple[Bucket, int]],
    text_tokens: int,
    report: Reporter,
) -> bool:
    """What ``train.gradient_checkpointing`` comes to; ``auto`` is on if a step would not fit without.

    Args:
        transformer: The model on its device, without an adapter yet.
        process: The config.
        batches: Shapes of the batches that will be trained: a bucket and how many pictures.
        text_tokens: Length of a text.
        report: Told what ``auto`` came to.
    """
    wanted = process.train.gradient_checkpointing
    if wanted != "auto":
        return wanted
    bucket, count = max(batches, key=lambda batch: tokens_of(batch[0], text_tokens) * batch[1])
    network = process.network
    saved = activation_bytes(
        dict(transformer.config),
        network.rank,
        tokens_of(bucket, text_tokens) - text_tokens,
        text_tokens,
        count,
        transformer.dtype,
    )
    need = saved + adapter_bytes(transformer, network.rank) + _WORKSPACE
    device = transformer.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_here()
    short = need > free * _SHARE
    report.line(
        f"gradient checkpointing is {'on' if short else 'off'}: a step without it needs about "
        f"{need / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
    )
    return short


def activation_bytes(
    config: dict[str, Any],
    rank: int,
    image_tokens: int,
    text_tokens: int,
    batch: int,
    dtype: torch.dtype,
) -> int:
    """Bytes that a forward pass keeps for the backward pass, measured on models without memory.

    Three small models of the same shape tell what the parts cost: a double block, a single block, and
    what surrounds them. Attention counts as fused: its inputs and output are kept, its matrix never is.
    Measured on an H200 (torch 2.11, bfloat16, rank 16, one picture of 1024 x 1024): 30.4 GiB are kept.

    Args:
        config: The transformer's config.
        rank: Of the adapter.
        image_tokens: Tokens of a picture.
        text_tokens: Tokens of a text.
        batch: Pictures in the batch.
        dtype: Number format of the activations.
    """
    outside, double, single = _parts(config, rank, image_tokens, text_tokens, batch, dtype)
    return outside + int(config["num_layers"]) * double + int(config["num_single_layers"]) * single


def adapter_bytes(transformer: FluxTransformer2DModel, rank: int) -> int:
    """Bytes of an adapter on all layers with its gradient, the optimizer's moments and a moving average."""
    layers: list[Any] = [module for module in transformer.modules() if hasattr(module, "in_features")]
    return sum(rank * int(layer.in_features + layer.out_features) * 4 for layer in layers) * _COPIES


def recomputed_bytes(
    transformer: FluxTransformer2DModel,
    rank: int,
    batches: Iterable[tuple[Bucket, int]],
    text_tokens: int,
) -> int:
    """Bytes that a step needs beside the model's weights when every block is computed again.

    Kept are what comes into each block, and of one block at a time its activations with as much again for
    their gradients. A picture of 1024 x 1024 at rank 16 takes 5.4 GiB so; 4.2 were measured on an H100.

    Args:
        transformer: The model, without an adapter; where it lies does not matter.
        rank: Of the adapter.
        batches: Shapes of the batches to come: a bucket and how many pictures.
        text_tokens: Of a text.
    """
    config, dtype = dict(transformer.config), transformer.dtype
    bucket, count = max(batches, key=lambda batch: tokens_of(batch[0], text_tokens) * batch[1])
    tokens = tokens_of(bucket, text_tokens)
    outside, double, single = _parts(config, rank, tokens - text_tokens, text_tokens, count, dtype)
    blocks = int(config["num_layers"]) + int(config["num_single_layers"])
    width = int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    inputs = blocks * count * tokens * width * dtype.itemsize
    return int(outside + inputs) + 2 * max(double, single) + adapter_bytes(transformer, rank) + _WORKSPACE


def _parts(
    config: dict[str, Any], rank: int, image_tokens: int, text_tokens: int, batch: int, dtype: torch.dtype
) -> tuple[int, int, int]:
    """Bytes kept outside of the blocks, in a double and in a single block."""

    def kept(double: int, single: int) -> int:
        return _kept(
            config | {"num_layers": double, "num_single_layers": single},
            rank,
            image_tokens,
            text_tokens,
            batch,
            dtype,
        )

    one = kept(1, 1)
    double, single = kept(2, 1) - one, kept(1, 2) - one
    return one - double - single, double, single


class _FusedAttention(TorchFunctionMode):
    """While active, attention keeps what the fused kernels keep; without memory torch would not use them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **options)
        query, key, value = args or (options["query"], options["key"], options["value"])
        return _KeepsInputs.apply(query, key, value)  # type: ignore[no-untyped-call]


class _KeepsInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        # The kernels hand out a transposed view of [batch, tokens, heads, width].
        result = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        answer = result.transpose(1, 2)
        ctx.save_for_backward(query, key, value, answer)
        return answer

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        raise NotImplementedError  # nothing is ever computed here


def _kept(
    config: dict[str, Any], rank: int, image_tokens: int, text_tokens: int, batch: int, dtype: torch.dtype
) -> int:
    from diffusers import FluxTransformer2DModel

    meta = torch.device("meta")
    known = {key: value for key, value in config.items() if not key.startswith("_")}
    with meta:
        model = FluxTransformer2DModel.from_config(known).to(dtype).train()
    attach_lora(model, NetworkConfig(rank=rank), torch.Generator())
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}  # by storage: what is kept twice is one

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor
        return tensor

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device=meta, dtype=dtype)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
        model(
            hidden_states=empty(batch, image_tokens, config["in_channels"]),
            timestep=empty(batch),
            guidance=empty(batch) if config["guidance_embeds"] else None,
            pooled_projections=empty(batch, config["pooled_projection_dim"]),
            encoder_hidden_states=empty(batch, text_tokens, config["joint_attention_dim"]),
            img_ids=image_ids(2, image_tokens * 2, meta, dtype),
            txt_ids=text_ids(text_tokens, meta, dtype),
            return_dict=False,
        )
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def memory_used(device: torch.device) -> int:
    """Bytes: the most that was in use on a GPU, resident memory of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
