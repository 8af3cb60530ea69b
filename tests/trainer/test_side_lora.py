"""LoRAs beside the trained one: read in any naming, fused, and taken off again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops
from safetensors.torch import load_file, save_file
from torch import nn

from backend.events import SampleEvent, StepEvent, WarningEvent
from backend.trainer import flow
from backend.trainer.errors import TrainingError
from backend.trainer.loading import BaseModel
from backend.trainer.lora import attach_lora
from backend.trainer.side_lora import SideLora, added, read_side_lora
from backend.trainer.tiny.text import CLIP_WIDTH, T5_WIDTH
from config.schema import ModelConfig, NetworkConfig
from tests.trainer.conftest import MakeRun, Run

CPU = torch.device("cpu")
Q = "transformer_blocks.0.attn.to_q"


def random_lora(
    transformer: nn.Module, names: list[str], scale: float = 0.3
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    layers = {}
    for name in names:
        layer = transformer.get_submodule(name)
        a = torch.randn(2, layer.in_features, generator=generator) * scale
        b = torch.randn(layer.out_features, 2, generator=generator) * scale
        layers[name] = (a, b)
    return layers


@pytest.fixture(scope="module")
def transformer(tiny_flux: Path) -> nn.Module:
    return BaseModel(tiny_flux, "tiny", CPU, torch.float32).transformer()


@pytest.fixture(scope="module")
def lora_file(transformer: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on two layers, in diffusers' naming."""
    path = tmp_path_factory.mktemp("side") / "side.safetensors"
    names = [Q, "single_transformer_blocks.1.proj_out"]
    tensors = {}
    for name, (a, b) in random_lora(transformer, names).items():
        tensors[f"transformer.{name}.lora_A.weight"], tensors[f"transformer.{name}.lora_B.weight"] = a, b
    save_file(tensors, path)
    return path


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "hidden_states": torch.randn(1, 4, 64, generator=generator),
        "timestep": torch.tensor([0.7]),
        "guidance": torch.tensor([1.0]),
        "pooled_projections": torch.randn(1, CLIP_WIDTH, generator=generator),
        "encoder_hidden_states": torch.randn(1, 6, T5_WIDTH, generator=generator),
        "img_ids": flow.image_ids(4, 4, CPU, torch.float32),
        "txt_ids": flow.text_ids(6, CPU, torch.float32),
    }


@torch.no_grad()
def answer(model: nn.Module) -> torch.Tensor:
    result: torch.Tensor = model(**inputs(), return_dict=False)[0]
    return result


def test_fusing_adds_the_product(transformer: nn.Module, lora_file: Path) -> None:
    lora = read_side_lora(lora_file, "side")
    model = copy.deepcopy(transformer)
    assert lora.check(model) == 0
    lora.fuse(model, 0.5)
    tensors = load_file(lora_file)
    a, b = tensors[f"transformer.{Q}.lora_A.weight"], tensors[f"transformer.{Q}.lora_B.weight"]
    expected = transformer.get_submodule(Q).weight + 0.5 * b @ a
    assert torch.allclose(model.get_submodule(Q).weight, expected, atol=1e-6)


def test_adding_is_fusing_for_a_while(transformer: nn.Module, lora_file: Path) -> None:
    lora = read_side_lora(lora_file, "side")
    base, fused = answer(transformer), copy.deepcopy(transformer)
    lora.fuse(fused)
    with added(transformer, [(lora, 1.0)]):
        assert torch.allclose(answer(transformer), answer(fused), atol=1e-4)
        assert not torch.allclose(answer(transformer), base, atol=1e-2)
    assert torch.equal(answer(transformer), base)
    with added(fused, [(lora, -1.0)]):  # what an assistant does while sampling
        assert torch.allclose(answer(fused), base, atol=1e-4)


def test_it_works_under_the_trained_adapter_and_over_quantised_layers(
    tiny_flux: Path, lora_file: Path
) -> None:
    settings = ModelConfig(name_or_path="x", quantize=True, qtype="int8")
    model = BaseModel(tiny_flux, "tiny", CPU, torch.float32, settings=settings).transformer()
    attach_lora(model, NetworkConfig(rank=2), torch.Generator().manual_seed(0))
    base = answer(model)
    with added(model, [(read_side_lora(lora_file, "side"), 1.0)]):
        assert not torch.allclose(answer(model), base, atol=1e-2)
    assert torch.equal(answer(model), base)


def test_kohyas_naming_and_alpha_are_understood(tmp_path: Path) -> None:
    a, b = torch.randn(2, 3072), torch.randn(3072, 2)
    key = "lora_unet_double_blocks_0_img_attn_proj"
    path = tmp_path / "kohya.safetensors"
    save_file(
        {f"{key}.lora_down.weight": a, f"{key}.lora_up.weight": b, f"{key}.alpha": torch.tensor(1.0)}, path
    )
    lora = read_side_lora(path, "kohya")
    ((name, (down, up)),) = lora.layers.items()
    assert name == "transformer_blocks.0.attn.to_out.0"
    assert torch.allclose(up @ down, 0.5 * b @ a, atol=1e-3)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(1)}, "holds no LoRA"),
        ({f"transformer.{Q}.lora_A.weight": torch.zeros(1, 1)}, "has no lora_B"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    with pytest.raises(TrainingError, match=message) as caught:
        read_side_lora(path, "model.lora_path (x)")
    assert caught.value.bad_input
    path.write_bytes(b"no tensors at all")
    with pytest.raises(TrainingError, match="cannot be used"):
        read_side_lora(path, "x")


def test_a_lora_of_another_model_is_refused(transformer: nn.Module) -> None:
    strange = SideLora("strange", {"down.0.attn": (torch.zeros(1, 4), torch.zeros(4, 1))})
    with pytest.raises(TrainingError, match="no layer of this base model"):
        strange.check(transformer)
    wide = SideLora("wide", {Q: (torch.zeros(1, 3072), torch.zeros(3072, 1))})
    with pytest.raises(TrainingError, match="another model"):
        wide.check(transformer)


def test_a_run_with_all_three(make_run: MakeRun, lora_file: Path, tmp_path: Path) -> None:
    extra = load_file(lora_file) | {
        "transformer.nowhere.lora_A.weight": torch.zeros(2, 4),
        "transformer.nowhere.lora_B.weight": torch.zeros(4, 2),
    }
    save_file(extra, tmp_path / "extra.safetensors")
    sample = {"prompts": ["zork"], "width": 64, "height": 64, "sample_steps": 2, "sample_every": 100}
    train = {"steps": 1, "disable_sampling": False}
    plain = make_run("plain", sample=sample, train=train)
    helped = make_run(
        "helped",
        sample=sample,
        train=train,
        model={"assistant_lora_path": str(lora_file), "lora_path": str(tmp_path / "extra.safetensors")},
    )
    assisted = make_run("assisted", sample=sample, train=train, model={"assistant_lora_path": str(lora_file)})
    for run in (plain, helped, assisted):
        assert run.train() == 0
    (warning,) = helped.events(WarningEvent)
    assert "1 of the 3 layers" in warning.message
    # The assistant is off while sampling, so the baseline is the base model's; the fused LoRA is on.
    assert difference(plain, assisted) <= 2
    assert difference(plain, helped) > 2
    first = [next(event.loss for event in run.events(StepEvent)) for run in (plain, assisted)]
    assert first[0] != first[1]  # and on while training


def difference(one: Run, other: Run) -> int:
    """How far two runs' first samples are apart at most, of 255."""
    pictures = [Image.open(run.folder.path / run.events(SampleEvent)[0].path) for run in (one, other)]
    return max(high for _, high in ImageChops.difference(*pictures).getextrema())
