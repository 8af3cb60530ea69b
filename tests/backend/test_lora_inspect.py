from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.lora.convert import convert_file
from backend.lora.file import LoraError
from backend.lora.inspect import CONFIG_KEY, inspect_lora
from backend.lora.naming import Dialect
from tests.backend.lora_files import SMALL, diffusers_tensors, kohya_tensors, save, tensor

Q = "transformer.transformer_blocks.0.attn.to_q"
METADATA = {
    "modelspec.architecture": "flux-1-dev/lora",
    "modelspec.title": "cat",
    "modelspec.trigger_phrase": "ohwx cat",
    "ss_base_model_version": "flux1",
    "software": '{"name": "fluxlora-tui", "version": "0.1.0"}',
    "training_info": '{"step": 250, "epoch": 3}',
    CONFIG_KEY: '{"job": "extension"}',
}


def test_a_file_of_our_own(tmp_path: Path) -> None:
    path = save(tmp_path / "cat.safetensors", diffusers_tensors(SMALL, rank=2), METADATA)
    report = inspect_lora(path)
    assert (report.kind, report.dialects) == ("LoRA", (Dialect.DIFFUSERS,))
    assert report.size == path.stat().st_size
    assert (report.modules, report.text_encoder_modules) == (14 + 2 * 6, 0)
    assert (dict(report.ranks), dict(report.alphas), dict(report.dtypes)) == ({2: 26}, {}, {"F16": 52})
    stream = 4 * (8 + 8) + (8 + 32) + (32 + 8) + (8 + 48)  # in + out: attention, mlp, modulation
    single = 3 * (8 + 8) + (8 + 32) + (40 + 8) + (8 + 24)  # attention, mlp, output, modulation
    assert report.parameters == 2 * (2 * stream + 2 * single)
    assert (report.title, report.trigger, report.steps, report.epoch) == ("cat", "ohwx cat", 250, 3)
    assert report.software == "fluxlora-tui 0.1.0"
    assert report.config == {"job": "extension"}
    assert report.base_model.startswith(
        "not FLUX.1 itself: a model of its kind of width 8, 1 double and 2 single"
    )
    assert "flux-1-dev/lora" in report.base_model
    assert report.problems == []
    assert [verdict.works for verdict in report.works_in] == ["yes", "yes", "yes", "no"]
    record = json.loads(json.dumps(report.record()))
    assert record["works_in"][3]["reader"] == "kohya"
    assert len(record["works_in"][3]["unmatched"]) == 52
    assert record["metadata"]["modelspec.title"] == "cat"


def test_a_stacked_kohya_file_of_the_real_width(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    source = {}
    for letter in "qk":
        name = f"transformer.transformer_blocks.18.attn.to_{letter}"
        source[f"{name}.lora_A.weight"] = tensor(rng.normal(size=(4, 3072)), "BF16")
        source[f"{name}.lora_B.weight"] = tensor(rng.normal(size=(3072, 4)), "BF16")
    path, _ = convert_file(save(tmp_path / "x.safetensors", source), "kohya")
    report = inspect_lora(path)
    assert report.base_model == "FLUX.1"
    assert (dict(report.ranks), dict(report.alphas)) == ({8: 1}, {8.0: 1})
    assert [verdict.works for verdict in report.works_in] == ["yes"] * 4


@pytest.mark.parametrize(
    ("metadata", "trigger", "steps"),
    [
        ({"ss_tag_frequency": '{"1_ohwx": {"ohwx": 1}}', "ss_steps": "900"}, "ohwx", 900),
        ({"ss_tag_frequency": '{"5_a": {"cat": 3, "dog": 2}}'}, None, None),
        ({"ss_tag_frequency": "[" * 100_000, "ss_steps": "x", "training_info": "[1]"}, None, None),
        (
            {"ss_tag_frequency": '{"1_a": [], "1_b": {"x": "y"}}', "training_info": '{"step": 1e999}'},
            None,
            None,
        ),
        ({"software": '{"name": 3}', CONFIG_KEY: "{"}, None, None),
    ],
)
def test_metadata_of_others(
    tmp_path: Path, metadata: dict[str, str], trigger: str | None, steps: int
) -> None:
    report = inspect_lora(save(tmp_path / "x.safetensors", diffusers_tensors(SMALL), metadata))
    assert (report.trigger, report.steps) == (trigger, steps)
    assert report.config is None
    json.dumps(report.record(), allow_nan=False)


def test_broken_weights_are_found(tmp_path: Path) -> None:
    tensors = diffusers_tensors(SMALL)
    tensors[f"{Q}.lora_A.weight"] = tensor(np.array([[np.nan] + [1.0] * 7] * 2), "F16")
    (problem,) = inspect_lora(save(tmp_path / "nan.safetensors", tensors)).problems
    assert (
        problem
        == f"1 of 52 tensors have values that are no numbers (NaN or infinite), first {Q}.lora_A.weight"
    )
    zero = {
        key: tensor(np.zeros(value.shape), "BF16") if "lora_B" in key else value
        for key, value in diffusers_tensors(SMALL).items()
    }
    (problem,) = inspect_lora(save(tmp_path / "zero.safetensors", zero)).problems
    assert "not trained" in problem
    zero[f"{Q}.lora_B.weight"] = tensor(np.full((8, 2), -1e-6), "BF16")
    assert not inspect_lora(save(tmp_path / "nearly.safetensors", zero)).problems


def test_broken_pairs_are_found(tmp_path: Path) -> None:
    tensors = diffusers_tensors(SMALL)
    del tensors[f"{Q}.lora_B.weight"]
    tensors[f"{Q[:-1]}k.lora_A.weight"] = tensor(np.ones((3, 8)))
    tensors[f"{Q[:-1]}v.lora_A.weight"] = tensor(np.ones((2, 9)))
    tensors[f"{Q[:-1]}v.alpha"] = tensor(np.ones(2))
    problems = inspect_lora(save(tmp_path / "x.safetensors", tensors)).problems
    assert sorted(problems) == [
        f"{Q[:-1]}k: its matrices [3, 8] and [8, 2] do not belong together",
        f"{Q}: its B (up) matrix is missing",
        f"{Q[:-1]}v.alpha: an alpha has the shape [2] instead of one number",
        f"{Q[:-1]}v: it is for a layer of 8 x 9, the model's is 8 x 8",
    ]


def test_other_kinds(tmp_path: Path) -> None:
    lokr = {"lycoris_transformer_blocks_0_attn_to_q.lokr_w1": tensor(np.ones((2, 2)))}
    report = inspect_lora(save(tmp_path / "lokr.safetensors", lokr))
    assert (report.kind, report.dialects, report.modules) == ("LoKr", (Dialect.LYCORIS,), 1)
    dora = diffusers_tensors(SMALL) | {f"{Q}.dora_scale": tensor(np.ones(8))}
    assert inspect_lora(save(tmp_path / "dora.safetensors", dora)).kind == "DoRA"
    sdxl = {f"lora_unet_down_blocks_0.lora_{x}.weight": tensor(np.ones((2, 2))) for x in ("up", "down")}
    assert inspect_lora(save(tmp_path / "sdxl.safetensors", sdxl)).base_model.startswith(
        "not FLUX.1: no layer"
    )
    mixed = diffusers_tensors(SMALL) | kohya_tensors(SMALL)
    assert set(inspect_lora(save(tmp_path / "mixed.safetensors", mixed)).dialects) == {
        Dialect.DIFFUSERS,
        Dialect.KOHYA,
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_described_but_never_crashes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    source = {key: value for key, value in diffusers_tensors(SMALL).items() if "attn.to_q" in key}
    path = save(folder / "x.safetensors", source | {f"{Q}.alpha": tensor(np.array(2.0))}, METADATA)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789"[]{},:')))
    path.write_bytes(content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])
    for work in (inspect_lora, lambda file: convert_file(file, "kohya")):
        with contextlib.suppress(LoraError):  # anything else fails
            work(path)


def test_what_is_no_lora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoraError, match="none of its 1 tensors belongs to an adapter"):
        inspect_lora(save(tmp_path / "x.safetensors", {"img_in.weight": tensor(np.ones((2, 2)))}))
    with pytest.raises(LoraError, match="no tensors in it"):
        inspect_lora(save(tmp_path / "y.safetensors", {}))
