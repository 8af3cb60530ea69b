"""A training step of the true FLUX.1 with random weights: what benchmarks time, with nothing to download."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from backend.trainer.attention_kernels import KERNELS, kernel_name
from backend.trainer.attention_trials import Sequences, best_kernel
from backend.trainer.batches import Batch
from backend.trainer.bench.shapes import FLUX_DEV, TEXT_TOKENS, random_transformer
from backend.trainer.compiling import WarmShape, WarmUp
from backend.trainer.devices import prepare_device
from backend.trainer.fast_flux import IN_K, FastFlux
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.graphs import CudaRecorder, GraphedUpdate
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.optimizer import ADAM_EPS, Schedule
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig


class FullSize:
    """Updates of a LoRA on a random FLUX: the trainer's own step, loading and data left out.

    Args:
        device: Where.
        rank: Of the LoRA, on all of the 494 layers.
        fast: Whether the blocks are rebuilt (``backend.trainer.fast_flux``); else diffusers' forward runs.
        compile: Whether blocks are compiled.
        compute: ``bf16`` or ``fp8``.
        attention: A name in ``attention_kernels.KERNELS``, or ``auto``: the fastest at ``largest``.
        checkpointed: Blocks that are computed again in the backward pass, of diffusers' forward all or none;
            ``auto``: as few as memory allows at ``largest``.
        largest: Latent cells and count of the largest batch to come: height, width, pictures.
        config: Another shape than FLUX.1's.
        dtype: Of the frozen model.
        options: More arguments of ``torch.compile``.
        lora_in_k: A name in ``fast_flux.IN_K``.
        graphs: Whether forward and backward passes are replayed as CUDA graphs.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        rank: int = 16,
        fast: bool = True,
        compile: bool = True,  # noqa: A002 - torch's name
        compute: str = "bf16",
        attention: str = "native",
        checkpointed: int | str = 0,
        config: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.bfloat16,
        options: dict[str, Any] | None = None,
        lora_in_k: str = "on",
        graphs: bool = True,
        largest: tuple[int, int, int] = (128, 128, 1),
    ) -> None:
        self.device, self.dtype = device, dtype
        prepare_device(device)
        name = kernel_name(attention)
        if name is None:
            raise ValueError(f"there is no attention kernel {attention!r}: {', '.join(KERNELS)}")
        height, wide, count = largest
        shapes = [Sequences(count, height * wide // 4 + TEXT_TOKENS)]
        attention = best_kernel(device, dtype, shapes, print) if name == "auto" else name
        measured = checkpointed == "auto"
        if measured:
            checkpointed = 0
        self.attention, self.compute, self.checkpointed = attention, compute, int(checkpointed)
        self.transformer = random_transformer(config or FLUX_DEV, device, dtype)
        network = NetworkConfig.model_validate({"rank": rank})
        self.lora: Lora = attach_lora(self.transformer, network, torch.Generator().manual_seed(0))
        self.transformer.train()
        train = TrainConfig(lr=1e-4, steps=1000)
        self.fast: FastFlux | None = None
        compiler = functools.partial(torch.compile, fullgraph=True, **(options or {})) if compile else None
        if compiler is not None:
            torch._dynamo.config.recompile_limit = 64
        if fast:
            kernel = KERNELS[attention]
            self.fast = FastFlux(
                self.transformer,
                self.lora,
                attention=kernel,
                compiler=compiler,
                checkpointed=self.checkpointed,
                compute=compute,
                lora_in_k=IN_K[lora_in_k],
            )
            optimizer: torch.optim.Optimizer = FlatAdamW(self.lora, lr=1e-4, eps=ADAM_EPS)
        else:
            if self.checkpointed:
                self.transformer.enable_gradient_checkpointing()
            if compiler is not None:
                self.transformer.compile_repeated_blocks(dynamic=False, **(options or {}))
            parameters = list(self.lora.parameters.values())
            optimizer = torch.optim.AdamW(parameters, lr=1e-4, eps=ADAM_EPS, fused=device.type == "cuda")
        self.optimizer = optimizer
        model = FlowModel(self.transformer, 1.0)
        if measured and self.fast is not None and device.type == "cuda":
            shown = self.transformer.config
            warm = WarmUp(self.fast, model, shown, TEXT_TOKENS, device, dtype, Reporter(None))
            warm.run([WarmShape(*largest)], measure=True)
            self.checkpointed = self.fast.checkpointed
        self.step = TrainStep(
            model,
            self.lora,
            optimizer,
            Schedule(optimizer, train),
            None,
            Randomness(1, device),
            train,
            fast=self.fast,
        )
        self.graphs: GraphedUpdate | None = None
        if graphs and self.fast is not None and device.type == "cuda":
            said = functools.partial(print, "no CUDA graphs:")
            self.graphs = GraphedUpdate(self.fast, self.lora, self.step.loss_at, CudaRecorder(device), said)
            self.step.replay(self.graphs)

    def batch(self, pixels: int, count: int = 1, *, height: int | None = None, seed: int = 0) -> Batch:
        """Random cached latents and texts of pictures ``pixels`` wide, on the device."""
        generator = torch.Generator(device=self.device).manual_seed(seed)
        config = self.transformer.config

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=self.device).to(self.dtype)

        return Batch(
            latents=draw(count, config.in_channels // 4, (height or pixels) // 8, pixels // 8),
            t5=draw(count, TEXT_TOKENS, config.joint_attention_dim),
            clip=draw(count, config.pooled_projection_dim),
        )


def main_timing(rig: FullSize, pixels: int, steps: int, warmup: int = 2) -> float:
    """Seconds a step over ``steps`` updates without waiting in between, after ``warmup``."""
    batch = rig.batch(pixels)
    for done in range(warmup):
        rig.step(done, [batch])
    return _timed(lambda done: rig.step.start(done, [batch]), steps, rig.device)


def _timed(work: Callable[[int], Any], steps: int, device: torch.device) -> float:
    import time

    pending = []
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for done in range(steps):
        pending.append(work(done))
    for one in pending:
        one.read()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / steps
