"""Models in one file: what they are is read off them, and they answer as the folder does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.trainer.errors import TrainingError
from backend.trainer.loading import BaseModel
from backend.trainer.single_file import (
    load_transformer_file,
    transformer_config,
    without_prefix,
    without_scales,
)
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")


def real_config(*, guidance: bool) -> dict[str, Any]:
    """FLUX.1's transformer, from its published config."""
    return {
        "attention_head_dim": 128,
        "guidance_embeds": guidance,
        "in_channels": 64,
        "joint_attention_dim": 4096,
        "num_attention_heads": 24,
        "num_layers": 19,
        "num_single_layers": 38,
        "pooled_projection_dim": 768,
    }


def bfl_shapes(*, guidance: bool, double: int = 19, single: int = 38) -> dict[str, tuple[int, ...]]:
    """Names and shapes of Black Forest Labs' own file, from the layers of their model.py."""
    width, mlp = 3072, 12288
    linears = {"img_in": (width, 64), "txt_in": (width, 4096), "final_layer.linear": (64, width)}
    linears["final_layer.adaLN_modulation.1"] = (2 * width, width)
    for name, columns in (("time_in", 256), ("vector_in", 768), ("guidance_in", 256)):
        if name != "guidance_in" or guidance:
            linears |= {f"{name}.in_layer": (width, columns), f"{name}.out_layer": (width, width)}
    shapes: dict[str, tuple[int, ...]] = {}
    for n in range(double):
        for side in ("img", "txt"):
            block = f"double_blocks.{n}.{side}"
            linears |= {
                f"{block}_mod.lin": (6 * width, width),
                f"{block}_attn.qkv": (3 * width, width),
                f"{block}_attn.proj": (width, width),
                f"{block}_mlp.0": (mlp, width),
                f"{block}_mlp.2": (width, mlp),
            }
            shapes |= {f"{block}_attn.norm.{kind}_norm.scale": (128,) for kind in ("query", "key")}
    for n in range(single):
        block = f"single_blocks.{n}"
        linears |= {
            f"{block}.modulation.lin": (3 * width, width),
            f"{block}.linear1": (3 * width + mlp, width),
            f"{block}.linear2": (width, width + mlp),
        }
        shapes |= {f"{block}.norm.{kind}_norm.scale": (128,) for kind in ("query", "key")}
    for name, (rows, columns) in linears.items():
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return shapes


@pytest.mark.parametrize("guidance", [True, False])
def test_the_real_models_are_recognised(guidance: bool) -> None:
    config = transformer_config(bfl_shapes(guidance=guidance), {})
    assert config is not None
    assert real_config(guidance=guidance).items() <= config.items()
    assert config["axes_dims_rope"] == [16, 56, 56]


def test_every_name_finds_its_place_in_the_real_model() -> None:
    from diffusers import FluxTransformer2DModel
    from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers

    shapes = bfl_shapes(guidance=True, double=2, single=2)
    config = transformer_config(shapes, {})
    with torch.device("meta"):
        model = FluxTransformer2DModel.from_config(config)
        tensors = {name: torch.empty(shape) for name, shape in shapes.items()}
    renamed = convert_flux_transformer_checkpoint_to_diffusers(tensors)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in renamed.items()} == expected


def test_other_models_are_none() -> None:
    shapes = bfl_shapes(guidance=True, double=1, single=1)
    assert transformer_config(shapes | {"img_in.weight": (3072, 384)}, {}) is None  # Fill
    assert transformer_config({"down_blocks.0.conv.weight": (1, 1)}, {}) is None
    assert transformer_config({}, {}) is None


@pytest.fixture(scope="module")
def weights(tiny_flux: Path) -> dict[str, torch.Tensor]:
    (file,) = (tiny_flux / "transformer").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "transformer."])
def test_a_file_is_the_folders_model(
    tiny_flux: Path, weights: dict[str, torch.Tensor], tmp_path: Path, prefix: str
) -> None:
    path = tmp_path / "fine-tune.safetensors"
    others = {"vae.decoder.weight": torch.zeros(3)} if prefix else {}
    save_file({prefix + name: tensor for name, tensor in weights.items()} | others, path)
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32, parts={"transformer": path})
    base.check()
    loaded = base.transformer().state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_other_files_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "sdxl.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.weight": torch.zeros(2)}, path)
    with pytest.raises(TrainingError, match="not the transformer of a FLUX") as caught:
        load_transformer_file(path, beside=None, dtype=torch.float32)
    assert caught.value.bad_input


def test_prefixes_come_off() -> None:
    tensor = torch.zeros(1)
    assert without_prefix({"diffusion_model.a": tensor, "b": tensor}).keys() == {"a"}
    assert without_prefix({"a": tensor}).keys() == {"a"}


def test_float8_files_with_scales() -> None:
    stored = torch.tensor([[1.0, -2.0]]).to(torch.float8_e4m3fn)
    tensors = {
        "a.weight": stored,
        "a.scale_weight": torch.tensor(0.5),
        "a.scale_input": torch.tensor(9.0),
        "b.weight": stored,
        "scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn),
    }
    result = without_scales(tensors, torch.bfloat16)
    assert result.keys() == {"a.weight", "b.weight"}
    assert result["a.weight"].tolist() == [[0.5, -1.0]]
    assert result["b.weight"] is stored


def test_an_autoencoder_of_one_file(tiny_flux: Path, tmp_path: Path) -> None:
    (file,) = (tiny_flux / "vae").glob("*.safetensors")
    path = tmp_path / "ae.safetensors"
    save_file(load_file(file), path)
    vae = BaseModel(tiny_flux, "tiny", CPU, torch.float32, parts={"vae": path}).vae()
    expected = BaseModel(tiny_flux, "tiny", CPU, torch.float32).vae()
    assert vae.config.scaling_factor == expected.config.scaling_factor
    loaded, wanted = vae.state_dict(), expected.state_dict()
    assert all(torch.equal(loaded[name], wanted[name]) for name in wanted)


def test_a_run_on_a_file_is_the_run_on_the_folder(
    tiny_flux: Path, weights: dict[str, torch.Tensor], tmp_path: Path, make_run: MakeRun
) -> None:
    transformer = tmp_path / "mine.safetensors"
    save_file(weights, transformer)
    run = make_run(
        model={"name_or_path": str(transformer), "extras_name_or_path": str(tiny_flux)}, train={"steps": 1}
    )
    assert run.train() == 0
    folder = make_run("folder", train={"steps": 1})
    assert folder.train() == 0
    first, second = (load_file(path) for path in (run.final, folder.final))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_attention_masking_silences_the_padding(tiny_flux: Path, make_run: MakeRun) -> None:
    from backend.trainer.encode import encode_text
    from config.schema import ModelConfig

    settings = ModelConfig(name_or_path="x", attn_masking=True)
    plain = BaseModel(tiny_flux, "tiny", CPU, torch.float32)
    masked = BaseModel(tiny_flux, "tiny", CPU, torch.float32, settings=settings)
    encoders, tokenizers = plain.text_encoders(), plain.tokenizers()
    tokens = len(tokenizers.t5("a fox").input_ids)
    without = encode_text("a fox", encoders, tokenizers)
    with_mask = encode_text("a fox", encoders, tokenizers, masked=masked.attn_masking)
    assert torch.equal(with_mask["t5"][:tokens], without["t5"][:tokens])
    assert not with_mask["t5"][tokens:].any()
    assert without["t5"][tokens:].any()
    assert plain.fingerprint("text_encoder_2") != masked.fingerprint("text_encoder_2")
    run = make_run(model={"attn_masking": True}, train={"steps": 1})
    assert run.train() == 0


def test_a_missing_part_is_named(tiny_flux: Path, tmp_path: Path) -> None:
    folder = tmp_path / "transformer-only"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"_class_name": "SD3Transformer2DModel"}), encoding="utf-8"
    )
    base = BaseModel(tiny_flux, "mine", CPU, torch.float32, parts={"transformer": folder})
    with pytest.raises(TrainingError, match="its transformer is SD3Transformer2DModel"):
        base.check()
