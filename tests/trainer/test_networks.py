"""DoRA, LoKr, dropouts, changes of rank, and starting from a file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from backend.events import WarningEvent
from backend.trainer.adapter_layers import KroneckerLinear, RankLinear
from backend.trainer.errors import TrainingError
from backend.trainer.lora import Lora, attach_lora, network_warnings
from backend.trainer.lora_rank import fit_rank, nearest, plain_lora, truncate
from backend.trainer.pretrained import load_pretrained
from backend.trainer.report import Reporter
from config.schema import NetworkConfig
from tests.trainer.conftest import MakeRun
from tests.trainer.test_lora import run, tiny

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

Q = "transformer_blocks.0.attn.to_q"


def attach(model: FluxTransformer2DModel, seed: int = 0, **settings: Any) -> Lora:
    network = NetworkConfig.model_validate({"rank": 4, **settings})
    return attach_lora(model, network, torch.Generator().manual_seed(seed))


def train_a_little(lora: Lora, size: float = 0.03) -> None:
    """Give every parameter some value of its own."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in lora.parameters.values():
            parameter += size * torch.randn(parameter.shape, generator=generator)


def delta(pair: dict[str, torch.Tensor], module: str) -> torch.Tensor:
    return pair[f"{module}.lora_B.weight"] @ pair[f"{module}.lora_A.weight"]


def fused(folder: Path, deltas: dict[str, torch.Tensor]) -> FluxTransformer2DModel:
    model = tiny(folder)
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, change in deltas.items():
            modules[name].weight += change
    return model


KINDS = [{"type": "dora"}, {"type": "lokr"}, {"type": "lokr", "lokr_full_rank": False, "rank": 2}]


@pytest.mark.parametrize("settings", KINDS, ids=["dora", "lokr", "lokr-low-rank"])
def test_untrained_it_changes_nothing(tiny_flux: Path, settings: dict[str, Any]) -> None:
    model = tiny(tiny_flux)
    lora = attach(model, **settings)
    assert torch.allclose(run(model), run(tiny(tiny_flux)), atol=1e-5)
    assert all(parameter.dtype is torch.float32 for parameter in lora.parameters.values())
    assert len(lora.layers) == 26


@pytest.mark.parametrize("settings", KINDS[1:], ids=["full", "low-rank"])
def test_lokr_adds_a_kronecker_product(tiny_flux: Path, settings: dict[str, Any]) -> None:
    adapted = tiny(tiny_flux)
    lora = attach(adapted, alpha=6.0, respect_alpha=True, **settings)
    train_a_little(lora)
    deltas = {}
    for name, layer in lora.layers.items():
        assert isinstance(layer, KroneckerLinear)
        own = {
            key.removeprefix(f"{name}."): p.detach()
            for key, p in lora.parameters.items()
            if key.startswith(f"{name}.")
        }
        second = own["lokr_w2"] if "lokr_w2" in own else own["lokr_w2_a"] @ own["lokr_w2_b"]
        deltas[name] = lora.scale * torch.kron(own["lokr_w1"], second)
        assert torch.allclose(layer.get_delta_weight("default"), deltas[name], atol=1e-6)  # peft's own
    assert (run(adapted) - run(tiny(tiny_flux))).abs().max() > 1e-3
    assert torch.allclose(run(adapted), run(fused(tiny_flux, deltas)), atol=1e-4)


def test_an_untrained_dora_is_exact_beside_bfloat16(tiny_flux: Path) -> None:
    """Norms rounded to bfloat16 would change every row by up to 0.4 % before the first step."""
    model = tiny(tiny_flux, torch.bfloat16)
    lora = attach(model, type="dora")
    layer = lora.layers[Q]
    x = torch.randn(1, 5, layer.in_features, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        assert torch.equal(layer(x), layer.get_base_layer()(x))
        weight = layer.get_base_layer().weight
        norms = layer.lora_magnitude_vector["default"].get_weight_norm(weight, torch.zeros_like(weight), 1.0)
    assert torch.allclose(norms.double(), weight.double().norm(dim=1), rtol=1e-5, atol=0)


def test_lokrs_factor(tiny_flux: Path) -> None:
    square = attach(tiny(tiny_flux), type="lokr").parameters[f"{Q}.lokr_w1"].shape
    small = attach(tiny(tiny_flux), type="lokr", lokr_factor=4).parameters[f"{Q}.lokr_w1"].shape
    assert tuple(small) == (4, 4)
    assert square[0] > 4


def test_dora_is_a_magnitude_times_a_direction(tiny_flux: Path) -> None:
    adapted = tiny(tiny_flux)
    base = {
        name: module.weight.detach().clone()
        for name, module in adapted.named_modules()
        if isinstance(module, nn.Linear)
    }
    lora = attach(adapted, type="dora")
    train_a_little(lora)
    deltas = {}
    for name in lora.layers:
        changed = base[name] + delta({k: p.detach() for k, p in lora.parameters.items()}, name)
        magnitude = lora.parameters[f"{name}.lora_magnitude_vector"].detach()
        deltas[name] = changed / changed.norm(dim=1, keepdim=True) * magnitude[:, None] - base[name]
    assert (run(adapted) - run(tiny(tiny_flux))).abs().max() > 1e-3
    assert torch.allclose(run(adapted), run(fused(tiny_flux, deltas)), atol=1e-3)


@pytest.mark.parametrize("settings", KINDS, ids=["dora", "lokr", "lokr-low-rank"])
def test_the_plain_export_is_the_nearest_of_its_rank(tiny_flux: Path, settings: dict[str, Any]) -> None:
    model = tiny(tiny_flux)
    base = dict(tiny(tiny_flux).named_modules())[Q].weight.detach()
    lora = attach(model, alpha=6.0, respect_alpha=True, **settings)
    train_a_little(lora)
    weights = lora.state()
    if lora.kind == "dora":
        changed = base + lora.scale * delta(weights, Q)
        whole = (
            changed / changed.norm(dim=1, keepdim=True) * weights[f"{Q}.lora_magnitude_vector"][:, None]
            - base
        )
    else:
        second = weights.get(f"{Q}.lokr_w2")
        if second is None:
            second = weights[f"{Q}.lokr_w2_a"] @ weights[f"{Q}.lokr_w2_b"]
        whole = lora.scale * torch.kron(weights[f"{Q}.lokr_w1"], second)
    u, s, v = torch.linalg.svd(whole.double())
    exported = plain_lora(lora, weights, 3)
    assert set(exported) == {f"{name}.lora_{side}.weight" for name in lora.layers for side in "AB"}
    assert exported[f"{Q}.lora_A.weight"].shape == (3, whole.shape[1])
    best = (u[:, :3] * s[:3]) @ v[:3]
    error = (delta(exported, Q).double() - whole).norm()
    assert error.item() == pytest.approx((best - whole).norm().item(), rel=1e-3)
    assert error > 1e-3  # else the rank was never too small
    complete = plain_lora(lora, weights, 4096)
    assert torch.allclose(delta(complete, Q), whole, atol=1e-4)


def test_large_matrices_are_reduced_nearly_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from backend.trainer import lora_rank

    monkeypatch.setattr(lora_rank, "_EXACT", 10)
    torch.manual_seed(4)
    left, right = torch.randn(200, 200), torch.randn(200, 150)
    matrix = left @ torch.diag(0.9 ** torch.arange(200.0)) @ right
    state = torch.get_rng_state()
    a, b = nearest(matrix, 8)
    assert torch.equal(torch.get_rng_state(), state)
    s = torch.linalg.svdvals(matrix)
    assert (matrix - b @ a).norm().item() == pytest.approx(s[8:].norm().item(), rel=1e-2)


def test_settings_without_use_are_named() -> None:
    def warned(**settings: Any) -> list[str]:
        return network_warnings(NetworkConfig.model_validate(settings))

    assert not warned(dropout=0.1, network_kwargs={"rank_dropout": 0.1})
    assert (
        len(warned(type="dora", dropout=0.1, network_kwargs={"rank_dropout": 0.1, "module_dropout": 0.1}))
        == 3
    )
    assert len(warned(type="lokr", dropout=0.1, network_kwargs={"rank_dropout": 0.1})) == 1


# -- dropouts ----------------------------------------------------------------------------------


def rank_layer(**settings: float) -> RankLinear:
    layer = nn.Linear(8, 500, bias=False)
    layer.__class__ = RankLinear
    assert isinstance(layer, RankLinear)
    for key, value in settings.items():
        setattr(layer, key, value)
    return layer


def test_dropout_is_on_the_rank_r_activations() -> None:
    torch.manual_seed(0)
    layer = rank_layer(dropout=0.25)
    x = torch.randn(4, 7, 8)
    whole = x @ layer.weight.T
    dropped = layer(x)
    gone = dropped == 0
    assert gone.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(dropped[~gone], whole[~gone] / 0.75, atol=1e-5)
    layer.eval()
    assert torch.allclose(layer(x), whole, atol=1e-6)


def test_rank_dropout_drops_ranks_for_whole_pictures() -> None:
    torch.manual_seed(0)
    layer = rank_layer(rank_dropout=0.4)
    for x in (torch.randn(4, 7, 8), torch.randn(4, 8)):
        gone = layer(x) == 0
        share = gone.reshape(4, -1, 500).float()
        assert torch.equal(share.amin(1), share.amax(1))  # the same for every token of a picture
        assert share.mean().item() == pytest.approx(0.4, abs=0.04)
        assert not torch.equal(gone[0], gone[1])


def test_module_dropout_leaves_the_adapter_out() -> None:
    torch.manual_seed(0)
    layer = rank_layer(module_dropout=0.3)
    x = torch.randn(2, 8)
    silent = sum(not bool(layer(x).any()) for _ in range(1000))
    assert silent / 1000 == pytest.approx(0.3, abs=0.05)


# -- rank --------------------------------------------------------------------------------------


def test_truncation_is_the_svds() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(6, 30), torch.randn(20, 6)
    u, s, v = torch.linalg.svd((b @ a).double(), full_matrices=False)
    small_a, small_b = truncate(a, b, 2)
    assert (small_a.shape, small_b.shape) == ((2, 30), (20, 2))
    assert torch.allclose((small_b @ small_a).double(), (u[:, :2] * s[:2]) @ v[:2], atol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"type": "lokr", "lokr_full_rank": False}], ids=["lora", "lokr"])
def test_a_larger_rank_changes_nothing_and_learns(tiny_flux: Path, settings: dict[str, Any]) -> None:
    small, large = tiny(tiny_flux), tiny(tiny_flux)
    before = attach(small, rank=2, alpha=2.0, respect_alpha=True, **settings)
    train_a_little(before)
    after = attach(large, seed=1, rank=3, alpha=6.0, respect_alpha=True, **settings)
    fitted = fit_rank(before.state(), after, before.scale)
    assert fitted is not None
    after.load(fitted)
    assert torch.allclose(run(small), run(large), atol=1e-5)
    if not settings:  # one factor of the new rank is not zero: the other has a gradient
        assert after.parameters[f"{Q}.lora_A.weight"][2].abs().max() > 0
        assert after.parameters[f"{Q}.lora_B.weight"][:, 2].abs().max() == 0


def test_a_smaller_rank_keeps_the_most(tiny_flux: Path) -> None:
    before = attach(tiny(tiny_flux), rank=4)
    train_a_little(before)
    after = attach(tiny(tiny_flux), rank=2)
    fitted = fit_rank(before.state(), after, 1.0)
    assert fitted is not None
    s = torch.linalg.svdvals(delta(before.state(), Q))
    error = (delta(before.state(), Q) - delta(fitted, Q)).norm()
    assert error.item() == pytest.approx(s[2:].norm().item(), rel=1e-3)


def test_other_networks_do_not_fit(tiny_flux: Path) -> None:
    lokr, lora = attach(tiny(tiny_flux), type="lokr"), attach(tiny(tiny_flux))
    assert fit_rank(lokr.state(), lora, 1.0) is None
    some = attach(tiny(tiny_flux), network_kwargs={"only_if_contains": ["attn"]})
    assert fit_rank(some.state(), lora, 1.0) is None
    with pytest.raises(TrainingError, match="another network"):
        lora.load(some.state())


# -- starting from a file ----------------------------------------------------------------------


def pairs(rank: int, lora: Lora) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    result = {}
    for name in lora.layers:
        a, b = lora.parameters[f"{name}.lora_A.weight"], lora.parameters[f"{name}.lora_B.weight"]
        result[f"{name}.lora_A.weight"] = 0.2 * torch.randn(rank, a.shape[1], generator=generator)
        result[f"{name}.lora_B.weight"] = 0.2 * torch.randn(b.shape[0], rank, generator=generator)
    return result


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("rank", [2, 4])
def test_it_begins_with_the_files_effect(tiny_flux: Path, tmp_path: Path, kind: str, rank: int) -> None:
    model = tiny(tiny_flux)
    lora = attach(model, type=kind, alpha=2.0, respect_alpha=True)
    given = pairs(rank, lora)
    path = tmp_path / "given.safetensors"
    save_file({f"transformer.{name}": tensor for name, tensor in given.items()}, path)
    load_pretrained(path, lora, Reporter(None, io.StringIO()))
    expected = run(fused(tiny_flux, {name: delta(given, name) for name in lora.layers}))
    assert (expected - run(tiny(tiny_flux))).abs().max() > 1e-2
    assert torch.allclose(run(model), expected, atol=2e-3)


def test_a_file_of_a_higher_rank_is_reduced(tiny_flux: Path, tmp_path: Path) -> None:
    lora = attach(tiny(tiny_flux), rank=2, network_kwargs={"only_if_contains": ["attn"]})
    everything = attach(tiny(tiny_flux))
    given = pairs(6, everything)
    path = tmp_path / "given.safetensors"
    save_file({f"transformer.{name}": tensor for name, tensor in given.items()}, path)
    log = io.StringIO()
    load_pretrained(path, lora, Reporter(None, log))
    assert "higher rank" in log.getvalue()
    assert "are not trained here" in log.getvalue()
    s = torch.linalg.svdvals(delta(given, Q))
    error = (delta(given, Q) - delta(lora.state(), Q)).norm()
    assert error.item() == pytest.approx(s[2:].norm().item(), rel=1e-3)


def test_files_that_do_not_go(tiny_flux: Path, tmp_path: Path) -> None:
    lora = attach(tiny(tiny_flux), network_kwargs={"only_if_contains": ["single"]})
    given = {name: t for name, t in pairs(2, attach(tiny(tiny_flux))).items() if "single" not in name}
    path = tmp_path / "given.safetensors"
    save_file({f"transformer.{name}": tensor for name, tensor in given.items()}, path)
    quiet = Reporter(None, io.StringIO())
    with pytest.raises(TrainingError, match="none of the layers"):
        load_pretrained(path, lora, quiet)
    with pytest.raises(TrainingError, match="nothing"):
        load_pretrained(tmp_path / "nothing.safetensors", lora, quiet)
    with pytest.raises(TrainingError, match="lokr"):
        load_pretrained(path, attach(tiny(tiny_flux), type="lokr"), quiet)


# -- whole runs --------------------------------------------------------------------------------


def test_a_run_starts_from_another_ones_lora(make_run: MakeRun) -> None:
    first = make_run("first")
    assert first.train() == 0
    second = make_run(
        "second", network={"pretrained_lora_path": str(first.final)}, train={"lr": 1e-9, "steps": 1}
    )
    assert second.train() == 0
    left, right = load_file(first.final), load_file(second.final)
    assert all(torch.allclose(left[name], right[name], atol=1e-6) for name in left)


@pytest.mark.parametrize("kind", ["dora", "lokr"])
def test_runs_with_other_networks(make_run: MakeRun, kind: str) -> None:
    run = make_run(network={"type": kind, "dropout": 0.1})
    assert run.train() == 0
    assert [event.code for event in run.events(WarningEvent)] == ["network_setting"]
    saved = load_file(run.final)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())
    assert f"transformer.{Q}.{'lokr_w1' if kind == 'lokr' else 'lora_magnitude_vector'}" in saved
    plain = load_file(run.folder.checkpoints / "tiny_as_lora.safetensors")
    assert len(plain) == 52
    assert plain[f"transformer.{Q}.lora_A.weight"].shape[0] == 4
    if kind == "lokr":
        whole = torch.kron(saved[f"transformer.{Q}.lokr_w1"], saved[f"transformer.{Q}.lokr_w2"])
        error = (whole - delta(plain, f"transformer.{Q}")).norm()
        assert error.item() == pytest.approx(torch.linalg.svdvals(whole)[4:].norm().item(), rel=1e-3)
