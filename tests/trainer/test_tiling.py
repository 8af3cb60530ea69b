from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from backend.trainer.tiling import tiled_if_needed


@pytest.fixture
def vae(tiny_flux: Path) -> Any:
    return AutoencoderKL.from_pretrained(tiny_flux / "vae")


def test_what_fits_is_not_tiled(vae: Any) -> None:
    assert tiled_if_needed(vae, lambda: 5) == 5
    assert not vae.use_tiling


@torch.no_grad()
def test_what_does_not_fit_is_decoded_in_tiles_and_looks_the_same(
    vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.nn.functional.interpolate(torch.randn(1, 16, 10, 12), scale_factor=8, mode="bilinear")
    whole = vae.decode(latents, return_dict=False)[0]
    decode, sides = type(vae.decoder).forward, []

    def small_device(self: Any, sample: torch.Tensor, *args: Any) -> torch.Tensor:
        sides.append(max(sample.shape[-2:]))
        if sides[-1] > 64:
            raise torch.OutOfMemoryError("too large")
        result: torch.Tensor = decode(self, sample, *args)
        return result

    monkeypatch.setattr(type(vae.decoder), "forward", small_device)
    tiled = tiled_if_needed(vae, lambda: vae.decode(latents, return_dict=False)[0])
    assert sides[0] == 96
    assert max(sides[1:]) == 64
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().mean()) < 0.05 * float(whole.abs().mean())


def test_a_tile_that_does_not_fit_fails(vae: Any) -> None:
    def never() -> None:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        tiled_if_needed(vae, never)
