"""Each part of the loss against its formula, computed by hand from the model's own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.trainer import flow
from backend.trainer.batches import Batch
from backend.trainer.step import FlowModel
from tests.trainer.test_step import Rig

SIGMAS = torch.tensor([0.3, 0.8])


def trained_rig(folder: Path, **settings: Any) -> Rig:
    """A rig whose adapter has an effect."""
    rig = Rig(folder, **settings)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in rig.lora.parameters.items():
            if "lora_B" in name:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return rig


def answers(rig: Rig, batch: Batch, noise: torch.Tensor, *, adapter: bool = True) -> torch.Tensor:
    """The model's velocity, with peft's own switch for the adapter."""
    s = SIGMAS.view(2, 1, 1, 1)
    noisy = (1 - s) * batch.latents + s * noise
    if not adapter:
        rig.transformer.disable_adapters()
    try:
        with torch.no_grad():
            return FlowModel(rig.transformer, 1.0).velocity(noisy, SIGMAS, batch.t5, batch.clip)
    finally:
        rig.transformer.enable_adapters()


def noise_for(batch: Batch) -> torch.Tensor:
    return torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(8))


def check(rig: Rig, batch: Batch, expected: torch.Tensor, weights: torch.Tensor | None = None) -> None:
    with torch.no_grad():
        loss = rig.step.loss_at(batch, noise_for(batch), SIGMAS, weights)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("kind", ["mse", "mae", "pseudo_huber"])
def test_kinds_of_error(tiny_flux: Path, kind: str) -> None:
    rig = trained_rig(tiny_flux, loss_type=kind)
    batch = rig.batch(2, 0)
    noise = noise_for(batch)
    d = (answers(rig, batch, noise) - (noise - batch.latents)).double()
    expected = {"mse": d**2, "mae": d.abs(), "pseudo_huber": torch.sqrt(d**2 + 0.01**2) - 0.01}[kind]
    check(rig, batch, expected.mean())


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="weird"):
        flow.picture_losses(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), kind="weird")


def test_weights_masks_and_multipliers(tiny_flux: Path) -> None:
    rig = trained_rig(tiny_flux, reg_weight=0.7)
    plain = rig.batch(2, 0)
    noise = noise_for(plain)
    errors = (answers(rig, plain, noise) - (noise - plain.latents)).double() ** 2
    mask = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = mask / mask.mean()
    batch = replace(plain, mask=mask, loss_weight=torch.tensor([0.5, 2.0]), is_reg=True)
    levels = torch.tensor([1.3, 0.2])
    pictures = (errors * mask).mean(dim=(1, 2, 3))
    expected = 0.7 * (pictures[0] * 1.3 * 0.5 + pictures[1] * 0.2 * 2.0) / 2
    check(rig, batch, expected, levels)


def test_a_mask_of_mean_one_leaves_an_even_error_as_it_is() -> None:
    error = torch.full((2, 3, 4, 4), 0.5)
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 2.0
    losses = flow.picture_losses(error, torch.zeros_like(error), mask=mask)
    assert losses.tolist() == [0.25, 0.25]


def test_max_loss_cuts_pictures_and_keeps_their_direction(tiny_flux: Path) -> None:
    free, cut = trained_rig(tiny_flux), trained_rig(tiny_flux, max_loss=0.01)
    batch = free.batch(2, 0)
    noise = noise_for(batch)
    gradients = []
    for rig in (free, cut):
        loss = rig.step.loss_at(replace(batch), noise, SIGMAS)
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in rig.lora.parameters.values()]))
    assert loss.item() == pytest.approx(0.01)
    assert gradients[1].norm() > 0
    assert gradients[1].norm() < gradients[0].norm()


def test_differential_guidance_scales_the_gradient(tiny_flux: Path) -> None:
    """target = p + 3 (t - p): the squared error grows by 9, its gradient by 3."""
    plain = trained_rig(tiny_flux)
    guided = trained_rig(tiny_flux, do_differential_guidance=True, differential_guidance_scale=3.0)
    batch = plain.batch(2, 0)
    noise = noise_for(batch)
    losses = []
    for rig in (plain, guided):
        loss = rig.step.loss_at(batch, noise, SIGMAS)
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(9 * losses[0], rel=1e-5)
    for name, parameter in plain.lora.parameters.items():
        other = guided.lora.parameters[name]
        assert torch.allclose(other.grad, 3 * parameter.grad, rtol=1e-3, atol=1e-6), name


def test_prior_regularisation_aims_at_the_base_model(tiny_flux: Path) -> None:
    rig = trained_rig(tiny_flux)
    batch = replace(rig.batch(2, 0), prior_reg=True)
    noise = noise_for(batch)
    with_lora, without = answers(rig, batch, noise), answers(rig, batch, noise, adapter=False)
    assert (with_lora - without).abs().max() > 1e-3
    check(rig, batch, ((with_lora - without).double() ** 2).mean())


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"diff_output_preservation": True, "diff_output_preservation_multiplier": 0.3}, 0.3),
        ({"blank_prompt_preservation": True, "blank_prompt_preservation_multiplier": 2.0}, 2.0),
    ],
    ids=["class", "blank"],
)
def test_preservation_holds_the_preserved_text_at_the_base_models_answer(
    tiny_flux: Path, settings: dict[str, Any], factor: float
) -> None:
    rig = trained_rig(tiny_flux, **settings)
    plain, other = rig.batch(2, 0), rig.batch(2, 5)
    batch = replace(plain, preserved_t5=other.t5, preserved_clip=other.clip)
    noise = noise_for(batch)
    preserved = replace(plain, t5=other.t5, clip=other.clip)
    moved = answers(rig, preserved, noise) - answers(rig, preserved, noise, adapter=False)
    expected = factor * (moved.double() ** 2).mean()
    loss = rig.step.preservation_loss(batch, noise, SIGMAS)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in rig.lora.parameters.values())

    both = list(rig.step.losses(batch))
    assert len(both) == 2
    assert len(list(rig.step.losses(plain))) == 1


def test_an_update_adds_the_preservation_loss(tiny_flux: Path) -> None:
    rig, twin = (trained_rig(tiny_flux, diff_output_preservation=True) for _ in range(2))
    plain, other = rig.batch(1, 0), rig.batch(1, 5)
    batch = replace(plain, preserved_t5=other.t5, preserved_clip=other.clip)
    parts = [part.item() for part in twin.step.losses(batch)]
    assert rig.step(0, [batch]).loss == pytest.approx(sum(parts), rel=1e-5)


def test_the_network_weight_scales_the_adapter(tiny_flux: Path) -> None:
    """At half the strength the model answers as with half of B."""
    rig, halved = trained_rig(tiny_flux), trained_rig(tiny_flux)
    batch = rig.batch(2, 0)
    noise = noise_for(batch)
    with torch.no_grad():
        for name, parameter in halved.lora.parameters.items():
            if "lora_B" in name:
                parameter *= 0.5
    with rig.lora.strength(0.5):
        half = answers(rig, batch, noise)
    assert torch.allclose(half, answers(halved, batch, noise), atol=1e-5)
    assert (answers(rig, batch, noise) - half).abs().max() > 1e-3
    weak = replace(batch, network_weight=0.5)
    twin = trained_rig(tiny_flux)
    assert halved.step(0, [batch]).loss == pytest.approx(twin.step(0, [weak]).loss, rel=1e-5)


def test_guidance_is_fed_or_bypassed(tiny_flux: Path) -> None:
    rig = trained_rig(tiny_flux)
    batch = rig.batch(2, 0)
    one, four = FlowModel(rig.transformer, 1.0), FlowModel(rig.transformer, 4.0)

    def ask(model: FlowModel) -> torch.Tensor:
        with torch.no_grad():
            return model.velocity(batch.latents, SIGMAS, batch.t5, batch.clip)

    assert (ask(one) - ask(four)).abs().max() > 1e-4
    expected = without_guidance(rig, batch)
    bypassed = FlowModel(rig.transformer, 4.0, bypass_guidance=True)
    assert torch.allclose(ask(bypassed), expected, atol=1e-6)
    # Whoever calls the same transformer itself (sampling) gets its guidance.
    embedder = rig.transformer.time_text_embed.guidance_embedder
    with torch.no_grad():
        assert embedder(torch.ones(1, embedder.linear_1.in_features)).abs().max() > 0


def without_guidance(rig: Rig, batch: Batch) -> torch.Tensor:
    """The transformer's answer with an embedding of time and text alone, put in by hand."""
    transformer = rig.transformer
    embed = transformer.time_text_embed
    own = embed.forward

    def bypassed(timestep: torch.Tensor, guidance: Any, pooled: torch.Tensor) -> torch.Tensor:
        time = embed.timestep_embedder(embed.time_proj(timestep).to(pooled.dtype))
        return time + embed.text_embedder(pooled)

    embed.forward = bypassed
    try:
        with torch.no_grad():
            return FlowModel(transformer, 4.0).velocity(batch.latents, SIGMAS, batch.t5, batch.clip)
    finally:
        embed.forward = own


def test_adafactor_is_not_clipped(tiny_flux: Path) -> None:
    """It clips its own updates; ai-toolkit leaves its gradients alone too."""
    free = Rig(tiny_flux, max_grad_norm=0.0)
    adafactor = Rig(tiny_flux, max_grad_norm=1e-6, optimizer="adafactor")  # the rig's engine is SGD
    clipped = Rig(tiny_flux, max_grad_norm=1e-6)
    batch = free.batch(1, 0)
    before = free.lora.state()
    for rig in (free, adafactor, clipped):
        rig.step(0, [batch])
    states = [rig.lora.state() for rig in (free, adafactor, clipped)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in before)
    assert not all(torch.equal(states[0][name], states[2][name]) for name in before)
