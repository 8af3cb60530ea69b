"""The rebuilt transformer against diffusers' own, at tiny size on the CPU."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from backend.trainer import products
from backend.trainer.assembly import Assembly, assemble
from backend.trainer.batches import Batch
from backend.trainer.buckets import Bucket
from backend.trainer.diagonals import Diagonals
from backend.trainer.ema import Ema
from backend.trainer.fast_flux import IN_K, FastFlux, why_not
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.report import Reporter
from backend.trainer.step import FlowModel
from config.schema import NetworkConfig, ProcessConfig

CPU = torch.device("cpu")


class Model:
    """A tiny FLUX with an adapter that does something; rebuilt if asked."""

    def __init__(
        self, folder: Path, network: dict[str, Any] | None = None, fast: dict[str, Any] | None = None
    ) -> None:
        self.transformer = BaseModel(folder, "tiny", CPU, torch.float32).transformer()
        settings = NetworkConfig.model_validate({"rank": 4, **(network or {})})
        self.lora: Lora = attach_lora(self.transformer, settings, torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in self.lora.parameters.items():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        self.transformer.train()
        self.fast = FastFlux(self.transformer, self.lora, **fast) if fast is not None else None
        self.flow = FlowModel(self.transformer, 1.0)

    def batch(self, height: int = 8, seed: int = 3) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        config = self.transformer.config
        return Batch(
            latents=torch.randn(2, 16, height, 8, generator=generator),
            t5=torch.randn(2, 6, config.joint_attention_dim, generator=generator),
            clip=torch.randn(2, config.pooled_projection_dim, generator=generator),
        )

    def answer(self, batch: Batch) -> torch.Tensor:
        return self.flow.velocity(batch.latents, torch.tensor([0.3, 0.7]), batch.t5, batch.clip)

    def gradients(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        answer = self.answer(batch)
        (answer - batch.latents.roll(1, dims=-1)).square().mean().backward()
        if self.fast is not None:
            self.fast.collect()
        found = {name: p.grad.clone() for name, p in self.lora.parameters.items() if p.grad is not None}
        for parameter in self.lora.parameters.values():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return answer.detach(), found


def compare(plain: Model, fast: Model, height: int = 8) -> None:
    """Answers and gradients, with the adapter at full strength, at half and off."""
    batch = plain.batch(height)
    expected, found = plain.gradients(batch), fast.gradients(batch)
    assert torch.allclose(expected[0], found[0], atol=1e-5)
    assert expected[1].keys() == found[1].keys()
    for name, gradient in expected[1].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-5 * float(gradient.abs().max()) + 1e-8), name
    with torch.no_grad(), plain.lora.off(), fast.lora.off():
        assert torch.allclose(plain.answer(batch), fast.answer(batch), atol=1e-5)
    with torch.no_grad(), plain.lora.strength(0.5), fast.lora.strength(0.5):
        half = fast.answer(batch)
        assert torch.allclose(plain.answer(batch), half, atol=1e-5)
    assert not torch.allclose(half, found[0], atol=1e-3)


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ({}, {}),
        ({"alpha": 8}, {"checkpointed": 2}),
        ({"network_kwargs": {"only_if_contains": ["to_k", "proj_out", "ff.net"]}}, {}),
        ({"transformer_only": False}, {}),
        ({}, {"lora_in_k": IN_K["off"]}),
        (
            {"network_kwargs": {"only_if_contains": ["to_k", "proj_out", "ff.net"]}},
            {"lora_in_k": IN_K["auto"]},
        ),
    ],
    ids=["all layers", "checkpointed", "some layers", "embedders too", "products beside", "some beside"],
)
def test_it_computes_what_diffusers_does(
    tiny_flux: Path, network: dict[str, Any], settings: dict[str, Any]
) -> None:
    plain, fast = Model(tiny_flux, network), Model(tiny_flux, network, settings)
    compare(plain, fast)
    assert fast.fast is not None
    assert fast.transformer.forward == fast.fast.forward


def test_compiled_blocks_compute_the_same_in_one_graph(tiny_flux: Path) -> None:
    compiler = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    plain, fast = Model(tiny_flux), Model(tiny_flux, fast={"compiler": compiler})
    for height in (8, 12):
        compare(plain, fast, height)


@pytest.mark.parametrize("in_k", ["on", pytest.param("off", marks=pytest.mark.thorough)])
def test_products_written_in_place_compute_the_same(
    tiny_flux: Path, in_k: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "IN_PLACE_ON", {"cpu"})  # as on a GPU
    compiler = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    settings = {"lora_in_k": IN_K[in_k]}
    plain, fast = Model(tiny_flux), Model(tiny_flux, fast=settings)
    compiled = Model(tiny_flux, fast={"compiler": compiler, **settings})
    compare(plain, fast)
    compare(plain, compiled)


def test_operators_keep_the_rules_of_operators() -> None:
    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))

    x, right, bias, ranks, up = some(6, 8), some(8, 10), some(10), some(6, 4), some(4, 10)
    operators = torch.ops.fluxlora
    for case in (bias, None):
        torch.library.opcheck(operators.product_plus, (x, right.t().contiguous().t(), case, ranks, up))
    weight, a, strength = some(10, 12), some(4, 8), torch.tensor(0.5)
    torch.library.opcheck(operators.input_gradient, (some(6, 10), weight, a, strength))
    scaled = products.product_plus(x, right, bias, ranks, up)
    assert torch.allclose(scaled, operators.product_plus(x, right, bias, ranks, up), atol=1e-5)


@pytest.mark.parametrize("rank", [4, 6, 7])
def test_diagonals_follow_their_matrices(rank: int) -> None:
    compute = torch.zeros(64 * 40)
    sizes, at, parts = (5, 3, 9), 64, []
    for size in sizes:
        parts.append(compute[at : at + size * rank].view(size, rank))
        at += size * rank
    one, two = torch.zeros(10, 2 * rank), torch.zeros(9, rank)
    strips = [[(0, 0, parts[0]), (7, rank, parts[1])], [(0, 0, parts[2])]]
    diagonals = Diagonals(compute, rank, [one, two], strips)
    for seed in (1, 2):
        compute.normal_(generator=torch.Generator().manual_seed(seed))
        diagonals.refresh()
        assert torch.equal(one[:5, :rank], parts[0])
        assert torch.equal(one[7:, rank:], parts[1])
        assert torch.equal(two, parts[2])
        assert int(one.count_nonzero()) == 8 * rank


def test_weights_changed_by_others_count_at_once(tiny_flux: Path) -> None:
    model = Model(tiny_flux, fast={})
    batch = model.batch()
    before = model.answer(batch).detach()
    ema = Ema(model.lora.parameters, 0.9, model.lora.flat)
    state = model.lora.state()
    model.lora.load({name: weight * 2 for name, weight in state.items()})
    changed = model.answer(batch).detach()
    assert not torch.allclose(changed, before, atol=1e-3)
    with ema.swapped_in():  # it followed nothing yet: these are the first weights
        assert torch.equal(model.answer(batch).detach(), before)
    assert torch.equal(model.answer(batch).detach(), changed)


def test_hooks_and_foreign_arguments_get_diffusers_own_forward(tiny_flux: Path) -> None:
    model = Model(tiny_flux, fast={})
    batch = model.batch()
    expected = model.answer(batch).detach()
    layer = next(iter(model.lora.layers.values()))
    called = []
    handle = layer.register_forward_hook(lambda *args: called.append(1))
    assert torch.allclose(model.answer(batch).detach(), expected, atol=1e-5)
    assert called
    handle.remove()


@pytest.mark.parametrize(
    ("network", "reason"),
    [({"type": "lokr"}, "lokr"), ({"type": "dora"}, "dora"), ({"dropout": 0.1}, "dropout"), ({}, None)],
)
def test_what_it_cannot_rebuild_is_said(tiny_flux: Path, network: dict[str, Any], reason: str | None) -> None:
    model = Model(tiny_flux, network)
    why = why_not(model.transformer, model.lora)
    assert why is None if reason is None else why is not None and reason in why


# -- the optimizer over one buffer -----------------------------------------------------------------


def test_adamw_over_one_buffer_is_adamw_and_saves_as_it(tiny_flux: Path) -> None:
    plain, fast = Model(tiny_flux), Model(tiny_flux, fast={})
    ours = FlatAdamW(fast.lora, lr=0.01)
    theirs = torch.optim.AdamW(plain.lora.parameters.values(), lr=0.01)
    generator = torch.Generator().manual_seed(5)

    def update(optimizers: list[Any]) -> None:
        for name, parameter in plain.lora.parameters.items():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient
            other = fast.lora.parameters[name].grad
            assert other is not None
            other.copy_(gradient)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def same() -> None:
        for name, weight in plain.lora.state().items():
            assert torch.allclose(weight, fast.lora.state()[name], atol=1e-6), name

    update([ours, theirs])
    update([ours, theirs])
    same()
    saved, expected = ours.state_dict(), theirs.state_dict()
    assert saved["state"].keys() == expected["state"].keys()
    for index, state in expected["state"].items():
        assert torch.allclose(saved["state"][index]["exp_avg"], state["exp_avg"], atol=1e-6)
    resumed = FlatAdamW(fast.lora, lr=0.01)
    resumed.load_state_dict(expected)  # of a run without one buffer
    update([resumed, theirs])
    same()


# -- putting it together ---------------------------------------------------------------------------


def assembled(folder: Path, train: dict[str, Any], model: dict[str, Any] | None = None) -> Assembly:
    process = ProcessConfig.model_validate(
        {
            "type": "sd_trainer",
            "network": {"type": "lora", "linear": 4},
            "train": {"lr": 0.01, "steps": 5, "optimizer": "adamw", **train},
            "model": {"name_or_path": str(folder), **(model or {})},
            "datasets": [{"folder_path": str(folder)}],
        }
    )
    transformer = BaseModel(folder, "tiny", CPU, torch.float32).transformer()
    return assemble(
        transformer,
        process,
        torch.optim.AdamW,
        seed=1,
        device=CPU,
        report=Reporter(None),
        shapes={(Bucket(64, 64), 1): 1, (Bucket(64, 96), 1): 1},
        text_tokens=6,
        backend="aot_eager",
    )


def batch_for(made: Assembly) -> Batch:
    generator = torch.Generator().manual_seed(3)
    config = made.model._transformer.config
    return Batch(
        latents=torch.randn(1, 16, 8, 8, generator=generator),
        t5=torch.randn(1, 6, config.joint_attention_dim, generator=generator),
        clip=torch.randn(1, config.pooled_projection_dim, generator=generator),
    )


def test_a_compiled_run_learns_what_a_plain_one_does(
    tiny_flux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = assembled(tiny_flux, {"compile": True, "gradient_checkpointing": False})
    plain = assembled(tiny_flux, {"compile": False, "gradient_checkpointing": False})
    assert fast.fast is not None
    assert fast.fast.compiled
    assert plain.fast is None
    assert "compiling" in capsys.readouterr().out
    for done in range(4):
        one, other = fast.step(done, [batch_for(fast)]), plain.step(done, [batch_for(plain)])
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-3)
    mine, theirs = fast.lora.state(), plain.lora.state()
    for name, weight in theirs.items():
        assert torch.allclose(weight, mine[name], atol=2e-4), name


def test_a_compiler_that_fails_is_told_of_once_and_done_without(
    tiny_flux: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(function: Any, **options: Any) -> Any:
        def fail(*args: Any) -> Any:
            raise RuntimeError("no compiler here")

        return fail

    monkeypatch.setattr("backend.trainer.assembly.block_compiler", lambda backend: broken)
    made = assembled(tiny_flux, {"compile": True})
    said = capsys.readouterr().out
    assert said.count("torch.compile is not used: no compiler here") == 1
    assert made.fast is not None
    assert not made.fast.compiled
    assert made.step(0, [batch_for(made)]).grad_norm > 0


def test_nothing_is_waited_for_inside_an_update(tiny_flux: Path) -> None:
    """Apart from the one reading at its end, which a GPU does not need (see TrainStep.start)."""
    made = assembled(tiny_flux, {"compile": True, "gradient_checkpointing": False})
    batch = batch_for(made)
    made.step(0, [batch])
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        pending = made.step.start(1, [batch])
    names = {event.key for event in trace.key_averages()}
    assert any("mm" in name for name in names)
    waits = [event for event in trace.events() if event.name == "aten::_local_scalar_dense"]
    for event in waits:  # only the CPU's kernel of AdamW reads its own count of steps
        assert event.cpu_parent is not None
        assert event.cpu_parent.cpu_parent is not None
        assert event.cpu_parent.cpu_parent.name == "aten::_fused_adamw_"
    assert pending.arrived


# -- float8 ----------------------------------------------------------------------------------------


@pytest.mark.thorough  # test_fp8_parity has more steps of a larger model
def test_float8_learns_as_the_models_own_format_does(tiny_flux: Path) -> None:
    exact = assembled(tiny_flux, {"compile": True})
    rough = assembled(tiny_flux, {"compile": True}, {"compute": "fp8"})
    assert rough.compute == "fp8"
    gradients = []
    for made in (exact, rough):
        flat = made.lora.flat
        assert flat is not None
        assert flat.master.grad is not None
        batch = batch_for(made)
        made.step.loss_at(batch, batch.latents.roll(1, dims=-1), torch.tensor([0.5])).backward()
        assert made.fast is not None
        made.fast.collect()
        gradients.append(flat.master.grad.clone())
        made.fast.discard()
    cosine = torch.nn.functional.cosine_similarity(gradients[0], gradients[1], dim=0)
    assert 0.99 < float(cosine) < 1.0
    for done in range(5):
        one, other = exact.step(done, [batch_for(exact)]), rough.step(done, [batch_for(rough)])
        assert other.loss == pytest.approx(one.loss, rel=0.02)
