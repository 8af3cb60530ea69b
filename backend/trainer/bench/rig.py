"""What is measured: a thing that performs training steps on pictures of a given size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch

from backend.trainer.batches import Batch
from backend.trainer.bench.shapes import TEXT_TOKENS, random_transformer
from backend.trainer.ema import Ema
from backend.trainer.lora import attach_lora
from backend.trainer.optimizer import Schedule, build_optimizer
from backend.trainer.rng import Randomness
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig


class Rig(Protocol):
    """Performs steps.

    Attributes:
        facts: What came of the options that were left to it: attention, compute, checkpointed blocks.
    """

    facts: dict[str, Any]

    def train(self, done: int, width: int, height: int) -> None:
        """One step on a picture of so many pixels; need not wait for the device."""


def synthetic_batch(
    config: dict[str, Any],
    width: int,
    height: int,
    count: int,
    device: torch.device,
    dtype: torch.dtype,
    text_tokens: int = TEXT_TOKENS,
) -> Batch:
    """Random latents and embeddings of the shapes that ``config`` takes."""
    generator = torch.Generator(device="cpu" if device.type == "meta" else device).manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        if device.type == "meta":
            return torch.empty(shape, device=device, dtype=dtype)
        return torch.randn(shape, device=device, generator=generator).to(dtype)

    return Batch(
        latents=normal(count, int(config["in_channels"]) // 4, height // 8, width // 8),
        t5=normal(count, text_tokens, int(config["joint_attention_dim"])),
        clip=normal(count, int(config["pooled_projection_dim"])),
    )


class ModulesRig:
    """diffusers' own blocks with peft's layers, as every config trains that the fast blocks cannot serve.

    Args:
        config: The transformer's config.
        device: Where it trains.
        rank: Of the LoRA.
        compiled: Compile each block.
        checkpointing: Recompute all blocks in the backward pass.
        batch: Pictures a step.
        text_tokens: Length of a text.
    """

    def __init__(
        self,
        config: dict[str, Any],
        device: torch.device,
        *,
        rank: int = 16,
        compiled: bool = False,
        checkpointing: bool = False,
        batch: int = 1,
        text_tokens: int = TEXT_TOKENS,
    ) -> None:
        self._config, self._device, self._count, self._text = config, device, batch, text_tokens
        self._dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        transformer = random_transformer(config, device, self._dtype)
        lora = attach_lora(transformer, NetworkConfig(rank=rank), torch.Generator().manual_seed(0))
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        if compiled:
            for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
                block.compile()
        transformer.train()
        train = TrainConfig(lr=1e-4, steps=1_000_000, batch_size=batch)
        optimizer = build_optimizer(torch.optim.AdamW, lora.parameters.values(), train, device)
        self._step = TrainStep(
            FlowModel(transformer, 1.0),
            lora,
            optimizer,
            Schedule(optimizer, train),
            Ema(lora.parameters, 0.99),
            Randomness(1, device),
            train,
        )
        self._batches: dict[tuple[int, int], Batch] = {}
        self.facts: dict[str, Any] = {"attention": "native", "compute": "bf16"}

    def train(self, done: int, width: int, height: int) -> None:
        """One update."""
        batch = self._batches.get((width, height))
        if batch is None:
            batch = synthetic_batch(
                self._config, width, height, self._count, self._device, self._dtype, self._text
            )
            self._batches[width, height] = batch
        self._step(done, [batch])


class FastRig:
    """The step as runs train it: fast blocks, compiled, in the format that is asked for.

    Args:
        config: The transformer's config.
        device: Where it trains.
        rank: Of the LoRA.
        compiled: Compile the blocks.
        compute: ``bf16``, ``fp8`` or ``auto``.
        checkpointed: Blocks that are computed again in the backward pass, or ``auto``.
        attention: A kernel, or ``auto``.
        batch: Pictures a step.
        text_tokens: Length of a text.
        graphs: Replay passes as CUDA graphs.
        lora_in_k: Where the LoRA's products are.
        inductor: Options of torch.compile's inductor.
        largest: Width and height of the largest pictures to come, in pixels.
    """

    def __init__(
        self,
        config: dict[str, Any],
        device: torch.device,
        *,
        rank: int = 16,
        compiled: bool = True,
        compute: str = "bf16",
        checkpointed: int | str = 0,
        attention: str = "auto",
        batch: int = 1,
        text_tokens: int = TEXT_TOKENS,
        graphs: bool = True,
        lora_in_k: str = "on",
        inductor: dict[str, Any] | None = None,
        largest: tuple[int, int] = (1024, 1024),
    ) -> None:
        from backend.trainer import full_size

        self._rig: Any = full_size.FullSize(
            device,
            rank=rank,
            compile=compiled,
            compute=compute,
            checkpointed=checkpointed,
            attention=attention,
            config=config,
            dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
            graphs=graphs,
            lora_in_k=lora_in_k,
            options={"options": inductor} if inductor else None,
            largest=(largest[1] // 8, largest[0] // 8, batch),
        )
        self._count, self._text = batch, text_tokens
        self._batches: dict[tuple[int, int], Batch] = {}
        self.facts: dict[str, Any] = {
            name: getattr(self._rig, name, None) for name in ("attention", "compute", "checkpointed")
        }

    def train(self, done: int, width: int, height: int) -> None:
        """One update."""
        batch = self._batches.get((width, height))
        if batch is None:
            batch = self._rig.batch(width, self._count, height=height)
            batch = replace(batch, t5=batch.t5[:, : self._text].contiguous())
            self._batches[width, height] = batch
        self._rig.step.start(done, [batch])  # does not wait; the caller does
        graphs = self._rig.graphs
        self.facts["graphs"] = len(graphs) if graphs is not None else 0
        if graphs is not None and graphs.reason:
            self.facts["no_graphs"] = graphs.reason


def build_rig(options: dict[str, Any], config: dict[str, Any], device: torch.device) -> Rig:
    """The rig of a variant's options (see :class:`backend.bench.Variant`)."""
    if options["engine"] == "modules":
        return ModulesRig(
            config,
            device,
            rank=options["rank"],
            compiled=options["compiled"],
            checkpointing=options["checkpointing"] == "on",
            batch=options["batch"],
            text_tokens=options["text_tokens"],
        )
    blocks = int(config["num_layers"]) + int(config["num_single_layers"])
    checkpointed: dict[str, int | str] = {"off": 0, "on": blocks, "auto": "auto"}
    return FastRig(
        config,
        device,
        rank=options["rank"],
        compiled=options["compiled"],
        compute=options["compute"],
        checkpointed=checkpointed[options["checkpointing"]],
        attention=options["attention"],
        batch=options["batch"],
        text_tokens=options["text_tokens"],
        graphs=options.get("graphs", True),
        lora_in_k=options.get("lora_in_k", "on"),
        inductor=options.get("inductor"),
        largest=max(((int(w), int(h)) for w, h in options["sizes"]), key=lambda size: size[0] * size[1]),
    )
