"""A dry run of the true FLUX.1's step on torch's meta device: every shape, no arithmetic, no memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from backend.trainer import flow
from backend.trainer.bench.rig import synthetic_batch
from backend.trainer.bench.shapes import FLUX_DEV, TEXT_TOKENS, image_tokens, random_transformer, step_flops
from backend.trainer.lora import attach_lora
from backend.trainer.memory import activation_bytes
from backend.trainer.step import FlowModel
from config.schema import NetworkConfig

_RANK = 16


def check_shapes(
    sizes: Iterable[tuple[int, int]], config: dict[str, Any] = FLUX_DEV, rank: int = _RANK
) -> Iterator[str]:
    """Forward and backward of a step at each size, and a sentence about each.

    Raises:
        RuntimeError: Shapes do not fit together, or a weight of the LoRA gets no gradient.
    """
    meta = torch.device("meta")
    transformer = random_transformer(config, meta, torch.bfloat16)
    lora = attach_lora(transformer, NetworkConfig(rank=rank), torch.Generator())
    transformer.train()
    model = FlowModel(transformer, 1.0)
    base = sum(p.numel() for p in transformer.parameters() if not p.requires_grad)
    trained = sum(p.numel() for p in lora.parameters.values())
    yield (
        f"{base / 1e9:.2f} billion frozen weights, {trained / 1e6:.1f} million trained in {len(lora.layers)} "
        f"layers at rank {rank}"
    )
    for width, height in sizes:
        batch = synthetic_batch(config, width, height, 1, meta, torch.bfloat16)
        noise = torch.empty_like(batch.latents, dtype=torch.float32)
        sigmas = torch.empty(1, device=meta)
        noisy = flow.add_noise(batch.latents.float(), noise, sigmas)
        predicted = model.velocity(noisy, sigmas, batch.t5, batch.clip)
        flow.flow_loss(predicted, noise).backward()  # type: ignore[no-untyped-call]
        missing = [n for n, p in lora.parameters.items() if p.grad is None or p.grad.shape != p.shape]
        if missing:
            raise RuntimeError(f"{len(missing)} weights get no gradient at {width}x{height}: {missing[0]}")
        for parameter in lora.parameters.values():
            parameter.grad = None
        image = image_tokens(width, height)
        kept = activation_bytes(config, rank, image, TEXT_TOKENS, 1, torch.bfloat16)
        yield (
            f"{width}x{height}: {image} + {TEXT_TOKENS} tokens, {step_flops(config, image) / 1e12:.1f} TFLOP "
            f"a step, {kept / 2**30:.1f} GiB of activations without recomputation"
        )
