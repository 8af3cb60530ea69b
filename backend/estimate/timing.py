"""Seconds of an update and of a sample, from the products it takes and what a GPU makes of them.

Where the user's own runs or the benchmark measured a GPU, the model's seconds are scaled by what was
measured over what it had foretold: the shares of sizes and the effect of a key stay the model's.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.estimate import flux
from backend.estimate.speeds import AS_OF, QUANTISED, SPEEDS, STEP_OVERHEAD
from config.gpus import GPUS
from config.schema import ProcessConfig, RunConfig

if TYPE_CHECKING:
    from backend.estimate.own_speeds import Speeds

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


def sizes(process: ProcessConfig) -> list[int]:
    """Every size that a dataset trains at, ascending."""
    return sorted({size for dataset in process.datasets for size in dataset.resolution})


def fit(process: ProcessConfig, gpu: str) -> Fit:
    """Whether a config fits on a GPU; with ``gradient_checkpointing: auto`` it recomputes only if it must."""
    room = GPUS[gpu].memory * 2**30 * _USABLE
    largest = max(sizes(process))
    length = flux.tokens(largest, largest)
    wanted = process.train.gradient_checkpointing
    if wanted == "auto":
        without = flux.memory(process, length, recompute=False).total
        if without <= room:
            return Fit(True, without, False)
    recompute = wanted is not False
    needed = flux.memory(process, length, recompute=recompute).total
    return Fit(needed <= room, needed, recompute)


def pass_seconds(products: flux.Products, gpu: str) -> float:
    """Seconds of matrix products on a GPU by the table."""
    speed = SPEEDS[gpu]
    return products.linear / (speed.peak * speed.linear) + products.attention / (speed.peak * speed.attention)


def update_seconds(process: ProcessConfig, size: int, gpu: str, *, recompute: bool) -> float:
    """Seconds of one optimizer update on pictures of an area of ``size`` x ``size``, by the table."""
    train = process.train
    products = flux.step(flux.tokens(size, size), recompute=recompute)
    seconds = pass_seconds(products, gpu) * train.batch_size
    if process.model.quantize:
        seconds *= QUANTISED[process.model.qtype]
    if train.dtype == "float32":
        seconds *= 4  # TF32 at half the rate of bf16, twice the bytes
    if train.diff_output_preservation or train.blank_prompt_preservation:
        seconds *= 2.3  # a second pass, and one of the base model without gradients
    return (seconds + STEP_OVERHEAD) * train.gradient_accumulation


def expected_step(config: RunConfig, gpu: str) -> float:
    """Seconds of an average update by the table alone: the mean over the sizes, each as often."""
    process = config.process
    recompute = fit(process, gpu).recompute
    return statistics.fmean(update_seconds(process, s, gpu, recompute=recompute) for s in sizes(process))


def calibration(gpu: str, here: Speeds | None, *, recompute: bool) -> Calibration:
    """What was measured on a GPU: own runs first, then the benchmark; without either, the table's source."""
    if here is not None:
        own = [run.seconds / run.expected for run in here.runs if run.gpu == gpu and run.expected > 0]
        if own:
            return Calibration(statistics.median(own), f"{len(own)} of your runs", True)
        ratios = [
            (
                result.recompute == recompute,
                result.seconds / _bench_expected(result.resolution, result.batch, gpu, result.recompute),
            )
            for result in here.bench
            if result.gpu == gpu and result.compute == "bf16"
        ]
        same = [ratio for matches, ratio in ratios if matches] or [ratio for _, ratio in ratios]
        if same:
            return Calibration(statistics.median(same), "fluxlora-tui bench", True)
    return Calibration(1.0, f"{SPEEDS[gpu].source} ({AS_OF})", False)


def _bench_expected(size: int, batch: int, gpu: str, recompute: bool) -> float:
    return pass_seconds(flux.step(flux.tokens(size, size), recompute=recompute), gpu) * batch + STEP_OVERHEAD
