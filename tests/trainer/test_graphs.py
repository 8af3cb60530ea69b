"""Recorded passes: with a recorder that runs what it recorded, they give the usual path's very bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backend.events import Phase
from backend.trainer.batches import Batch
from backend.trainer.fast_flux import FastFlux
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.graphs import GraphedUpdate, record_ahead
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.optimizer import Schedule
from backend.trainer.pending import StepResult
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness
from backend.trainer.step import FlowModel, TrainStep
from config.schema import NetworkConfig, TrainConfig

CPU = torch.device("cpu")


class Emulated:
    """Records a closure instead of kernels; like a graph it can only read what it was recorded with."""

    def __init__(self) -> None:
        self.recorded = self.replayed = self.released = 0
        self.fails = self.little_memory = False

    def warm(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay

    def release(self) -> None:
        self.released += 1

    def short(self) -> bool:
        return self.little_memory


class Rig:
    """A step on the tiny model, with graphs if a recorder is given."""

    def __init__(
        self, folder: Path, recorder: Emulated | None = None, most: int = 12, **train: object
    ) -> None:
        transformer = BaseModel(folder, "tiny", CPU, torch.float32).transformer()
        network = NetworkConfig.model_validate({"rank": 4})
        self.lora: Lora = attach_lora(transformer, network, torch.Generator().manual_seed(0))
        transformer.train()
        self.config = transformer.config
        self.fast = FastFlux(transformer, self.lora)
        settings = TrainConfig.model_validate({"lr": 1e-2, "steps": 50, **train})
        optimizer = FlatAdamW(self.lora, lr=1e-2)
        self.step = TrainStep(
            FlowModel(transformer, 1.0), self.lora, optimizer, Schedule(optimizer, settings), None,
            Randomness(1, CPU), settings, fast=self.fast,
        )  # fmt: skip
        self.said: list[str] = []
        self.graphs: GraphedUpdate | None = None
        if recorder is not None:
            self.graphs = GraphedUpdate(
                self.fast, self.lora, self.step.loss_at, recorder, self.said.append, most
            )
            self.step.replay(self.graphs)

    def batch(self, height: int = 8, seed: int = 3, count: int = 2) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        return Batch(
            latents=torch.randn(count, 16, height, 8, generator=generator),
            t5=torch.randn(count, 6, self.config.joint_attention_dim, generator=generator),
            clip=torch.randn(count, self.config.pooled_projection_dim, generator=generator),
        )

    def updates(self, batches: list[list[Batch]]) -> list[StepResult]:
        return [self.step(done, group) for done, group in enumerate(batches)]

    @property
    def weights(self) -> torch.Tensor:
        return self.fast.flat.master.detach().clone()


def same(plain: Rig, graphed: Rig, batches: list[list[Batch]]) -> None:
    """Losses, norms and weights are equal to the bit, and something was learned."""
    before = plain.weights
    assert plain.updates(batches) == graphed.updates(batches)
    assert torch.equal(plain.weights, graphed.weights)
    assert not torch.equal(before, plain.weights)


def test_replayed_updates_are_the_usual_ones(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    batches = [[plain.batch(height, seed)] for seed, height in enumerate((12, 8, 12, 8, 12))]
    same(plain, graphed, batches)
    assert (recorder.recorded, recorder.replayed, recorder.released) == (2, 5, 0)
    assert graphed.said == []


def test_gradients_add_up_over_batches(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    batches = [[plain.batch(12, seed), plain.batch(8, seed + 9), plain.batch(8, seed)] for seed in range(3)]
    same(plain, graphed, batches)
    assert recorder.recorded == 2  # the first of an update, and one that is added
    assert recorder.replayed == 9


def test_what_a_batch_holds_beside_pictures_counts(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux, reg_weight=0.5), Rig(tiny_flux, recorder, reg_weight=0.5)
    batch = plain.batch()
    masks = [torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    kinds = [
        *(replace(batch, mask=mask) for mask in masks),
        *(replace(batch, loss_weight=torch.tensor(pair)) for pair in ([1.0, 2.0], [0.5, 1.0])),
        replace(batch, network_weight=0.5),
        replace(batch, is_reg=True),
        batch,
    ]
    same(plain, graphed, [[kind] for kind in kinds])
    assert (recorder.recorded, recorder.replayed) == (5, 7)


def test_what_cannot_be_replayed_goes_the_usual_way_between(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    batch = plain.batch()
    prior = replace(batch, prior_reg=True)
    preserved = replace(batch, preserved_t5=batch.t5 * 0.5, preserved_clip=batch.clip)
    same(plain, graphed, [[batch], [prior, batch], [batch, preserved], [preserved], [batch]])
    assert recorder.replayed == 4


def test_the_number_of_graphs_is_bounded(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder, most=2)
    batches = [[plain.batch(height)] for height in (12, 10, 8, 12, 8)]
    same(plain, graphed, batches)
    assert (recorder.recorded, recorder.replayed) == (2, 3)


def test_a_larger_shape_frees_the_smaller_ones_memory_first(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    same(plain, graphed, [[plain.batch(height)] for height in (8, 12, 8, 12)])
    assert (recorder.recorded, recorder.released) == (3, 1)


@pytest.mark.parametrize("trouble", ["fails", "little_memory"])
def test_without_success_the_usual_way_goes_on_and_the_reason_is_said_once(
    tiny_flux: Path, trouble: str
) -> None:
    recorder = Emulated()
    setattr(recorder, trouble, True)
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    same(plain, graphed, [[plain.batch(8), plain.batch(8, 5)], [plain.batch(12)]])
    assert len(graphed.said) == 1
    assert "\n" not in graphed.said[0]
    assert recorder.replayed == 0


def test_weights_changed_by_others_are_taken_up(tiny_flux: Path) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    same(plain, graphed, [[plain.batch()]])
    for rig in (plain, graphed):
        rig.lora.load({name: weight * 2 for name, weight in rig.lora.state().items()})
    same(plain, graphed, [[plain.batch()]])


def test_out_of_memory_frees_the_graphs_and_tries_again(
    tiny_flux: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Emulated()
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    batch = plain.batch()
    same(plain, graphed, [[batch]])
    usual, calls = graphed.step.losses, []

    def full(*args: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("full")
        return usual(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(graphed.step, "losses", full)
    same(plain, graphed, [[replace(batch, prior_reg=True), batch]])
    assert recorder.released == 1
    assert len(calls) == 2


# -- recorded before training ----------------------------------------------------------------------


class Heard(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(None)
        self.phases: list[tuple[str, int, int, str | None]] = []
        self.lines: list[str] = []

    def phase(self, phase: Phase, done: int = 0, total: int = 0, detail: str | None = None) -> None:
        self.phases.append((str(phase), done, total, detail))

    def line(self, text: str, *, level: str = "INFO") -> None:
        self.lines.append(text)


def test_all_graphs_are_recorded_ahead_the_largest_first_and_change_nothing(tiny_flux: Path) -> None:
    recorder, heard = Emulated(), Heard()
    weighted = {"timestep_type": "weighted"}  # levels with weights, which are inputs too
    plain, graphed = Rig(tiny_flux, **weighted), Rig(tiny_flux, recorder, **weighted)
    assert graphed.graphs is not None
    plain.updates([[plain.batch()]])  # in the middle of a run, as after a resume
    graphed.step.replay(None)
    graphed.updates([[graphed.batch()]])
    graphed.step.replay(graphed.graphs)
    noise = graphed.step._random.noise.get_state()
    examples = [
        (plain.batch(8), 9),
        (plain.batch(12), 2),
        (replace(plain.batch(8), prior_reg=True), 1),
        (plain.batch(8, count=1), 3),
    ]
    record_ahead(graphed.graphs, examples, graphed.step.blank_draws, 2, 0.5, heard)
    recorded = ["64x96 x 2", "64x96 x 2", "64x64 x 2", "64x64 x 2", "64x64", "64x64"]
    told = [("compiling", done, 6, f"recording {pictures}") for done, pictures in enumerate(recorded)]
    assert heard.phases == [*told, ("compiling", 6, 6, None)]
    assert [re.sub(r"\d+ s$", "N s", line) for line in heard.lines] == [
        "6 CUDA graphs are recorded after N s"
    ]
    assert (recorder.recorded, recorder.replayed, recorder.released) == (6, 0, 0)
    assert torch.equal(noise, graphed.step._random.noise.get_state())
    batches = [[plain.batch(12), plain.batch(8, 5)], [plain.batch(8, count=1), plain.batch(12, 6)]]
    same(plain, graphed, batches * 2)
    assert (recorder.recorded, recorder.replayed) == (6, 8)


def test_with_too_many_kinds_the_most_frequent_get_graphs(tiny_flux: Path) -> None:
    recorder, heard = Emulated(), Heard()
    graphed = Rig(tiny_flux, recorder, most=2)
    assert graphed.graphs is not None
    examples = [(graphed.batch(height), number) for height, number in ((12, 1), (10, 5), (8, 7))]
    record_ahead(graphed.graphs, examples, graphed.step.blank_draws, 1, 1.0, heard)
    assert [detail for *_, detail in heard.phases] == ["recording 64x80 x 2", "recording 64x64 x 2", None]
    assert heard.lines[0] == "2 of 3 kinds of batches get graphs"


def test_recording_that_fails_is_said_once_and_training_goes_on(tiny_flux: Path) -> None:
    recorder, heard = Emulated(), Heard()
    recorder.fails = True
    plain, graphed = Rig(tiny_flux), Rig(tiny_flux, recorder)
    assert graphed.graphs is not None
    examples = [(graphed.batch(height), 1) for height in (12, 8)]
    record_ahead(graphed.graphs, examples, graphed.step.blank_draws, 1, 1.0, heard)
    assert len(graphed.said) == 1
    assert heard.lines == []
    same(plain, graphed, [[plain.batch(12)], [plain.batch(8)]])
