"""Weights in smaller formats: their errors, their gradients, and training on top of them."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest
import torch
from torch import nn

from backend.events import WarningEvent
from backend.trainer.loading import BaseModel
from backend.trainer.lora import attach_lora
from backend.trainer.quantisation import (
    NF4,
    QType,
    QuantisedLinear,
    dequantise,
    matches,
    quantise,
    quantise_model,
)
from config.schema import ModelConfig, NetworkConfig, QuantizeKwargs
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")
QTYPES: list[QType] = ["float8", "int8", "nf4"]


def weight(rows: int = 48, columns: int = 96, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows_of_all_sizes = torch.logspace(-6, 2, rows)[:, None]
    return torch.randn(rows, columns, generator=generator) * rows_of_all_sizes


def test_nf4s_levels_are_the_papers_quantiles() -> None:
    # QLoRA, appendix E: equal areas under the normal density, with an exact zero, scaled to -1..1.
    edge = (1 - 1 / 32 + 1 - 1 / 30) / 2
    inverse = NormalDist().inv_cdf
    positive = [inverse(edge + (0.5 - edge) * i / 8) for i in range(8)]
    negative = [-inverse(edge + (0.5 - edge) * i / 7) for i in range(7)]
    levels = sorted([*positive, 0.0, *negative])
    assert list(NF4) == pytest.approx([level / max(levels) for level in levels], abs=2e-7)


@pytest.mark.parametrize(("qtype", "worst"), [("float8", 2**-4), ("int8", 0.5 / 127 + 1e-6)])
def test_a_rows_error_is_bounded(qtype: QType, worst: float) -> None:
    original = weight()
    codes, scales = quantise(original, qtype)
    assert (codes.dtype, codes.shape) == (torch.uint8, original.shape)
    back = dequantise(codes, scales, qtype, (48, 96), torch.float32)
    error = (back - original).abs()
    if qtype == "float8":  # relative: three bits of mantissa, except among the smallest numbers
        assert bool((error <= original.abs() * worst + scales * 2**-10).all())
    else:
        assert bool((error <= original.abs().amax(dim=1, keepdim=True) * worst).all())


def test_float8_is_exact_in_bfloat16() -> None:
    codes, scales = quantise(weight(), "float8")
    assert bool((scales == torch.exp2(torch.log2(scales).round())).all())
    narrow = dequantise(codes, scales, "float8", (48, 96), torch.bfloat16)
    assert torch.equal(narrow.float(), dequantise(codes, scales, "float8", (48, 96), torch.float32))


def test_nf4_takes_the_nearest_level_of_its_block() -> None:
    original = weight(7, 50)  # 350 weights: the last block is not full
    codes, scales = quantise(original, "nf4")
    assert codes.shape == (6 * 32,)
    back = dequantise(codes, scales, "nf4", (7, 50), torch.float32).reshape(-1)
    levels = torch.tensor(NF4)
    for start in range(0, 350, 64):
        block = original.reshape(-1)[start : start + 64]
        possible = levels * block.abs().max()
        nearest = possible[(block[:, None] - possible).abs().argmin(dim=1)]
        assert torch.allclose(back[start : start + 64], nearest, rtol=1e-6)


@pytest.mark.parametrize("qtype", QTYPES)
def test_rows_of_zeros_stay_zeros(qtype: QType) -> None:
    codes, scales = quantise(torch.zeros(3, 64), qtype)
    back = dequantise(codes, scales, qtype, (3, 64), torch.float16)
    assert not back.any()


@pytest.mark.parametrize("qtype", QTYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_is_a_linear_layer_with_the_spread_out_weight(qtype: QType, dtype: torch.dtype) -> None:
    linear = nn.Linear(96, 48).to(dtype).requires_grad_(False)
    layer = QuantisedLinear(linear, qtype)
    x = torch.randn(2, 5, 96, dtype=dtype, requires_grad=True)
    expected = nn.functional.linear(x, layer.weight, linear.bias)
    actual = layer(x)
    assert torch.equal(actual, expected)
    assert actual.dtype is dtype
    seed = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad(expected, x, seed)
    (got,) = torch.autograd.grad(actual, x, seed)
    assert torch.equal(got, wanted)


def test_the_backward_pass_keeps_no_spread_out_weight() -> None:
    layer = QuantisedLinear(nn.Linear(256, 256).requires_grad_(False), "int8")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.nbytes) or t, lambda t: t):
        layer(torch.randn(1, 256, requires_grad=True))
    assert sum(kept) <= 256 * 256 + 256 * 4


def test_memory_is_a_fraction() -> None:
    linear = nn.Linear(512, 512, bias=False).to(torch.bfloat16).requires_grad_(False)
    sizes = {
        qtype: sum(b.nbytes for b in QuantisedLinear(linear, qtype).buffers()) / linear.weight.nbytes
        for qtype in QTYPES
    }
    assert sizes["float8"] == pytest.approx(0.5, abs=0.01)
    assert sizes["int8"] == pytest.approx(0.5, abs=0.01)
    assert sizes["nf4"] == pytest.approx(0.28, abs=0.01)


def test_patterns_choose_layers() -> None:
    inside, outside = "transformer_blocks.3.attn.to_q", "proj_out"
    assert matches(inside, [], [])
    assert matches("single_transformer_blocks.0.proj_out", [], [])
    assert not matches(outside, [], [])
    assert not matches(inside, [], ["*attn*"])
    assert matches(outside, ["proj*"], [])
    assert not matches(inside, ["proj*"], [])


@pytest.mark.parametrize("on_cpu", [True, False])
def test_only_chosen_layers_of_a_model_are_replaced(on_cpu: bool) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)))
    model.requires_grad_(False)
    assert quantise_model(model, "int8", lambda name: name == "1.0", CPU, on_cpu=on_cpu) == 1
    assert [type(module) for module in model.modules() if isinstance(module, nn.Linear)] == [
        nn.Linear,
        QuantisedLinear,
    ]


# -- in a FLUX ---------------------------------------------------------------------------------


def base_model(folder: Path, **model: object) -> BaseModel:
    settings = ModelConfig(name_or_path=str(folder), **model)
    return BaseModel(folder, "tiny", CPU, torch.float32, settings=settings)


@pytest.mark.parametrize("qtype", QTYPES)
def test_an_adapter_sits_on_quantised_layers(tiny_flux: Path, qtype: QType) -> None:
    transformer = base_model(tiny_flux, quantize=True, qtype=qtype).transformer()
    assert transformer.dtype is torch.float32
    lora = attach_lora(transformer, NetworkConfig(rank=4), torch.Generator().manual_seed(0))
    names = {name.rpartition(".lora_")[0] for name in lora.parameters}
    modules = dict(transformer.named_modules())
    assert all(isinstance(modules[name].base_layer, QuantisedLinear) for name in names)
    assert type(modules["proj_out"]) is nn.Linear


def test_excluded_layers_stay(tiny_flux: Path) -> None:
    layers = QuantizeKwargs(exclude=["*.attn.*"])
    transformer = base_model(tiny_flux, quantize=True, quantize_kwargs=layers).transformer()
    quantised = [name for name, m in transformer.named_modules() if isinstance(m, QuantisedLinear)]
    assert quantised
    assert not any(".attn." in name for name in quantised)


def test_t5_is_quantised_and_its_embeddings_are_others(tiny_flux: Path) -> None:
    plain = base_model(tiny_flux)
    small = base_model(tiny_flux, quantize_te=True)
    encoder = small.text_encoders().t5
    linears = [module for module in encoder.modules() if isinstance(module, nn.Linear)]
    assert linears
    assert all(isinstance(module, QuantisedLinear) for module in linears)
    ids = torch.tensor([[3, 4, 5, 1]])
    with torch.no_grad():
        exact, close = plain.text_encoders().t5(ids)[0], encoder(ids)[0]
    assert 0 < float((exact - close).norm() / exact.norm()) < 0.2
    parts = ("text_encoder", "text_encoder_2")
    assert plain.fingerprint(*parts) != small.fingerprint(*parts)
    assert plain.fingerprint("text_encoder") == small.fingerprint("text_encoder")
    assert base_model(tiny_flux, quantize=True).qtype_te == "float8"  # as quantize, if not said
    assert base_model(tiny_flux, quantize=True, quantize_te=False).qtype_te is None


@pytest.mark.parametrize("qtype", [pytest.param("float8", marks=pytest.mark.thorough), "nf4"])
def test_a_run_on_a_quantised_base_is_exact_when_resumed(
    make_run: MakeRun, qtype: QType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    model = {"quantize": True, "qtype": qtype, "low_vram": qtype == "nf4"}
    whole, halves = make_run("whole", model=model), make_run("halves", model=model)
    assert whole.train() == 0
    assert halves.train_until(1, monkeypatch) == 0
    assert halves.train() == 0
    first, second = load_file(whole.final), load_file(halves.final)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [event.loss for event in whole.events() if event.TYPE == "step"]
    assert all(math.isfinite(loss) for loss in losses)
    assert not whole.events(WarningEvent)
