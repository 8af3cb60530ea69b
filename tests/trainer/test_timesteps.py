"""What is drawn, held against the distributions' own formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from backend.trainer.errors import TrainingError
from backend.trainer.timesteps import (
    NoiseLevels,
    NoiseLevelSampler,
    bell_weights,
    dynamic_shift_mu,
    measured_weights,
    shift_sigmas,
    sigma_table,
)
from config.schema import TrainConfig
from config.schema.train import TIMESTEP_TYPES

DRAWS = 40_000


def levels(tokens: int = 1024, **settings: Any) -> NoiseLevels:
    sampler = NoiseLevelSampler(TrainConfig(**settings))
    return sampler.draw(DRAWS, tokens, torch.Generator().manual_seed(0))


def draw(kind: str, tokens: int = 1024, **settings: Any) -> torch.Tensor:
    return levels(tokens, timestep_type=kind, **settings).sigmas.double()


def many_tables(kind: str) -> torch.Tensor:
    """Draws from 400 tables, for those that are drawn afresh."""
    sampler = NoiseLevelSampler(TrainConfig(timestep_type=kind))
    generator = torch.Generator().manual_seed(0)
    return torch.cat([sampler.draw(100, 1024, generator).sigmas for _ in range(400)]).double()


@pytest.mark.parametrize("kind", TIMESTEP_TYPES)
def test_every_kind_draws_levels_of_noise(kind: str) -> None:
    drawn = draw(kind)
    assert drawn.shape == (DRAWS,)
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_linear_is_uniform() -> None:
    sigmas = draw("linear")
    assert sigmas.min() >= 0.002  # the table's last entry is never drawn, as in ai-toolkit
    assert sigmas.max() == 1.0
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert sigmas.quantile(quantile).item() == pytest.approx(quantile, abs=0.01)
    assert levels(timestep_type="linear").weights is None


def test_sigmoid_is_logit_normal() -> None:
    """Quantiles of sigmoid(N(0, 1)): sigmoid of the normal ones. One table is 1000 draws; take many."""
    sigmas = many_tables("sigmoid")
    normal = torch.distributions.Normal(0.0, 1.0)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        expected = torch.sigmoid(normal.icdf(torch.tensor(quantile))).item()
        assert sigmas.quantile(quantile).item() == pytest.approx(expected, abs=0.01)


def test_the_sigmoid_table_is_fresh_for_each_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = sigma_table("sigmoid", 1, generator), sigma_table("sigmoid", 1, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, first.sort(descending=True).values)


def test_lognorm_blend_is_three_quarters_lognormal() -> None:
    """Built again by other means: three parts 1 - u / max u of 750 draws, one part uniform."""
    sigmas = many_tables("lognorm_blend")
    rng = torch.Generator().manual_seed(99)
    parts = []
    for _ in range(400):
        u = torch.distributions.LogNormal(0.0, 0.333).icdf(
            torch.rand(750, generator=rng).clamp(1e-6, 1 - 1e-6)
        )
        parts += [1 - u / u.max(), torch.rand(250, generator=rng)]
    expected = torch.cat(parts).double()
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert sigmas.quantile(quantile).item() == pytest.approx(
            expected.quantile(quantile).item(), abs=0.015
        )
    assert torch.allclose(sigmas * 1000, (sigmas * 1000).round(), atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("one_step", [1.0]),
        ("two_step", [1.0, 0.501]),
        ("four_step", [1.0, 0.75, 0.5, 0.25]),
        ("eight_step", [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
    ],
)
def test_step_kinds_draw_a_few_levels_equally_often(kind: str, expected: list[float]) -> None:
    found, counts = draw(kind).unique(return_counts=True)
    assert found.flip(0).tolist() == pytest.approx(expected, abs=1e-3)
    assert (counts / DRAWS).tolist() == pytest.approx([1 / len(expected)] * len(expected), abs=0.01)


@pytest.mark.parametrize(("edge", "mu"), [(512, 0.63), (768, 0.8467), (1024, 1.15)])
def test_the_shift_follows_the_resolution(edge: int, mu: float) -> None:
    tokens = (edge // 16) ** 2
    assert dynamic_shift_mu(tokens) == pytest.approx(mu, abs=5e-4)
    assert dynamic_shift_mu(tokens) == pytest.approx(calculate_shift(tokens, 256, 4096, 0.5, 1.15))
    median = draw("shift", tokens).median().item()
    assert median == pytest.approx(math.exp(mu) / (math.exp(mu) + 1), abs=0.01)
    assert torch.equal(draw("flux_shift", tokens), draw("shift", tokens))
    assert torch.equal(draw("lumina2_shift", tokens), draw("shift", tokens))


def test_the_shift_is_the_samplers() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
    sigmas = torch.linspace(1.0, 0.1, 10)
    scheduler.set_timesteps(sigmas=sigmas.tolist(), mu=0.8)
    assert torch.allclose(scheduler.sigmas[:-1], shift_sigmas(sigmas, 0.8), atol=1e-6)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="weird"):
        sigma_table("weird", 1, torch.Generator())


# -- favoured levels and windows ---------------------------------------------------------------


def test_content_favours_noise_and_style_favours_detail() -> None:
    """sigma = 1 - u^3 for content, u^3 for style; the quantiles of u are its own."""
    content = draw("linear", content_or_style="content")
    style = draw("linear", content_or_style="style")
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert content.quantile(quantile).item() == pytest.approx(1 - (1 - quantile) ** 3, abs=0.015)
        assert style.quantile(quantile).item() == pytest.approx(quantile**3, abs=0.015)


@pytest.mark.parametrize("favour", ["balanced", "content", "style"])
def test_only_levels_in_the_window_are_drawn(favour: str) -> None:
    drawn = draw("linear", min_denoising_steps=200, max_denoising_steps=600, content_or_style=favour)
    index = ((1.0 - drawn) * 1000 / (1000 - 1) * 999).round()
    assert index.min() in (200, 201)
    assert 595 <= index.max() <= 600
    if favour == "content":
        assert index.median().item() == pytest.approx(200 + 400 * 0.5**3, abs=4)


def test_a_window_of_one_level() -> None:
    drawn = draw("linear", min_denoising_steps=500, max_denoising_steps=500)
    assert drawn.unique().tolist() == pytest.approx([0.5], abs=1e-3)


def test_the_cleanest_level_can_be_asked_for() -> None:
    assert draw("linear", max_denoising_steps=1000).min().item() == pytest.approx(0.001)
    assert draw("linear", max_denoising_steps=1000, content_or_style="style").min().item() == pytest.approx(
        0.001
    )


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(TrainingError, match="min_denoising_steps") as caught:
        levels(min_denoising_steps=700, max_denoising_steps=300)
    assert caught.value.bad_input


# -- weights -----------------------------------------------------------------------------------


def test_the_bell() -> None:
    """ai-toolkit's values at some indices, and the formula at all of them."""
    bell = bell_weights(half=False)
    for index, value in {0: 0.0, 100: 0.48, 250: 1.11, 500: 1.58, 750: 1.11, 999: 0.0}.items():
        assert bell[index].item() == pytest.approx(value, abs=0.006)
    assert bell.double().mean().item() == pytest.approx(1.0, abs=1e-6)
    half = bell_weights(half=True)
    assert torch.equal(half[:500], bell[:500])
    assert half[500:].unique().tolist() == [bell.max().item()]
    raw = [math.exp(-2 * ((i - 500) / 1000) ** 2) for i in range(1000)]
    lowered = [value - min(raw) for value in raw]
    expected = [value * 1000 / sum(lowered) for value in lowered]
    assert bell.tolist() == pytest.approx(expected, abs=1e-5)


def test_measured_weights_lie_on_lines_between_the_points() -> None:
    weights = measured_weights()
    assert weights.shape == (1000,)
    for index, value in {0: 0.906, 50: 1.375, 450: 1.0, 750: 0.715, 950: 0.582, 999: 0.447}.items():
        assert weights[index].item() == pytest.approx(value, abs=1e-6)
    assert weights[25].item() == pytest.approx((0.906 + 1.375) / 2, abs=1e-6)
    assert weights[960].item() == pytest.approx(0.582 + (0.447 - 0.582) * 10 / 49, abs=1e-6)
    assert weights.mean().item() == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize(
    ("settings", "table"),
    [
        ({"timestep_type": "weighted"}, measured_weights()),
        ({"linear_timesteps": True}, bell_weights(half=False)),
        ({"linear_timesteps2": True}, bell_weights(half=True)),
    ],
)
def test_weights_belong_to_their_levels(settings: dict[str, Any], table: torch.Tensor) -> None:
    drawn = levels(**settings)
    assert drawn.weights is not None
    linear = torch.linspace(1.0, 0.001, 1000)
    index = torch.stack([(linear - sigma).abs().argmin() for sigma in drawn.sigmas[:500]])
    assert torch.equal(drawn.weights[:500], table[index])
    for quantile in (0.25, 0.5, 0.75):  # uniform, whatever the weights are
        assert drawn.sigmas.double().quantile(quantile).item() == pytest.approx(quantile, abs=0.01)
