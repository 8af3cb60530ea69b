from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.lora.convert import convert_lora
from backend.lora.file import LoraError, LoraFile, Tensor, read_lora
from backend.lora.inspect import survey
from backend.lora.naming import FLUX, Architecture, Dialect
from backend.lora.readers import Verdict, Works, judge
from tests.backend.lora_files import SMALL, block_layers, diffusers_tensors, kohya_tensors, save, tensor

# FLUX.1's widths with few blocks and rank 1: what the real loaders accept, and still small.
FEW = Architecture(double_blocks=1, single_blocks=1)


def verdicts(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, size: Architecture | None = None
) -> dict[str, Verdict]:
    file = LoraFile(Path("x"), 0, dict(tensors), dict(metadata or {}))
    found = survey(file, size)
    judged = judge(found.keys, file.metadata, scaled=found.scaled, architecture=found.architecture)
    return {verdict.reader: verdict for verdict in judged}


def flattened(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, value in tensors.items():
        module, _, suffix = key.rpartition(".lora_")
        name = "lora_transformer_" + module.removeprefix("transformer.").replace(".", "_")
        found[f"{name}.lora_{'down' if suffix[0] == 'A' else 'up'}.weight"] = value
    return found


def renamed(tensors: Mapping[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {key.replace(old, new): value for key, value in tensors.items()}


def down_up(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return renamed(renamed(tensors, "lora_A", "lora_down"), "lora_B", "lora_up")


def with_alphas(tensors: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    modules = {key.rpartition(".lora_")[0] for key in tensors}
    return {**tensors, **{f"{module}.alpha": tensor(np.array(alpha)) for module in modules}}


def without_alphas(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if not key.endswith("alpha")}


def attention_only(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if ".attn." in key}


OURS = diffusers_tensors(FEW, rank=1, dtype="BF16")
KOHYA = kohya_tensors(FEW, rank=1, dtype="BF16")
COMFY_AB = kohya_tensors(FEW, rank=1, dtype="BF16", names=Dialect.COMFY, suffixes=("lora_A", "lora_B"))
COMFY_DOWN = kohya_tensors(FEW, rank=1, dtype="BF16", names=Dialect.COMFY)
T5 = {
    f"lora_te3_encoder_block_{i}.lora_{x}.weight": tensor(np.ones((2, 2)))
    for i in range(4)
    for x in ("up", "down")
}
AROUND = {
    "lora_unet_img_in.lora_down.weight": tensor(np.ones((1, 64))),
    "lora_unet_img_in.lora_up.weight": tensor(np.ones((3072, 1))),
    "lora_unet_img_in.alpha": tensor(np.array(1.0)),
}
CLIP = {
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": tensor(np.ones((1, 768))),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": tensor(np.ones((3072, 1))),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha": tensor(np.array(1.0)),
}
STRANGE = {f"lora_unet_down_blocks_{i}_proj.lora_up.weight": tensor(np.ones((2, 2))) for i in range(13)}
LYCORIS = {f"lycoris_transformer_blocks_{i}_attn_to_q.lokr_w1": tensor(np.ones((2, 2))) for i in range(2)}
XLABS = {
    f"double_blocks.0.processor.qkv_lora1.{kind}.weight": tensor(np.ones(shape))
    for kind, shape in (("down", (1, 3072)), ("up", (9216, 1)))
}

# What each file is to diffusers, ComfyUI, Forge and kohya: y(es), p(artly), n(o).
FILES: dict[str, tuple[dict[str, Tensor], str]] = {
    "ours": (OURS, "yyyn"),
    "ours with alphas": (with_alphas(OURS, 4), "yyyn"),
    "ours, one without alpha": (
        {
            k: v
            for k, v in with_alphas(OURS, 4).items()
            if k != "transformer.transformer_blocks.0.attn.to_q.alpha"
        },
        "nyyn",
    ),
    "ours as down and up": (down_up(OURS), "yyyn"),
    "ours as down and up, scaled": (with_alphas(down_up(OURS), 4), "nyyn"),
    "kohya": (KOHYA, "yyyy"),
    "kohya without alphas": (without_alphas(KOHYA), "yyyn"),
    "kohya with CLIP": (KOHYA | CLIP, "yyyy"),
    "kohya with T5": (KOHYA | T5, "pppy"),
    "kohya beside the blocks": (KOHYA | AROUND, "pyyy"),
    "kohya with SDXL's keys": (KOHYA | dict(list(STRANGE.items())[:12]), "nppp"),
    "kohya with more of SDXL's keys": (KOHYA | STRANGE, "npnp"),
    "comfy": (COMFY_AB, "nyyn"),
    "comfy as down and up": (COMFY_DOWN, "yyyn"),
    "flattened": (with_alphas(flattened(OURS), 1), "nyyn"),
    "flattened attention": (with_alphas(flattened(attention_only(OURS)), 1), "yyyn"),
    "flattened attention without alphas": (flattened(attention_only(OURS)), "nyyn"),
    "bare": ({key.removeprefix("transformer."): value for key, value in OURS.items()}, "nynn"),
    "LoKr": (LYCORIS, "nyyn"),
    "XLabs": (XLABS, "ynnn"),
    "mixed": (OURS | KOHYA, "pyyp"),
    "SDXL": (STRANGE, "nnnn"),
}


@pytest.mark.parametrize(("tensors", "expected"), FILES.values(), ids=FILES)
def test_who_reads_what(tensors: dict[str, Tensor], expected: str) -> None:
    found = verdicts(tensors)
    assert "".join(verdict.works[0] for verdict in found.values()) == expected
    for verdict in found.values():
        assert verdict.works is Works.YES or verdict.reason


def test_what_is_left_out_is_named() -> None:
    found = verdicts(KOHYA | T5)
    assert set(found["diffusers"].unmatched) == set(found["ComfyUI"].unmatched) == set(T5)
    assert found["Forge"].reason == f"8 of {len(KOHYA) + 8} keys are left out"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("to_k.lora_A", "nnn"), ("to_k.lora_B", "npp"), ("lora_B", "nnn"), (".ff", "yyy")],
)
def test_a_matrix_without_its_partner(missing: str, expected: str) -> None:
    """ComfyUI and Forge look for B, and fail where it has no A; a lone A is a key they do not use."""
    half = {key: value for key, value in OURS.items() if missing not in key}
    found = verdicts(half)
    assert "".join(found[reader].works[0] for reader in ("diffusers", "ComfyUI", "Forge")) == expected


@pytest.mark.parametrize(
    ("metadata", "listed"),
    [
        ({}, False),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, False),
        ({"modelspec.architecture": "flux-1-dev/lora"}, True),
        ({"modelspec.implementation": "https://github.com/black-forest-labs/flux"}, True),
    ],
)
def test_forge_lists_it_as_flux(metadata: dict[str, str], listed: bool) -> None:
    verdict = verdicts(OURS, metadata)["Forge"]
    assert verdict.works is Works.YES
    assert ("Unknown" not in verdict.reason) is listed


def test_alphas_and_a_peft_config_exclude_each_other() -> None:
    config = {"lora_adapter_metadata": "{}"}
    assert verdicts(with_alphas(OURS, 1), config)["diffusers"].works is Works.NO
    assert verdicts(OURS, config)["diffusers"].works is Works.YES


def test_kohyas_names_of_another_size() -> None:
    assert verdicts(kohya_tensors(SMALL))["diffusers"].works is Works.NO
    assert verdicts(diffusers_tensors(SMALL))["diffusers"].works is Works.YES


@pytest.fixture(scope="module")
def transformer() -> Any:
    """FLUX.1's shapes with one block of each kind; memory for its weights is reserved and never touched."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    with torch.device("meta"):
        model = diffusers.FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    return model.to(torch.bfloat16).to_empty(device="cpu")


def load_with_diffusers(
    transformer: Any, path: Path, probe: np.ndarray, look: Callable[[Any], None] = lambda module: None
) -> dict[str, np.ndarray]:
    """What the real diffusers makes of a file: each module's effect on a vector."""
    from diffusers import FluxPipeline

    state, alphas, metadata = FluxPipeline.lora_state_dict(
        path, return_alphas=True, return_lora_metadata=True
    )
    if not any("lora" in key for key in state):  # as its load_lora_weights begins
        raise ValueError("Invalid LoRA checkpoint")
    try:
        FluxPipeline.load_lora_into_transformer(
            state, alphas, transformer, "test", metadata, low_cpu_mem_usage=True
        )
        found = {}
        for name, module in transformer.named_modules():
            if "test" in getattr(module, "lora_A", {}):
                look(module)
                a, b = (getattr(module, x)["test"].weight for x in ("lora_A", "lora_B"))
                a, b = (weight.detach().double().numpy() for weight in (a, b))
                found[name] = b @ (a @ probe[: a.shape[1]]) * float(module.scaling["test"])
        return found
    finally:
        if "test" in getattr(transformer, "peft_config", {}):
            transformer.delete_adapters("test")


@pytest.mark.parametrize("name", FILES)
def test_the_real_diffusers_agrees(name: str, transformer: Any, tmp_path: Path) -> None:
    """Loaded with the right effect where the verdict is yes, not wholly where it is not."""
    tensors = FILES[name][0]
    path = save(tmp_path / "x.safetensors", tensors)
    file = read_lora(path)
    works = verdicts(tensors)["diffusers"].works
    probe = np.random.default_rng(0).normal(size=15360)
    try:
        found = load_with_diffusers(transformer, path, probe)
    except (ValueError, KeyError, RuntimeError):  # diffusers refuses it
        assert works is Works.NO
        return
    try:
        plain = convert_lora(file, "diffusers").tensors
    except LoraError:  # not all of it is of FLUX.1
        assert works is not Works.YES
        return
    modules = {key.split(".", 1)[1].partition(".lora_")[0] for key in plain if key.startswith("transformer.")}
    loaded = 0
    for module in modules:
        a, b = (plain[f"transformer.{module}.lora_{x}.weight"].values() for x in "AB")
        expected = b @ (a @ probe[: a.shape[1]])
        loaded += module in found and np.allclose(found[module], expected, rtol=1e-9, atol=1e-9)
    assert (loaded == len(modules)) is (works is Works.YES)
    assert (loaded > 0) or works is Works.NO


def test_diffusers_reads_pefts_dora(transformer: Any, tmp_path: Path) -> None:
    layer = "transformer_blocks.0.attn.to_q"
    tensors = {key: value for key, value in OURS.items() if f".{layer}." in key}
    tensors[f"transformer.{layer}.lora_magnitude_vector"] = tensor(np.arange(3072.0) % 64, "BF16")
    found = verdicts(tensors)
    assert [found[reader].works for reader in ("diffusers", "ComfyUI", "Forge")] == [
        "yes",
        "partly",
        "partly",
    ]
    path = save(tmp_path / "x.safetensors", tensors)
    seen: dict[str, Any] = {}

    def look(module: Any) -> None:
        seen["magnitude"] = module.lora_magnitude_vector["test"].weight.detach().double().numpy()

    assert layer in load_with_diffusers(transformer, path, np.ones(15360), look)
    assert np.array_equal(seen["magnitude"], np.arange(3072) % 64)


def test_diffusers_own_converter_brings_our_kohya_file_back(tmp_path: Path) -> None:
    """It is adapted from kohya's: what it cuts out of the stacked matrices is what was stacked."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    ours = diffusers_tensors(FEW, rank=2, dtype="BF16")
    there = convert_lora(LoraFile(Path("x"), 0, ours, {}), "kohya")
    state = diffusers.FluxPipeline.lora_state_dict(save(tmp_path / "x.safetensors", there.tensors))
    assert state.keys() == ours.keys()
    for key, value in state.items():
        assert np.array_equal(value.contiguous().view(torch.uint16).numpy(), ours[key].bits())


def test_a_file_of_all_494_layers_goes_through_the_tables() -> None:
    keys = {
        f"{layer.module(Dialect.DIFFUSERS, part)}.{x}.weight": tensor(np.zeros((1, 1)))
        for layer in block_layers(FLUX)
        for part in range(len(layer.parts))
        for x in ("lora_A", "lora_B")
    }
    assert len(keys) == 988
    found = verdicts(keys, size=FLUX)
    assert [verdict.works for verdict in found.values()] == ["yes", "yes", "yes", "no"]
