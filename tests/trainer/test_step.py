from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.trainer.batches import Batch
from backend.trainer.errors import TrainingError
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.optimizer import Schedule
from backend.trainer.rng import Randomness
from backend.trainer.smoothing import SmoothedLoss
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig

CPU = torch.device("cpu")


class Rig:
    """A tiny model with an adapter and an optimizer, ready for updates by SGD."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        train = TrainConfig(lr=0.1, steps=10, **settings)
        self.transformer = BaseModel(folder, "tiny", CPU, torch.float32).transformer()
        if train.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.lora: Lora = attach_lora(
            self.transformer, NetworkConfig.model_validate({"rank": 4}), torch.Generator().manual_seed(0)
        )
        self.transformer.train()
        engine = torch.optim.SGD(self.lora.parameters.values(), lr=0.1)
        model = FlowModel(self.transformer, 1.0)
        self.step = TrainStep(
            model, self.lora, engine, Schedule(engine, train), None, Randomness(1, CPU), train
        )

    def batch(self, count: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        config = self.transformer.config
        return Batch(
            latents=torch.randn(count, 16, 8, 8, generator=generator),
            t5=torch.randn(count, 6, config.joint_attention_dim, generator=generator),
            clip=torch.randn(count, config.pooled_projection_dim, generator=generator),
        )


def fix_noise(rig: Rig) -> None:
    """Make the loss of a picture depend on the picture alone."""

    def losses(batch: Batch, draws: object = None) -> Iterator[torch.Tensor]:
        noise = batch.latents.roll(1, dims=-1)
        sigmas = torch.sigmoid(batch.latents[:, 0, 0, 0])
        yield rig.step.loss_at(batch, noise, sigmas)

    rig.step.losses = losses  # type: ignore[method-assign]


def split(batch: Batch) -> Sequence[Batch]:
    return [
        Batch(batch.latents[i : i + 1], batch.t5[i : i + 1], batch.clip[i : i + 1])
        for i in range(batch.latents.shape[0])
    ]


def test_accumulation_is_a_big_batch(tiny_flux: Path) -> None:
    big, small = Rig(tiny_flux), Rig(tiny_flux)
    for rig in (big, small):
        fix_noise(rig)
    for done in range(3):
        batch = big.batch(4, seed=done)
        one = big.step(done, [batch])
        many = small.step(done, split(batch))
        assert many.loss == pytest.approx(one.loss, rel=1e-5)
        assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    left, right = big.lora.state(), small.lora.state()
    assert max(float(left[n].abs().max()) for n in left if "lora_B" in n) > 1e-3
    for name in left:
        assert torch.allclose(left[name], right[name], atol=1e-6), name


def test_gradient_checkpointing_changes_nothing(tiny_flux: Path) -> None:
    plain = Rig(tiny_flux, gradient_checkpointing=False)
    saving = Rig(tiny_flux, gradient_checkpointing=True)
    for done in range(2):
        assert plain.step(done, [plain.batch(1, done)]) == saving.step(done, [saving.batch(1, done)])


def test_clipping_limits_the_update_and_reports_the_norm_before_it(tiny_flux: Path) -> None:
    free, clipped = Rig(tiny_flux, max_grad_norm=0), Rig(tiny_flux, max_grad_norm=1e-3)
    before = free.lora.state()
    batch = free.batch(1, 0)
    one, other = free.step(0, [batch]), clipped.step(0, [batch])
    assert one.grad_norm == pytest.approx(other.grad_norm)
    assert one.grad_norm > 1e-3

    def moved(rig: Rig) -> float:
        after = rig.lora.state()
        return sum(float((after[name] - before[name]).square().sum()) for name in before) ** 0.5

    assert moved(free) == pytest.approx(0.1 * one.grad_norm, rel=1e-3)  # SGD: lr times gradient
    assert moved(clipped) == pytest.approx(0.1 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_nothing_is_changed_by_an_update_that_is_not_finite(tiny_flux: Path, poison: str) -> None:
    rig = Rig(tiny_flux)
    before = rig.lora.state()
    batch = rig.batch(1, 0)
    if poison == "loss":
        batch.latents[0, 0, 0, 0] = float("nan")
    else:
        next(iter(rig.lora.parameters.values())).register_hook(lambda g: g * float("inf"))
    with pytest.raises(TrainingError, match=f"the {poison} of step 1") as caught:
        rig.step(0, [batch])
    assert caught.value.code == "nan_loss"
    after = rig.lora.state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not rig.step.updating


def test_smoothing_starts_without_bias() -> None:
    smoothed = SmoothedLoss(beta=0.9)
    assert smoothed.add(3.0) == pytest.approx(3.0)
    assert smoothed.add(1.0) == pytest.approx((0.9 * 3 + 1) / 1.9)
    for _ in range(200):
        last = smoothed.add(2.0)
    assert last == pytest.approx(2.0)
