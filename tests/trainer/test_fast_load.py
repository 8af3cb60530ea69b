from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from backend.trainer.fast_load import load_transformer, weight_files

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_flux: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_flux / "transformer", tmp_path / "transformer"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_those_that_diffusers_loads(folder: Path, dtype: torch.dtype) -> None:
    known = FluxTransformer2DModel.from_pretrained(folder, dtype=dtype).state_dict()
    model = load_transformer(folder, CPU, dtype)
    assert model is not None
    assert dict(model.config).items() >= {"num_layers": 1, "num_single_layers": 2}.items()
    mine = model.state_dict()
    assert mine.keys() == known.keys()
    assert all(torch.equal(mine[name], known[name]) and mine[name].dtype == dtype for name in known)
    next(iter(folder.glob("*.safetensors"))).unlink()  # nothing is a view of the file
    assert all(torch.equal(mine[name], known[name]) for name in known)


def test_shards_are_read_and_put_together(folder: Path) -> None:
    (whole,) = weight_files(folder)
    tensors = load_file(whole)
    names = sorted(tensors)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({name: tensors[name] for name in part}, folder / file)
    whole.unlink()
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / f"{whole.name}.index.json").write_text(json.dumps(index), encoding="utf-8")
    model = load_transformer(folder, CPU, torch.float32)
    assert model is not None
    assert all(torch.equal(value, tensors[name]) for name, value in model.state_dict().items())


def test_other_files_are_left_to_diffusers(folder: Path) -> None:
    (whole,) = weight_files(folder)
    tensors = load_file(whole)
    tensors.popitem()
    save_file(tensors, whole)
    assert load_transformer(folder, CPU, torch.float32) is None
    whole.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert load_transformer(folder, CPU, torch.float32) is None
