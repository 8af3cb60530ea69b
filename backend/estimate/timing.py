"""Seconds of an update and of a sample, from the products it takes and what a GPU makes of them.

Where the user's own runs or the benchmark measured a GPU, the model's seconds are scaled by what was
measured over what it had foretold: the shares of sizes and the effect of a key stay the model's.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.estimate import flux
from backend.estimate.epochs import Part, Plan, plan_of
from backend.estimate.speeds import (
    AS_OF,
    EXCHANGE,
    FP8,
    FP8_LINEAR,
    FP8_OVERHEAD,
    QUANTISED,
    SPEEDS,
    STEP_OVERHEAD,
)
from config.gpus import GPUS
from config.schema import ProcessConfig, RunConfig

if TYPE_CHECKING:
    from backend.estimate.own_speeds import BenchResult, Speeds

_USABLE = 0.95  # share of a GPU's memory that can be had


@dataclass(frozen=True)
class Calibration:
    """How much slower (above 1) a GPU is than the model says, and who says so."""

    factor: float
    source: str
    measured: bool


@dataclass(frozen=True)
class Fit:
    """Whether training fits, and how.

    Attributes:
        fits: Whether it does.
        memory: Bytes at the largest size.
        recompute: Whether activations are recomputed there.
    """

    fits: bool
    memory: float
    recompute: bool


def fit(process: ProcessConfig, gpu: str, plan: Plan | None = None) -> Fit:
    """Whether a config fits on a GPU; with ``gradient_checkpointing: auto`` it recomputes only if it must."""
    room = GPUS[gpu].memory * 2**30 * _USABLE
    length = (plan or plan_of(process)).largest
    wanted = process.train.gradient_checkpointing
    if wanted == "auto":
        without = flux.memory(process, length, recompute=False).total
        if without <= room:
            return Fit(True, without, False)
    recompute = wanted is not False
    needed = flux.memory(process, length, recompute=recompute).total
    return Fit(needed <= room, needed, recompute)


def compute_of(process: ProcessConfig, gpu: str) -> str:
    """What ``model.compute`` comes to on a GPU, ``bf16`` or ``fp8``: the trainer's own conditions."""
    train, model, network = process.train, process.model, process.network
    able = gpu in FP8 and train.dtype == "bfloat16" and train.compile
    plain = network.type == "lora" and not network.dropout and not model.quantize and model.offload == 0
    other = model.assistant_lora_path or model.inference_lora_path
    return "fp8" if model.compute != "bf16" and able and plain and not other else "bf16"


def pass_seconds(products: flux.Products, gpu: str, compute: str = "bf16") -> float:
    """Seconds of matrix products on a GPU by the table."""
    speed = SPEEDS[gpu]
    linear = products.linear * (FP8_LINEAR if compute == "fp8" else 1.0)
    return linear / (speed.peak * speed.linear) + products.attention / (speed.peak * speed.attention)


def batch_seconds(process: ProcessConfig, part: Part, gpu: str, *, recompute: bool) -> float:
    """Seconds of one average batch of a shape, by the table."""
    train, compute = process.train, compute_of(process, gpu)
    shape = flux.shape_of(process.model.name_or_path)
    products = flux.step(part.length, recompute=recompute, shape=shape)
    seconds = pass_seconds(products, gpu, compute) * part.pictures
    if process.model.quantize:
        seconds *= QUANTISED[process.model.qtype]
    if train.dtype == "float32":
        seconds *= 4  # TF32 at half the rate of bf16, twice the bytes
    if train.diff_output_preservation or train.blank_prompt_preservation:
        seconds *= 2.3  # a second pass, and one of the base model without gradients
    return seconds + STEP_OVERHEAD + (FP8_OVERHEAD if compute == "fp8" else 0.0)


def update_seconds(
    process: ProcessConfig, parts: Sequence[Part], gpu: str, *, recompute: bool, processes: int = 1
) -> float:
    """Seconds of an average optimizer update on some shapes, by the table.

    Each of ``processes`` GPUs has batches of its own; what they exchange comes on top.
    """
    whole = sum(part.share for part in parts)
    seconds = sum(
        part.share / whole * batch_seconds(process, part, gpu, recompute=recompute) for part in parts
    )
    exchanged = flux.trained_parameters(process) * 8 / EXCHANGE if processes > 1 else 0.0
    return (seconds + exchanged) * process.train.gradient_accumulation


def expected_step(config: RunConfig, gpu: str) -> float:
    """Seconds of an average update by the table alone."""
    process = config.process
    plan = plan_of(process)
    return update_seconds(process, plan.parts, gpu, recompute=fit(process, gpu, plan).recompute)


def calibration(gpu: str, here: Speeds | None, *, recompute: bool, compute: str = "bf16") -> Calibration:
    """What was measured on a GPU: own runs first, then the benchmark; without either, the table's source."""
    if here is not None:
        own = [run.seconds / run.expected for run in here.runs if run.gpu == gpu and run.expected > 0]
        if own:
            return Calibration(statistics.median(own), f"{len(own)} of your runs", True)
        ratios = [
            (result.recompute == recompute, result.seconds / _bench_expected(result))
            for result in here.bench
            if result.gpu == gpu and result.compute == compute
        ]
        same = [ratio for matches, ratio in ratios if matches] or [ratio for _, ratio in ratios]
        if same:
            return Calibration(statistics.median(same), "fluxlora-tui bench", True)
    return Calibration(1.0, f"{SPEEDS[gpu].source} ({AS_OF})", False)


def _bench_expected(result: BenchResult) -> float:
    products = flux.step(flux.tokens(result.resolution, result.resolution), recompute=result.recompute)
    overhead = STEP_OVERHEAD + (FP8_OVERHEAD if result.compute == "fp8" else 0.0)
    return pass_seconds(products, result.gpu, result.compute) * result.batch + overhead
