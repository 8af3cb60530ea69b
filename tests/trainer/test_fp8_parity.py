"""Float8 against bfloat16 on a medium model: the same curve, and gradients that point the same way.

On a CPU the products are emulated: operands are rounded to float8 as on a GPU, the arithmetic is float32's.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from backend.trainer import fp8
from backend.trainer.batches import Batch
from backend.trainer.bench.rig import synthetic_batch
from backend.trainer.bench.shapes import random_transformer, small
from backend.trainer.fast_flux import FastFlux
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.optimizer import Schedule
from backend.trainer.rng import Randomness
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig

CPU = torch.device("cpu")
TEXT = 16


class Training:
    """A LoRA on a random model, taught a few pictures by heart, always with the same noise."""

    def __init__(self, compute: str, config: dict[str, Any], steps: int) -> None:
        transformer = random_transformer(config, CPU, torch.bfloat16)
        network = NetworkConfig(rank=8)
        self.lora: Lora = attach_lora(transformer, network, torch.Generator().manual_seed(0))
        transformer.train()
        self.fast = FastFlux(transformer, self.lora, compute=compute)
        settings = TrainConfig(lr=2e-3, steps=steps)
        optimizer = FlatAdamW(self.lora, lr=2e-3)
        self.step = TrainStep(
            FlowModel(transformer, 1.0), self.lora, optimizer, Schedule(optimizer, settings), None,
            Randomness(1, CPU), settings, fast=self.fast,
        )  # fmt: skip

    def learn(self, batches: list[Batch], steps: int) -> list[float]:
        return [self.step(done, [batches[done % len(batches)]]).loss for done in range(steps)]

    def gradient(self, batch: Batch) -> torch.Tensor:
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(5))
        self.step.loss_at(batch, noise, torch.tensor([0.6])).backward()
        self.fast.collect()
        gradient = self.fast.flat.master.grad
        assert gradient is not None
        found = gradient.clone()
        self.fast.discard()
        return found


def master(training: Training) -> torch.Tensor:
    return training.fast.flat.master.detach()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def compare(config: dict[str, Any], pixels: int, steps: int) -> None:
    """Both learn the same pictures: their curves, where they arrive, and their gradients there and before."""
    exact, rough = Training("bf16", config, steps), Training("fp8", config, steps)
    first = synthetic_batch(config, pixels, pixels, 1, CPU, torch.bfloat16, TEXT)
    second = Batch(first.latents.roll(3, -1), first.t5.flip(1), first.clip.flip(1))
    assert cosine(exact.gradient(first), rough.gradient(first)) > 0.99
    before = master(exact).clone()
    curves = torch.tensor([training.learn([first, second], steps) for training in (exact, rough)])
    means = curves.view(2, -1, 10).mean(2)
    assert float(means[0, -1]) < 0.8 * float(means[0, 0])  # it learns
    torch.testing.assert_close(means[1], means[0], rtol=0.01, atol=0.0)
    torch.testing.assert_close(curves[1], curves[0], rtol=0.05, atol=0.0)
    assert cosine(master(exact) - before, master(rough) - before) > 0.95  # what was learned
    rough.lora.load(exact.lora.state())
    for batch in (first, second):
        mine, theirs = exact.gradient(batch), rough.gradient(batch)
        assert 0.99 < cosine(mine, theirs) < 1.0  # not the same arithmetic
        assert float(theirs.norm()) == pytest.approx(float(mine.norm()), rel=0.05)


def test_fifty_steps_of_a_medium_model_are_those_of_bfloat16() -> None:
    compare(small(128, 2, 4), 128, 50)


@pytest.mark.thorough
def test_sixty_steps_of_a_larger_model_are_those_of_bfloat16() -> None:
    compare(small(384, 4, 8, 64), 256, 60)


def test_coarser_rounding_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def coarse(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = x.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / 3
        return (x.float() / scale).round().to(fp8.FORMAT).contiguous(), scale

    config = small(128, 2, 4)
    batch = synthetic_batch(config, 128, 128, 1, CPU, torch.bfloat16, TEXT)
    gradients = []
    for compute in ("bf16", "fp8"):
        monkeypatch.setattr(fp8, "scaled", coarse)
        gradients.append(Training(compute, config, 1).gradient(batch))
    assert cosine(*gradients) < 0.99
