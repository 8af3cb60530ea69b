"""The tiny FLUX: a whole, real model folder in which a LoRA can learn."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel

from backend.demo.pictures import EMBLEMS, draw
from backend.trainer.tiny import build_tiny_flux, is_tiny_flux
from backend.trainer.tiny import pipeline as tiny_pipeline
from tests.trainer.messages import complaints


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _pixels(size: int | None = None) -> list[torch.Tensor]:
    pictures = [draw(emblem) for emblem in EMBLEMS]
    if size:
        pictures = [picture.resize((size, size)) for picture in pictures]
    return [
        torch.from_numpy(np.array(picture, dtype=np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        for picture in pictures
    ]


@pytest.fixture(scope="module")
def pipeline(tiny_flux: Path) -> FluxPipeline:
    return FluxPipeline.from_pretrained(tiny_flux)


def test_loads_without_a_complaint(tiny_flux: Path) -> None:
    with complaints() as heard:
        loaded = FluxPipeline.from_pretrained(tiny_flux)
    assert heard == []
    names = {name: type(part).__name__ for name, part in loaded.components.items()}
    assert names == {
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer_2": "T5Tokenizer",  # the fast one: transformers 5 has one class for both
        "transformer": "FluxTransformer2DModel",
        "image_encoder": "NoneType",
        "feature_extractor": "NoneType",
    }


def test_has_the_shapes_of_the_real_one(pipeline: FluxPipeline) -> None:
    assert pipeline.vae.config.latent_channels == 16
    assert pipeline.vae_scale_factor == 8
    assert (pipeline.vae.config.scaling_factor, pipeline.vae.config.shift_factor) == (0.3611, 0.1159)
    assert pipeline.transformer.config.in_channels == 64
    assert pipeline.transformer.config.guidance_embeds
    assert pipeline.tokenizer.model_max_length == 77
    config = pipeline.scheduler.config
    assert (config.base_shift, config.max_shift, config.use_dynamic_shifting) == (0.5, 1.15, True)
    assert (config.base_image_seq_len, config.max_image_seq_len) == (256, 4096)


def test_is_a_few_megabytes(tiny_flux: Path) -> None:
    assert sum(path.stat().st_size for path in tiny_flux.rglob("*") if path.is_file()) < 12e6


def test_the_seed_decides_everything(tiny_flux: Path, tmp_path: Path) -> None:
    again = build_tiny_flux(tmp_path / "again")
    assert _hashes(again) == _hashes(tiny_flux)
    other = build_tiny_flux(tmp_path / "other", seed=1)
    changed = {name for name, digest in _hashes(other).items() if digest != _hashes(again)[name]}
    assert "transformer/diffusion_pytorch_model.safetensors" in changed
    assert "tokenizer/tokenizer.json" not in changed


def test_building_leaves_the_global_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build_tiny_flux(tmp_path / "model")
    assert torch.equal(torch.rand(1), expected)


def test_a_second_build_keeps_the_first(tiny_flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_pipeline, "save_pipeline", _must_not_be_called)
    assert build_tiny_flux(tiny_flux) == tiny_flux


def _must_not_be_called(*_: object, **__: object) -> None:
    raise AssertionError("built again")


def test_other_settings_and_older_versions_are_built_anew(tmp_path: Path) -> None:
    folder = build_tiny_flux(tmp_path / "model")
    build_tiny_flux(folder, guidance_embeds=False)
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    assert not transformer.config.guidance_embeds
    marker = folder / "tiny_flux.json"
    marker.write_text(marker.read_text(encoding="utf-8").replace('"version": ', '"version": -'), "utf-8")
    (folder / "vae" / "config.json").unlink()
    build_tiny_flux(folder, guidance_embeds=False)
    assert is_tiny_flux(folder, guidance_embeds=False)
    assert (folder / "vae" / "config.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_build_that_dies_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(folder: Path, **_: object) -> None:
        (folder / "model_index.json").write_text("{}", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiny_pipeline, "save_pipeline", half)
    with pytest.raises(OSError, match="No space"):
        build_tiny_flux(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_another_process_may_be_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    save = tiny_pipeline.save_pipeline

    def meanwhile(temporary: Path, *, seed: int, guidance_embeds: bool) -> None:
        monkeypatch.setattr(tiny_pipeline, "save_pipeline", save)
        build_tiny_flux(folder)
        (folder / "theirs").touch()
        save(temporary, seed=seed, guidance_embeds=guidance_embeds)

    monkeypatch.setattr(tiny_pipeline, "save_pipeline", meanwhile)
    assert build_tiny_flux(folder) == folder
    assert (folder / "theirs").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="is no tiny FLUX"):
        build_tiny_flux(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = subprocess.run(
        [sys.executable, "-m", "backend.trainer.tiny", str(tmp_path / "file" / "model")],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot be written" in result.stderr


def test_scaled_latents_are_like_unit_noise(pipeline: FluxPipeline) -> None:
    vae = pipeline.vae
    with torch.no_grad():
        posteriors = [vae.encode(picture).latent_dist for picture in _pixels()]
    latents = torch.cat([p.mode().flatten(2)[0] for p in posteriors], dim=1)
    scaled = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    assert scaled.mean().abs() < 0.05
    assert 0.8 < scaled.var() < 1.2
    assert scaled.std(dim=1).min() > 0.2  # no dead channel
    assert max(float(p.std.max()) for p in posteriors) < 0.02


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 22.0), (torch.bfloat16, 21.0)])
def test_pictures_survive_the_autoencoder(tiny_flux: Path, dtype: torch.dtype, floor: float) -> None:
    vae = AutoencoderKL.from_pretrained(tiny_flux / "vae", torch_dtype=dtype)
    for pixels in _pixels(128):
        with torch.no_grad():
            latents = vae.encode(pixels.to(dtype)).latent_dist.mode()
            decoded = vae.decode(latents).sample.float()
        error = (decoded - pixels).square().mean()
        assert 10 * torch.log10(4 / error) > floor  # peak signal-to-noise ratio, dB


def test_texts_are_told_apart(pipeline: FluxPipeline) -> None:
    texts = [emblem.caption for emblem in EMBLEMS]
    with torch.no_grad():
        hidden, pooled, _ = pipeline.encode_prompt(texts, texts, max_sequence_length=64)
    for embedding in (pooled, hidden.flatten(1)):
        assert 0.3 < embedding.std() < 3
        distances = torch.cdist(embedding, embedding) / embedding.norm(dim=1).mean()
        distances.fill_diagonal_(1)
        assert distances.min() > 0.05
    ids = pipeline.tokenizer_2(texts[0].replace("[trigger]", "zorrito")).input_ids
    assert pipeline.tokenizer_2.unk_token_id not in ids
    assert len(ids) < 32
    assert pipeline.tokenizer.decode(pipeline.tokenizer("A Fox, here!").input_ids, True) == "a fox , here !"


def _inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    return {
        "hidden_states": torch.randn(batch, 16, 64, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 8, 128, generator=generator),
        "pooled_projections": torch.randn(batch, 64, generator=generator),
        "timestep": torch.full((batch,), 0.5),
        "guidance": torch.ones(batch),
        "img_ids": torch.stack([torch.zeros(4, 4), rows, columns], dim=-1).reshape(-1, 3).float(),
        "txt_ids": torch.zeros(8, 3),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestep", torch.full((2,), 0.9)),
        ("guidance", torch.full((2,), 4.0)),
        ("pooled_projections", torch.zeros(2, 64)),
        ("encoder_hidden_states", torch.zeros(2, 8, 128)),
        ("img_ids", torch.zeros(16, 3)),
        ("hidden_states", torch.zeros(2, 16, 64)),
    ],
)
def test_the_transformer_heeds_every_input(pipeline: FluxPipeline, name: str, value: torch.Tensor) -> None:
    with torch.no_grad():
        before = pipeline.transformer(**_inputs()).sample
        after = pipeline.transformer(**(_inputs() | {name: value})).sample
    assert 0.3 < before.std() < 3
    assert (after - before).square().mean().sqrt() > 1e-3


def test_every_layer_of_a_lora_has_something_to_grip(tiny_flux: Path) -> None:
    from peft import LoraConfig

    transformer = FluxTransformer2DModel.from_pretrained(tiny_flux / "transformer")
    layers = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and "transformer_blocks" in name
    ]
    transformer.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=layers))
    inputs = _inputs()
    target = torch.randn(2, 16, 64, generator=torch.Generator().manual_seed(1))
    (transformer(**inputs).sample - target).square().mean().backward()
    strengths = {
        name: float(parameter.grad.norm() if parameter.grad is not None else 0.0)
        for name, parameter in transformer.named_parameters()
        if "lora_B" in name
    }
    assert len(strengths) == len(layers)
    weak = [name for name, strength in strengths.items() if strength < 1e-6]
    assert weak == []


def test_without_guidance_it_is_like_schnell(tmp_path: Path) -> None:
    folder = build_tiny_flux(tmp_path / "schnell", guidance_embeds=False)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "FluxPipeline"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = FluxPipeline.from_pretrained(folder)
        loaded.set_progress_bar_config(disable=True)
        image = loaded("a fox", width=64, height=64, num_inference_steps=1, max_sequence_length=64).images[0]
    assert image.size == (64, 64)
