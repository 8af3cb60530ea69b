"""The loss falls because the LoRA learns, not because of lucky noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file

from backend.demo.pictures import EMBLEMS, draw
from backend.events import StepEvent
from backend.trainer import flow
from backend.trainer.step import Batch, FlowModel
from tests.trainer.conftest import MakeRun, Run

_TEXT = "zork, a fox head in the middle of a square teal picture, flat emblem"
_DRAWS = 64


@pytest.fixture
def one_picture(tmp_path: Path) -> Path:
    folder = tmp_path / "one"
    folder.mkdir()
    draw(EMBLEMS[0]).save(folder / "fox.png")
    (folder / "fox.txt").write_text(_TEXT, encoding="utf-8")
    return folder


class Judge:
    """The flow-matching loss on noise and noise levels that no training has seen, computed from scratch."""

    def __init__(self, tiny_flux: Path, picture: Path, resolution: int) -> None:
        import numpy as np
        from PIL import Image

        pipeline = FluxPipeline.from_pretrained(tiny_flux)
        with Image.open(picture) as file:
            pixels = np.array(file.convert("RGB").resize((resolution, resolution)), dtype=np.float32)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            latent = pipeline.vae.encode(image).latent_dist.mode()
            t5, clip, _ = pipeline.encode_prompt(_TEXT, _TEXT, max_sequence_length=64)
        self._latent = (latent - pipeline.vae.config.shift_factor) * pipeline.vae.config.scaling_factor
        self._t5, self._clip = t5, clip
        self.transformer: FluxTransformer2DModel = pipeline.transformer
        generator = torch.Generator().manual_seed(1234)
        self._noise = torch.randn((_DRAWS, *latent.shape[1:]), generator=generator)
        self._sigmas = torch.linspace(0.05, 0.95, _DRAWS)

    @torch.no_grad()
    def losses(self) -> torch.Tensor:
        """One loss for each draw, sigmas ascending, [64]."""
        batch = Batch(
            latents=self._latent.expand_as(self._noise),
            t5=self._t5.expand(_DRAWS, -1, -1),
            clip=self._clip.expand(_DRAWS, -1),
        )
        level = self._sigmas.view(-1, 1, 1, 1)
        noisy = (1 - level) * batch.latents + level * self._noise
        predicted = FlowModel(self.transformer, 1.0).velocity(noisy, self._sigmas, batch.t5, batch.clip)
        return (predicted - (self._noise - batch.latents)).square().mean(dim=(1, 2, 3))

    @contextmanager
    def lora(self, file: Path) -> Iterator[None]:
        """With the LoRA in ``file`` added to the weights by hand: W + B A."""
        tensors = load_file(file)
        before = {k: v.clone() for k, v in self.transformer.state_dict().items()}
        weights = dict(self.transformer.named_parameters())
        with torch.no_grad():
            for key in tensors:
                if key.endswith(".lora_A.weight"):
                    name = key.removesuffix(".lora_A.weight")
                    delta = tensors[f"{name}.lora_B.weight"].float() @ tensors[key].float()
                    weights[name.removeprefix("transformer.") + ".weight"] += delta
        try:
            yield
        finally:
            self.transformer.load_state_dict(before)


def _overfitted(make_run: MakeRun, folder: Path) -> Run:
    run = make_run(
        network={"linear": 16},
        datasets=[{"folder_path": str(folder), "resolution": [64]}],
        train={"steps": 150, "batch_size": 1, "gradient_accumulation": 2, "lr": 5e-3},
    )
    assert run.train() == 0
    return run


def test_one_picture_is_learned_by_heart(make_run: MakeRun, tiny_flux: Path, one_picture: Path) -> None:
    judge = Judge(tiny_flux, one_picture / "fox.png", 64)
    untrained = judge.losses()
    run = _overfitted(make_run, one_picture)
    with judge.lora(run.final):
        trained = judge.losses()
    print(
        [
            (round(float(trained[i : i + 16].mean()), 3), round(float(untrained[i : i + 16].mean()), 3))
            for i in range(0, 64, 16)
        ]
    )
    assert torch.equal(judge.losses(), untrained)
    assert trained.mean() < 0.4 * untrained.mean()
    # At every noise level, not only where it is easy.
    for low in range(0, _DRAWS, 16):
        assert trained[low : low + 16].mean() < 0.7 * untrained[low : low + 16].mean()
    reported = [event.loss for event in run.events(StepEvent)]
    assert len(reported) == 150
    assert sum(reported[-30:]) < 0.6 * sum(reported[:30])


def test_the_untrained_model_predicts_what_the_trainer_reports(
    make_run: MakeRun, tiny_flux: Path, one_picture: Path
) -> None:
    """The first step's loss is that of the frozen model: the trainer's maths and the judge's agree."""
    judge = Judge(tiny_flux, one_picture / "fox.png", 64)
    run = make_run(
        datasets=[{"folder_path": str(one_picture), "resolution": [64]}],
        train={"steps": 1, "batch_size": 1, "gradient_accumulation": 64, "timestep_type": "linear"},
    )
    assert run.train() == 0
    (first,) = run.events(StepEvent)
    assert first.loss == pytest.approx(float(judge.losses().mean()), rel=0.08)


def test_the_loss_is_the_textbook_one() -> None:
    """Against the formulas written out for one token: x_t, v, and the mean of squares."""
    latents = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    noise = torch.full_like(latents, 10.0)
    noisy = flow.add_noise(latents, noise, torch.tensor([0.25]))
    assert noisy.flatten().tolist() == [3.25, 4.0, 4.75, 5.5]
    target = flow.velocity(latents, noise)
    assert target.flatten().tolist() == [9.0, 8.0, 7.0, 6.0]
    assert flow.flow_loss(torch.zeros_like(target), target).item() == (81 + 64 + 49 + 36) / 4
