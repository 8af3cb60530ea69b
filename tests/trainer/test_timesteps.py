from __future__ import annotations

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from backend.trainer.timesteps import draw_sigmas, dynamic_shift_mu, shift_sigmas, sigma_table

DRAWS = 40_000


def draw(kind: str, tokens: int = 1024) -> torch.Tensor:
    return draw_sigmas(kind, DRAWS, tokens, torch.Generator().manual_seed(0)).double()


def test_linear_is_uniform() -> None:
    sigmas = draw("linear")
    assert sigmas.min() >= 0.002  # the table's last entry is never drawn, as in ai-toolkit
    assert sigmas.max() == 1.0
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert sigmas.quantile(quantile).item() == pytest.approx(quantile, abs=0.01)


def test_sigmoid_is_logit_normal() -> None:
    """Quantiles of sigmoid(N(0, 1)): sigmoid of the normal ones. One table is 1000 draws; take many."""
    generator = torch.Generator().manual_seed(0)
    sigmas = torch.cat([draw_sigmas("sigmoid", 100, 1024, generator) for _ in range(400)]).double()
    normal = torch.distributions.Normal(0.0, 1.0)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        expected = torch.sigmoid(normal.icdf(torch.tensor(quantile))).item()
        assert sigmas.quantile(quantile).item() == pytest.approx(expected, abs=0.01)


def test_the_sigmoid_table_is_fresh_for_each_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = sigma_table("sigmoid", 1, generator), sigma_table("sigmoid", 1, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, first.sort(descending=True).values)


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
        draw("weird")
