"""The layout and the formulas, against diffusers' own FluxPipeline and against the formulas themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from backend.trainer import flow
from backend.trainer.batches import Batch
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig

NO_LORA = Lora({}, {}, NetworkConfig())


def test_packing_is_the_pipelines() -> None:
    latents = torch.randn(2, 16, 6, 10)
    packed = flow.pack(latents)
    assert packed.shape == (2, 15, 64)
    assert torch.equal(packed, FluxPipeline._pack_latents(latents, 2, 16, 6, 10))
    assert torch.equal(flow.unpack(packed, 6, 10), latents)
    # Channel by channel, in it row by row: the first token is the top left 2x2 patch.
    assert torch.equal(packed[0, 0], latents[0, :, :2, :2].reshape(-1))
    assert torch.equal(packed[0, 1], latents[0, :, :2, 2:4].reshape(-1))


def test_ids_are_the_pipelines() -> None:
    device, dtype = torch.device("cpu"), torch.float32
    ids = flow.image_ids(6, 10, device, dtype)
    assert torch.equal(ids, FluxPipeline._prepare_latent_image_ids(1, 3, 5, device, dtype))
    assert ids[7].tolist() == [0.0, 1.0, 2.0]
    assert torch.equal(flow.text_ids(4, device, dtype), torch.zeros(4, 3))


def test_noise_levels_mix_data_and_noise() -> None:
    latents, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    mixed = flow.add_noise(latents, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.equal(mixed[0], latents[0])
    assert torch.allclose(mixed[1], 0.75 * latents[1] + 0.25 * noise[1])
    assert torch.equal(mixed[2], noise[2])
    # Following the velocity for the whole way leads from data to noise.
    assert torch.allclose(latents + flow.velocity(latents, noise), noise, atol=1e-6)


def test_noise_offset_shifts_whole_channels() -> None:
    latents = torch.zeros(64, 16, 8, 8)
    plain = flow.draw_noise(latents, 0.0, torch.Generator().manual_seed(0))
    offset = flow.draw_noise(latents, 0.5, torch.Generator().manual_seed(0)) - plain
    assert torch.allclose(offset, offset[:, :, :1, :1].expand_as(offset), atol=1e-6)
    assert offset[:, :, 0, 0].std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("guidance", [True, False], ids=["dev", "schnell"])
def test_one_step_loss_is_the_formula(tiny_flux: Path, tmp_path: Path, guidance: bool) -> None:
    """mean |v_theta((1 - s) x0 + s e, 1000 s) - (e - x0)|^2, written out with nothing of ours."""
    from backend.trainer.tiny import build_tiny_flux

    folder = tiny_flux if guidance else build_tiny_flux(tmp_path / "schnell", guidance_embeds=False)
    transformer = BaseModel(folder, "tiny", torch.device("cpu"), torch.float32).transformer()
    config = transformer.config
    torch.manual_seed(3)
    x0, noise = torch.randn(2, 16, 8, 12), torch.randn(2, 16, 8, 12)
    sigmas = torch.tensor([0.3, 0.8])
    t5, clip = torch.randn(2, 7, config.joint_attention_dim), torch.randn(2, config.pooled_projection_dim)

    def patches(x: torch.Tensor) -> torch.Tensor:
        rows = []
        for picture in x:
            rows.append(
                torch.stack(
                    [
                        picture[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].reshape(-1)
                        for r in range(4)
                        for c in range(6)
                    ]
                )
            )
        return torch.stack(rows)

    s = sigmas.view(2, 1, 1, 1)
    positions = torch.tensor([[0.0, r, c] for r in range(4) for c in range(6)])
    with torch.no_grad():
        predicted = transformer(
            hidden_states=patches((1 - s) * x0 + s * noise),
            timestep=sigmas,
            guidance=torch.full((2,), 1.0) if guidance else None,
            pooled_projections=clip,
            encoder_hidden_states=t5,
            img_ids=positions,
            txt_ids=torch.zeros(7, 3),
        ).sample
        expected = ((predicted - patches(noise - x0)) ** 2).mean()
        step = TrainStep(FlowModel(transformer, 1.0), NO_LORA, None, None, None, None, TrainConfig())  # type: ignore[arg-type]
        loss = step.loss_at(Batch(x0, t5, clip), noise, sigmas)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)


def test_loss_is_the_mean_over_pictures() -> None:
    target = torch.zeros(2, 1, 2, 2)
    prediction = torch.stack((torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)))
    assert flow.flow_loss(prediction, target).item() == 5.0
    assert flow.flow_loss(prediction.to(torch.bfloat16), target).dtype is torch.float32
