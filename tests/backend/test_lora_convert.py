from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.lora.convert import Conversion, convert_file, convert_lora
from backend.lora.file import LoraError, LoraFile, Tensor, read_lora
from backend.lora.naming import Architecture, Dialect, Layer, Role, parse_key
from backend.lora.number_formats import FORMATS
from tests.backend.lora_files import (
    SMALL,
    adapter,
    all_bits,
    block_layers,
    diffusers_tensors,
    kohya_tensors,
    save,
    tensor,
)

WEIGHTS = ("F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def lora(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> LoraFile:
    return LoraFile(Path("x.safetensors"), 0, tensors, metadata or {})


def as_file(conversion: Conversion) -> LoraFile:
    return lora(conversion.tensors, conversion.metadata)


def effects(file: LoraFile, architecture: Architecture) -> dict[str, np.ndarray]:
    """What a LoRA adds to each of BFL's layers: ``up @ down * alpha / rank`` in its rows, in float64."""
    pairs: dict[str, dict[Role, str]] = {}
    for text in file.tensors:
        key = parse_key(text, architecture)
        assert key.known, text
        pairs.setdefault(key.name, {})[key.role] = text  # type: ignore[index]
    found: dict[str, np.ndarray] = {}
    for roles in pairs.values():
        module = parse_key(roles[Role.DOWN], architecture).module
        assert module is not None
        layer = module.layer
        down, up = file.tensors[roles[Role.DOWN]].values(), file.tensors[roles[Role.UP]].values()
        alpha = file.tensors[roles[Role.ALPHA]].item() if Role.ALPHA in roles else len(down)
        delta = up @ down * float(Fraction(alpha) / len(down))
        whole = found.setdefault(layer.name, np.zeros((layer.rows, layer.columns)))
        part = module.part
        if layer.swapped and module.dialect in (Dialect.DIFFUSERS, Dialect.FLATTENED):
            delta = np.concatenate([delta[layer.rows // 2 :], delta[: layer.rows // 2]])
        start = 0 if part is None else sum(p.rows for p in layer.parts[:part])
        whole[start : start + len(delta)] += delta
    return found


def assert_same_effect(
    left: LoraFile, right: LoraFile, architecture: Architecture, **tolerance: float
) -> None:
    ours, theirs = effects(left, architecture), effects(right, architecture)
    for name in ours.keys() | theirs.keys():
        zero = np.zeros(1)
        np.testing.assert_allclose(ours.get(name, zero), theirs.get(name, zero), rtol=0, atol=0, **tolerance)


@dataclass
class Made:
    architecture: Architecture
    tensors: dict[str, Tensor]


@st.composite
def diffusers_files(draw: st.DrawFn, dtypes: tuple[str, ...] = WEIGHTS) -> Made:
    """LoRAs on any layers, also on only some of q, k, v and mlp, of any ranks, with zeros in any places."""
    architecture = Architecture(
        double_blocks=draw(st.integers(1, 2)),
        single_blocks=draw(st.integers(1, 2)),
        width=draw(st.sampled_from((4, 6, 12))),
    )
    dtype = draw(st.sampled_from(dtypes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    same_rank = draw(st.one_of(st.none(), st.integers(1, 5)))
    share, blank = draw(st.sampled_from((0.0, 0.3))), draw(st.sampled_from((0.0, 0.2, 0.6)))
    chance = draw(st.sampled_from((0.3, 0.7, 1.0)))
    tensors: dict[str, Tensor] = {}
    for layer in architecture.layers():
        shared: dict[int, Tensor] = {}
        for index, part in enumerate(layer.parts):
            if rng.random() > chance or (layer.text and rng.random() > 0.02):
                continue
            rank = same_rank or int(rng.integers(1, 6))
            # Small whole numbers: their products and sums are exact in float32.
            down = tensor(rng.integers(-8, 9, size=(rank, layer.columns)), dtype)
            if rng.random() < share:
                down = shared.setdefault(rank, down)
            up = rng.integers(-8, 9, size=(part.rows, rank))
            up[:, rng.random(rank) < blank] = 0
            module = layer.module(Dialect.DIFFUSERS, index)
            tensors[f"{module}.lora_A.weight"] = down
            tensors[f"{module}.lora_B.weight"] = tensor(up, dtype)
    # The file has to show its width.
    first = block_layers(architecture)[0]
    module = first.module(Dialect.DIFFUSERS)
    tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = adapter(
        rng, first.parts[0].rows, first.columns, same_rank or 2, dtype
    )
    return Made(architecture, tensors)


@settings(max_examples=150, deadline=None)
@given(made=diffusers_files())
def test_to_kohya_and_back_is_bit_identical(made: Made) -> None:
    there = convert_lora(lora(made.tensors, {"a": "b"}), "kohya")
    assert all(key.startswith(("lora_unet_", "lora_te1_")) for key in there.tensors)
    back = convert_lora(as_file(there), "diffusers")
    assert all_bits(back.tensors) == all_bits(made.tensors)
    assert back.metadata == {"a": "b", "format": "pt"}
    assert not there.notes
    assert not back.notes
    again = convert_lora(as_file(back), "kohya")
    assert all_bits(again.tensors) == all_bits(there.tensors)


@settings(max_examples=60, deadline=None)
@given(made=diffusers_files(("F32", "BF16")))
def test_kohyas_formula_has_the_same_effect(made: Made) -> None:
    """Delta = up @ down * alpha / rank in float32, exactly, row block by row block."""
    there = as_file(convert_lora(lora(made.tensors), "kohya"))
    assert_same_effect(lora(made.tensors), there, made.architecture)
    for layer in made.architecture.layers():
        name = layer.module(Dialect.KOHYA)
        if f"{name}.alpha" not in there.tensors or not layer.name.startswith("single_blocks"):
            continue
        down, up = (
            there.tensors[f"{name}.{x}.weight"].values().astype(np.float32) for x in ("lora_down", "lora_up")
        )
        alpha = there.tensors[f"{name}.alpha"].item()
        delta = up @ down * np.float32(alpha / len(down))
        start = 0
        for index, part in enumerate(layer.parts):
            ours = layer.module(Dialect.DIFFUSERS, index)
            expected = np.zeros((part.rows, layer.columns), np.float32)
            if f"{ours}.lora_A.weight" in made.tensors:
                a = made.tensors[f"{ours}.lora_A.weight"].values().astype(np.float32)
                b = made.tensors[f"{ours}.lora_B.weight"].values().astype(np.float32)
                expected = b @ a
            assert np.array_equal(delta[start : start + part.rows], expected)
            start += part.rows


@settings(max_examples=60, deadline=None)
@given(
    rank=st.integers(1, 9),
    dtype=st.sampled_from(WEIGHTS[:3]),
    seed=st.integers(0, 2**32),
    columns=st.sampled_from((4, 8)),
)
def test_a_dense_kohya_file_comes_back_bit_identical(rank: int, dtype: str, seed: int, columns: int) -> None:
    size = Architecture(double_blocks=1, single_blocks=1, width=columns)
    source = lora(kohya_tensors(size, rank=rank, alpha=rank, dtype=dtype, seed=seed))
    there = convert_lora(source, "diffusers")
    assert not there.notes
    assert_same_effect(source, as_file(there), size)
    back = convert_lora(as_file(there), "kohya")
    assert all_bits(back.tensors) == all_bits(source.tensors)


def pieces(conversion: Conversion, layer: Layer) -> list[tuple[int, ...] | None]:
    names = [f"{layer.module(Dialect.DIFFUSERS, i)}.lora_A.weight" for i in range(len(layer.parts))]
    return [conversion.tensors[name].shape if name in conversion.tensors else None for name in names]


def test_stacking_adds_up_ranks_and_puts_blocks_on_the_diagonal() -> None:
    source = diffusers_tensors(SMALL, rank=2)
    there = convert_lora(lora(source), "kohya").tensors
    name = "lora_unet_single_blocks_1_linear1"
    up = there[f"{name}.lora_up.weight"].values()
    assert there[f"{name}.lora_down.weight"].shape == (8, 8)
    assert up.shape == (56, 8)
    assert there[f"{name}.alpha"].item() == 8
    assert there[f"{name}.alpha"].number.name == "F16"
    ours = "transformer.single_transformer_blocks.1.proj_mlp.lora_B.weight"
    assert np.array_equal(up[24:, 6:], source[ours].values())
    up[24:, 6:] = 0
    assert not up[24:].any()
    assert len(there) == 3 * len(block_layers(SMALL))


@pytest.mark.parametrize(("present", "ranks"), [((0,), (3,)), ((1, 3), (2, 2)), ((0, 2, 3), (1, 4, 2))])
def test_adapters_on_some_parts_only(present: tuple[int, ...], ranks: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    (layer,) = [layer for layer in SMALL.layers() if layer.name == "single_blocks.0.linear1"]
    source = {}
    for index, rank in zip(present, ranks, strict=True):
        down, up = adapter(rng, layer.parts[index].rows, 8, rank)
        module = layer.module(Dialect.DIFFUSERS, index)
        source[f"{module}.lora_A.weight"], source[f"{module}.lora_B.weight"] = down, up
    there = convert_lora(lora(source), "kohya")
    assert there.tensors["lora_unet_single_blocks_0_linear1.lora_down.weight"].shape == (sum(ranks), 8)
    there.metadata.clear()  # the zeros alone show where to cut
    assert all_bits(convert_lora(as_file(there), "diffusers").tensors) == all_bits(source)


def test_without_the_note_in_the_metadata_the_effect_is_still_the_same() -> None:
    source = diffusers_tensors(SMALL, rank=3, dtype="F32")
    up = "transformer.transformer_blocks.0.attn.to_k.lora_B.weight"
    source[up] = tensor(np.zeros((8, 3)))
    for kind in ("lora_A", "lora_B"):
        del source[f"transformer.transformer_blocks.0.attn.to_v.{kind}.weight"]
    there = convert_lora(lora(source), "kohya")
    assert list(json.loads(there.metadata["fluxlora_cuts"])) == ["double_blocks.0.img_attn.qkv"]
    for wrong in (None, "[", '{"double_blocks.0.img_attn.qkv": [[0, 1], [1, 2], [2, 99]]}', '{"a": [1]}'):
        metadata = {} if wrong is None else {"fluxlora_cuts": wrong}
        back = convert_lora(lora(there.tensors, metadata), "diffusers")
        assert_same_effect(lora(source), as_file(back), SMALL)
        assert "fluxlora_cuts" not in back.metadata
    kept = convert_lora(as_file(there), "kohya")
    assert kept.metadata == there.metadata
    assert all_bits(kept.tensors) == all_bits(there.tensors)


def test_a_dense_matrix_keeps_its_down_for_all_parts() -> None:
    source = kohya_tensors(SMALL, rank=4, alpha=4.0)
    back = convert_lora(lora(source), "diffusers")
    down = source["lora_unet_double_blocks_0_txt_attn_qkv.lora_down.weight"]
    for letter in "qkv":
        ours = back.tensors[f"transformer.transformer_blocks.0.attn.add_{letter}_proj.lora_A.weight"]
        assert np.array_equal(ours.bits(), down.bits())


def test_a_power_of_two_is_folded_exactly() -> None:
    source = lora(kohya_tensors(SMALL, rank=4, alpha=1.0, dtype="BF16"))
    back = convert_lora(source, "diffusers")
    assert not [key for key in back.tensors if key.endswith("alpha")]
    assert_same_effect(source, as_file(back), SMALL)
    for value in back.tensors.values():
        value.bits()
    back.note_rounding()
    assert back.notes == []


def test_rounding_is_small_and_told() -> None:
    source = lora(kohya_tensors(SMALL, rank=3, alpha=1.0))
    back = convert_lora(source, "diffusers")
    ours, theirs = effects(as_file(back), SMALL), effects(source, SMALL)
    assert max(float(abs(ours[name] - theirs[name]).max()) for name in theirs) < 2e-3
    assert any((ours[name] != theirs[name]).any() for name in theirs)
    back.note_rounding()
    (note,) = back.notes
    assert "multiplied into 26 layers' weights" in note  # 14 of the double block, 6 of each single one


def test_small_float16_numbers_that_lose_digits_are_told() -> None:
    """Dividing by a power of two is not exact where float16 runs out of exponents."""
    source = {
        "lora_unet_double_blocks_0_img_attn_proj.lora_down.weight": tensor(np.ones((16, 3072)), "F16"),
        "lora_unet_double_blocks_0_img_attn_proj.lora_up.weight": tensor(np.full((3072, 16), 7e-5), "F16"),
        "lora_unet_double_blocks_0_img_attn_proj.alpha": tensor(np.array(1.0), "F16"),
    }
    back = convert_lora(lora(source), "diffusers")
    back.tensors["transformer.transformer_blocks.0.attn.to_out.0.lora_B.weight"].bits()
    assert back.rounded == {"transformer.transformer_blocks.0.attn.to_out.0"}


def test_a_scale_that_overflows_is_refused(tmp_path: Path) -> None:
    source = kohya_tensors(SMALL, rank=2, alpha=60000.0)
    source["lora_unet_single_blocks_0_linear2.lora_up.weight"] = tensor(np.full((8, 2), 1000.0), "F16")
    path = save(tmp_path / "x.safetensors", source)
    with pytest.raises(LoraError, match="exceeds F16"):
        convert_file(path, "diffusers")
    assert list(tmp_path.iterdir()) == [path]


def test_alphas_of_a_diffusers_file() -> None:
    source = diffusers_tensors(SMALL, rank=2, dtype="F32")
    for key in [key for key in source if "lora_A" in key]:
        source[key.replace("lora_A.weight", "alpha")] = tensor(np.array(1.0))
    for target in ("kohya", "diffusers"):
        there = convert_lora(lora(source), target)  # type: ignore[arg-type]
        assert_same_effect(lora(source), as_file(there), SMALL)
    whole = convert_lora(lora(source), "kohya").tensors["lora_unet_single_blocks_0_linear1.alpha"]
    assert whole.item() == 4  # 4 parts of rank 2 and alpha 1: alpha / rank stays 1 / 2
    source["transformer.single_transformer_blocks.0.attn.to_k.alpha"] = tensor(np.array(8.0))
    for target in ("kohya", "diffusers"):
        there = convert_lora(lora(source), target)  # type: ignore[arg-type]
        assert_same_effect(lora(source), as_file(there), SMALL)


def test_the_scale_of_a_peft_config() -> None:
    config = json.dumps({"transformer.r": 2, "transformer.lora_alpha": 4, "transformer.rank_pattern": {}})
    source = diffusers_tensors(SMALL, rank=2)
    there = convert_lora(lora(source, {"lora_adapter_metadata": config}), "kohya")
    assert there.tensors["lora_unet_single_blocks_0_linear2.alpha"].item() == 4
    assert "lora_adapter_metadata" not in there.metadata
    assert there.notes
    for broken in ("[]", "{", '{"transformer.lora_alpha": "x"}', '{"transformer.use_rslora": true}'):
        with pytest.raises(LoraError):
            convert_lora(lora(source, {"lora_adapter_metadata": broken}), "kohya")


@pytest.mark.parametrize(
    ("names", "suffixes"),
    [
        (Dialect.COMFY, ("lora_A", "lora_B")),
        (Dialect.COMFY, ("lora_down", "lora_up")),
        (Dialect.KOHYA, ("lora_down", "lora_up")),
    ],
)
def test_bfl_names_are_read(names: Dialect, suffixes: tuple[str, str]) -> None:
    source = lora(kohya_tensors(SMALL, rank=2, alpha=1.0, dtype="BF16", names=names, suffixes=suffixes))
    for target in ("kohya", "diffusers"):
        there = as_file(convert_lora(source, target))  # type: ignore[arg-type]
        assert_same_effect(source, there, SMALL)
        assert {parse_key(key, SMALL).module.dialect for key in there.tensors} == {Dialect(target)}  # type: ignore[union-attr]


def test_flattened_names_are_read() -> None:
    plain = diffusers_tensors(SMALL)
    flattened = {}
    for key, value in plain.items():
        module, _, suffix = key.rpartition(".lora_")
        renamed = "lora_transformer_" + module.removeprefix("transformer.").replace(".", "_")
        flattened[f"{renamed}.lora_{'down' if suffix[0] == 'A' else 'up'}.weight"] = value
    assert all_bits(convert_lora(lora(flattened), "diffusers").tensors) == all_bits(plain)


def test_xlabs_names_are_read() -> None:
    rng = np.random.default_rng(0)
    source = {}
    for name, rows in (("qkv_lora1", 24), ("proj_lora2", 8)):
        down, up = adapter(rng, rows, 8)
        source[f"double_blocks.0.processor.{name}.down.weight"] = down
        source[f"double_blocks.0.processor.{name}.up.weight"] = up
    there = as_file(convert_lora(lora(source), "kohya"))
    assert_same_effect(lora(source), there, SMALL)
    assert "lora_unet_double_blocks_0_txt_attn_proj.alpha" in there.tensors


def test_the_halves_of_the_last_modulation_change_places() -> None:
    up = np.arange(16.0).reshape(16, 1)
    source = {
        "transformer.norm_out.linear.lora_A.weight": tensor(np.ones((1, 8))),
        "transformer.norm_out.linear.lora_B.weight": tensor(up),
    }
    there = convert_lora(lora(source), "kohya").tensors[
        "lora_unet_final_layer_adaLN_modulation_1.lora_up.weight"
    ]
    assert there.values().ravel().tolist() == [*range(8, 16), *range(8)]


def test_different_formats_in_one_layer_are_widened_and_told() -> None:
    source = diffusers_tensors(SMALL)
    for name in list(source):
        if ".attn.to_q." in name:
            source[name] = tensor(source[name].values(), "BF16")
    there = convert_lora(lora(source), "kohya")
    assert there.tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"].number == FORMATS["F32"]
    assert any("widened" in note for note in there.notes)
    assert_same_effect(lora(source), as_file(there), SMALL)


def test_an_alpha_that_the_weights_format_cannot_hold_is_float32() -> None:
    rng = np.random.default_rng(0)
    down, up = adapter(rng, 3072, 3072, 257, "BF16")
    module = "transformer.transformer_blocks.3.attn.to_out.0"
    there = convert_lora(
        lora({f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}), "kohya"
    ).tensors
    alpha = there["lora_unet_double_blocks_3_img_attn_proj.alpha"]
    assert (alpha.item(), alpha.number.name) == (257, "F32")


def broken(**changes: Tensor | None) -> dict[str, Tensor]:
    found = diffusers_tensors(SMALL)
    for name, value in changes.items():
        key = f"transformer.transformer_blocks.0.attn.to_q.{name}.weight"
        if value is None:
            del found[key]
        else:
            found[key] = value
    return found


WHOLE = "diffusion_model.double_blocks.0.img_attn.qkv"
REFUSED = {
    "no LoRA": ({"model.weight": tensor(np.ones((2, 2)))}, "no LoRA of FLUX.1"),
    "nothing": ({}, "no LoRA of FLUX.1"),
    "no B": (broken(lora_B=None), r"to_q has no B \(up\) matrix"),
    "no A": (broken(lora_A=None), r"to_q has no A \(down\) matrix"),
    "ranks differ": (broken(lora_A=tensor(np.ones((3, 8)))), "do not belong together"),
    "one axis": (broken(lora_A=tensor(np.ones(8))), "do not belong together"),
    "no rank": (
        broken(lora_A=tensor(np.ones((0, 8))), lora_B=tensor(np.ones((8, 0)))),
        "do not belong together",
    ),
    "other layer": (
        broken(lora_A=tensor(np.ones((2, 9))), lora_B=tensor(np.ones((8, 2)))),
        "layer of 8 x 9, FLUX.1's is 8 x 8",
    ),
    "foreign key": (
        diffusers_tensors(SMALL) | {"lora_te3_encoder.lora_up.weight": tensor(np.ones((1, 1)))},
        "no equal in the other format: lora_te3_encoder.lora_up.weight",
    ),
    "LoKr": ({"lycoris_transformer_blocks_0_attn_to_q.lokr_w1": tensor(np.ones((2, 2)))}, "a LoKr"),
    "DoRA": (
        diffusers_tensors(SMALL)
        | {"transformer.transformer_blocks.0.attn.to_q.dora_scale": tensor(np.ones(8))},
        "a DoRA",
    ),
    "twice": (
        diffusers_tensors(SMALL)
        | {
            f"{WHOLE}.lora_A.weight": tensor(np.ones((1, 8))),
            f"{WHOLE}.lora_B.weight": tensor(np.ones((24, 1))),
        },
        "more than one adapter for double_blocks.0.img_attn.qkv",
    ),
    "alpha": (
        diffusers_tensors(SMALL)
        | {"transformer.transformer_blocks.0.attn.to_q.alpha": tensor(np.array(np.nan))},
        "alpha of transformer.transformer_blocks.0.attn.to_q is not a number",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("target", ["kohya", "diffusers"])
def test_what_cannot_be_converted_is_refused(tensors: dict[str, Tensor], message: str, target: str) -> None:
    with pytest.raises(LoraError, match=message.replace("(", r"\(") if "\\" not in message else message):
        convert_lora(lora(tensors), target)  # type: ignore[arg-type]


def test_files(tmp_path: Path) -> None:
    metadata = {"format": "pt", "ss_network_dim": "2", "modelspec.title": "[bold]x", "sshs_model_hash": "0"}
    path = save(tmp_path / "cat.safetensors", diffusers_tensors(SMALL), metadata)
    before = path.read_bytes()
    there, notes = convert_file(path, "kohya")
    assert (there, notes) == (tmp_path / "cat_kohya.safetensors", [])
    assert read_lora(there).metadata["modelspec.title"] == "[bold]x"
    assert read_lora(there).metadata["sshs_model_hash"] != read_lora(path).metadata["sshs_model_hash"]
    back, _ = convert_file(there, "diffusers", tmp_path / "back.safetensors")
    assert back.read_bytes() == before
    with pytest.raises(LoraError, match=r"back\.safetensors is there already"):
        convert_file(there, "diffusers", back)
    with pytest.raises(LoraError, match="there is no folder"):
        convert_file(there, "diffusers", tmp_path / "none" / "x.safetensors")
    rounded = save(tmp_path / "dog.safetensors", kohya_tensors(SMALL, rank=3, alpha=2.0))
    assert "26 layers" in convert_file(rounded, "diffusers")[1][0]
