"""Putting together what takes steps: adapter, optimizer, compiled blocks, precision, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from backend.trainer.attention import NATIVE, set_attention
from backend.trainer.attention_kernels import KERNELS, kernel_name
from backend.trainer.attention_trials import Sequences, sequences_of, told, try_kernels
from backend.trainer.compiling import WarmShape, WarmUp, block_compiler, shapes_of, wants_compiling
from backend.trainer.ema import Ema
from backend.trainer.fast_flux import STATIC_SHAPES, FastFlux, why_not
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.fp8 import best_compute, can_compute
from backend.trainer.graphs import CudaRecorder, GraphedUpdate
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.memory import wants_checkpointing
from backend.trainer.offload import BlockSwap
from backend.trainer.optimizer import Schedule, adamw_settings, build_optimizer
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness, derive_seed
from backend.trainer.step import FlowModel, TrainStep
from config.schema import ProcessConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from backend.trainer.buckets import Bucket


@dataclass(frozen=True)
class Assembly:
    """What :func:`assemble` made.

    Attributes:
        attention: Name of the attention kernel or backend in use.
        compute: ``bf16`` (the model's own format) or ``fp8``.
    """

    lora: Lora
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    random: Randomness
    model: FlowModel
    step: TrainStep
    fast: FastFlux | None
    attention: str
    compute: str

    @property
    def checkpointed(self) -> int:
        """Blocks that are computed again in the backward pass; 0 if diffusers' forward runs."""
        return 0 if self.fast is None else self.fast.checkpointed


def assemble(
    transformer: FluxTransformer2DModel,
    process: ProcessConfig,
    optimizer_kind: type[torch.optim.Optimizer],
    *,
    seed: int,
    device: torch.device,
    report: Reporter,
    shapes: Mapping[tuple[Bucket, int], int],
    text_tokens: int,
    drawn: Sequence[tuple[int, int]] = (),
    backend: str = "inductor",
) -> Assembly:
    """Attach the adapter and get the model ready to train, as fast as the config and the device allow.

    Args:
        transformer: Frozen, on its device.
        process: The config.
        optimizer_kind: From ``choose_optimizer``.
        seed: The run's.
        device: The transformer's.
        report: Told what was chosen and why.
        shapes: Of the batches to come: how many of an epoch are of a bucket and so many pictures.
        text_tokens: Length of a text.
        drawn: Width and height in pixels of what the model is asked for without gradients.
        backend: torch.compile's.

    Raises:
        TrainingError: Something in the config is impossible.
    """
    train = process.train
    swapped = int(getattr(transformer, "swapped_blocks", 0))
    compiling = wants_compiling(train.compile, device) and not swapped
    checkpoint_all = train.gradient_checkpointing is True or swapped > 0
    likely_fast = compiling and process.network.type == "lora" and not process.model.quantize
    if not likely_fast and not swapped and train.gradient_checkpointing == "auto":
        checkpoint_all = wants_checkpointing(transformer, process, shapes, text_tokens, report)
    random = Randomness(seed, device)
    init = torch.Generator().manual_seed(derive_seed(seed, "lora"))
    lora = attach_lora(transformer, process.network, init)
    transformer.train()
    reason = why_not(transformer, lora)
    if compiling and reason is not None:
        report.line(f"blocks are not compiled: {reason}")
        compiling = False
        if likely_fast and train.gradient_checkpointing == "auto":
            checkpoint_all = True  # the safe side
    fast: FastFlux | None = None
    compute = "bf16"
    if compiling:
        sequences = sequences_of(shapes, text_tokens)
        attention = _fast_attention(train.attention_backend, transformer, sequences, report)
        compute = _compute(process, transformer, report)
        blocks = int(transformer.config.num_layers) + int(transformer.config.num_single_layers)
        fast = FastFlux(
            transformer,
            lora,
            attention=KERNELS[attention],
            compiler=block_compiler(backend),
            checkpointed=blocks if checkpoint_all else 0,
            compute=compute,
            static_shapes=STATIC_SHAPES if len(shapes) <= STATIC_SHAPES else 0,
        )
    else:
        if process.model.compute == "fp8":
            why = reason or "it needs train.compile"
            report.warning(f"model.compute fp8 is not used: {why}", "no_fp8")
        attention = set_attention(transformer, train.attention_backend, report.warning)
        if checkpoint_all:
            transformer.enable_gradient_checkpointing()
    if swapped:
        BlockSwap(transformer, swapped, device)
        report.line(f"{swapped} blocks wait in the computer's memory and are copied when their turn comes")
    if fast is not None and optimizer_kind is torch.optim.AdamW:
        optimizer: torch.optim.Optimizer = FlatAdamW(lora, **adamw_settings(train))
    else:
        optimizer = build_optimizer(optimizer_kind, lora.parameters.values(), train, device)
    ema = Ema(lora.parameters, train.ema_config.ema_decay, lora.flat) if train.ema_config.use_ema else None
    model = FlowModel(transformer, train.cfg_scale, bypass_guidance=train.bypass_guidance_embedding)
    if fast is not None:
        warm = WarmUp(fast, model, transformer.config, text_tokens, device, transformer.dtype, report)
        measured = train.gradient_checkpointing == "auto" and device.type == "cuda"
        without = sorted({WarmShape(height // 16 * 2, width // 16 * 2, 1) for width, height in drawn})
        warm.run(shapes_of(shapes, text_tokens), measure=measured, drawn=without)
    step = TrainStep(model, lora, optimizer, Schedule(optimizer, train), ema, random, train, fast=fast)
    if fast is not None and wants_graphs(train.cuda_graphs, fast.compiled, device):
        step.replay(
            GraphedUpdate(
                fast,
                lora,
                step.loss_at,
                CudaRecorder(device),
                lambda why: report.line(f"CUDA graphs are not used: {why}"),
            )
        )
    return Assembly(lora, optimizer, ema, random, model, step, fast, attention, compute)


def wants_graphs(wanted: bool | str, compiled: bool, device: torch.device) -> bool:
    """What ``train.cuda_graphs`` comes to: what is not compiled may wait for the device, graphs cannot."""
    return wanted is not False and compiled and device.type == "cuda"


def _fast_attention(
    wanted: str, transformer: FluxTransformer2DModel, shapes: Sequence[Sequences], report: Reporter
) -> str:
    """The kernel: the fastest whose results are right, unless the config names another than torch's own."""
    name = kernel_name(wanted)
    if name is None:
        report.warning(
            f"train.attention_backend {wanted} is not used by compiled blocks: the fastest of "
            f"{', '.join(KERNELS)} is (train.compile: false leaves it to diffusers)",
            "attention_backend",
        )
    measure = name in (None, NATIVE, "auto")
    if measure and transformer.device.type != "cuda":
        return NATIVE
    config = transformer.config
    trials = try_kernels(
        transformer.device,
        transformer.dtype,
        heads=int(config.num_attention_heads),
        width=int(config.attention_head_dim),
        shapes=shapes,
        kernels=KERNELS if measure or name is None else {name: KERNELS[name]},
    )
    best = trials[0]
    if measure:
        report.line(told(trials, shapes))
    elif best.seconds is None:
        report.warning(
            f"train.attention_backend {wanted} cannot be used: {best.why}; torch's own is used",
            "attention_backend",
        )
    return NATIVE if best.seconds is None else best.name


def _compute(process: ProcessConfig, transformer: FluxTransformer2DModel, report: Reporter) -> str:
    """What ``model.compute`` comes to; away from GPUs float8 is emulated where it is asked for by name."""
    wanted, model, device = process.model.compute, process.model, transformer.device
    if wanted == "bf16":
        return wanted
    if model.assistant_lora_path or model.inference_lora_path:
        report.line("float8 products are not used: samples need the model's own weights for another LoRA")
        return "bf16"
    suits = can_compute(device) and transformer.dtype == torch.bfloat16
    if wanted == "fp8":
        if device.type == "cuda" and not suits:
            report.warning(
                "model.compute fp8 is not used: it needs train.dtype bf16 and a GPU of NVIDIA's Ada or "
                "later generations",
                "no_fp8",
            )
            return "bf16"
        return wanted
    if not suits:
        return "bf16"
    chosen, told = best_compute(device)
    if told:
        report.line(told)
    return chosen
