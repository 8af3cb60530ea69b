from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backend.lora.convert import convert_file
from backend.lora.file import Tensor
from backend.lora.selftest import self_test
from tests.backend.lora_files import SMALL, block_layers, diffusers_tensors, kohya_tensors, save, tensor

MODEL = {
    part.name: (part.rows, layer.columns)
    for layer in SMALL.layers()
    for part in layer.parts
    if not layer.text
}
Q = "transformer.transformer_blocks.0.attn.to_q"


def test_good_files_pass(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", diffusers_tensors(SMALL))
    assert self_test(path, MODEL) == []
    some = {key: value for key, value in diffusers_tensors(SMALL).items() if "attn.to_k" in key}
    assert self_test(save(tmp_path / "some.safetensors", some), MODEL) == []
    blocks = {part.name: (part.rows, layer.columns) for layer in block_layers(SMALL) for part in layer.parts}
    assert self_test(path, blocks) == []


@pytest.mark.parametrize(
    "tensors",
    [
        {f"{Q}.lokr_w1": tensor(np.ones((2, 2))), f"{Q}.lokr_w2": tensor(np.ones((4, 4)))},
        diffusers_tensors(SMALL) | {f"{Q}.dora_scale": tensor(np.ones((8, 1)))},
        diffusers_tensors(SMALL) | {f"{Q}.lora_magnitude_vector": tensor(np.ones(8))},
    ],
    ids=["LoKr", "DoRA of LyCORIS", "DoRA of PEFT"],
)
def test_other_kinds_need_one_reader(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    assert self_test(save(tmp_path / "x.safetensors", tensors), MODEL) == []
    unknown = {key.replace("to_q", "to_z"): value for key, value in tensors.items()}
    problems = self_test(save(tmp_path / "y.safetensors", unknown), MODEL)
    assert sum("cannot use all of it" in problem for problem in problems) == 3


def without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in diffusers_tensors(SMALL).items() if name != key}


def changed(name: str, values: np.ndarray) -> dict[str, Tensor]:
    return diffusers_tensors(SMALL) | {name: tensor(values, "F16")}


BAD = {
    "incomplete": (
        without(f"{Q}.lora_A.weight"),
        [f"{Q}: its A (down) matrix is missing", "diffusers", "ComfyUI", "Forge"],
    ),
    "not finite": (changed(f"{Q}.lora_B.weight", np.full((8, 2), np.inf)), ["no numbers"]),
    "another model": (
        diffusers_tensors(SMALL) | changed(f"{Q}.lora_A.weight", np.ones((2, 7))),
        [f"{Q}: it is for a layer of 8 x 7, the model's is 8 x 8"],
    ),
    "a block too many": (
        diffusers_tensors(SMALL)
        | {
            key.replace("blocks.0", "blocks.1"): value
            for key, value in without("").items()
            if "transformer.transformer_blocks" in key and "to_q" in key
        },
        [
            "transformer.transformer_blocks.1.attn.to_q: the model has no such layer",
            "diffusers",
            "ComfyUI cannot use all of it: 2 of 54 keys are left out",
            "Forge",
        ],
    ),
    "strange key": (
        diffusers_tensors(SMALL) | {"transformer.x.weight": tensor(np.ones(1))},
        [
            "diffusers",
            "ComfyUI cannot use all of it: 1 of 53 keys are left out, first transformer.x.weight",
            "Forge",
        ],
    ),
    "not for diffusers": (
        kohya_tensors(SMALL, names="comfy", suffixes=("lora_A", "lora_B")),  # type: ignore[arg-type]
        ["diffusers cannot use all of it: it would load nothing"],
    ),
    "no adapter": ({"a.weight": tensor(np.ones(1))}, ["no adapter"]),
    "zero": (
        {k: tensor(np.zeros(v.shape)) if "lora_B" in k else v for k, v in diffusers_tensors(SMALL).items()},
        ["all B (up) matrices are zero"],
    ),
}


@pytest.mark.parametrize(("tensors", "expected"), BAD.values(), ids=BAD)
def test_bad_files_do_not(tmp_path: Path, tensors: dict[str, Tensor], expected: list[str]) -> None:
    problems = self_test(save(tmp_path / "x.safetensors", tensors), MODEL)
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert start in problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", diffusers_tensors(SMALL))
    assert "cannot be read" in self_test(tmp_path / "none.safetensors", MODEL)[0]
    path.write_bytes(path.read_bytes()[:-3])
    assert "3 bytes of its tensors are missing" in self_test(path, MODEL)[0]


def test_many_problems_are_few_lines(tmp_path: Path) -> None:
    half = {key: value for key, value in diffusers_tensors(SMALL).items() if "lora_A" in key}
    problems = self_test(save(tmp_path / "x.safetensors", half), MODEL)
    assert problems[5] == "and 21 more layers or tensors have problems"
    assert [problem.split()[0] for problem in problems[6:]] == ["diffusers", "ComfyUI", "Forge"]


def test_a_converted_file_passes_where_it_is_meant_to(tmp_path: Path) -> None:
    path, _ = convert_file(save(tmp_path / "x.safetensors", diffusers_tensors(SMALL)), "kohya")
    (problem,) = self_test(path, MODEL)  # diffusers knows kohya's names for FLUX.1's own size only
    assert problem.startswith("diffusers cannot use all of it")
