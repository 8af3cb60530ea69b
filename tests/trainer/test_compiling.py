"""The warm-up: which shapes it runs and in which order, and that a run compiles nothing after it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch._dynamo.utils import counters

from backend.events import PhaseEvent, StepEvent
from backend.trainer import compiling, fp8
from backend.trainer.assembly import wants_graphs
from backend.trainer.buckets import Bucket
from backend.trainer.compiling import WarmShape, WarmUp, shapes_of
from backend.trainer.loop import TrainingLoop
from backend.trainer.order import DataOrder, Sample
from backend.trainer.texts import Texts
from tests.trainer.conftest import MakeRun, draw_picture
from tests.trainer.test_graphs import Heard

LARGE, SMALL = Bucket(1024, 1024), Bucket(512, 512)


def test_a_runs_shapes_are_those_of_its_batches() -> None:
    text = (Texts("t"),)
    samples = [Sample(LARGE, f"l{i}", text) for i in range(3)]
    samples += [Sample(SMALL, f"s{i}", text) for i in range(7)]
    samples += [Sample(SMALL, f"m{i}", text, mask="m") for i in range(3)]
    samples += [Sample(SMALL, "r", text, is_reg=True)]
    order = DataOrder(samples, 1, seed=1, sizes={LARGE: 1, SMALL: 3})
    place = order.state()
    shapes = order.shapes()
    # Ten small ones are four batches of three or two; one kind of a batch alone is for regularisation.
    assert shapes == {(LARGE, 1): 3, (SMALL, 2): 2, (SMALL, 3): 2, (SMALL, 1): 1}
    assert sum(shapes.values()) == order.batches_per_epoch + 1
    assert order.state() == place
    seen = set()
    for step in range(1, 60):
        draws = order.next_batch(step)
        seen.add((draws[0].sample.bucket, len(draws)))
    assert seen == shapes.keys()
    examples = order.examples()
    assert sum(number for _, number in examples) == sum(shapes.values())
    assert {any(draw.sample.mask for draw in draws) for draws, _ in examples} == {True, False}
    assert [number for _, number in examples] == sorted((n for _, n in examples), reverse=True)


def test_shapes_are_in_the_order_of_their_cost() -> None:
    batches = {(SMALL, 1): 5, (SMALL, 3): 1, (LARGE, 1): 2, (SMALL, 4): 1}
    assert [str(shape) for shape in shapes_of(batches, 512)] == [
        "512x512 x 4",
        "512x512 x 3",  # with their texts three are 4608 tokens, as many as
        "1024x1024",
        "512x512",
    ]


@pytest.mark.parametrize("measure", [False, True])
def test_all_shapes_are_run_and_the_costliest_tells_what_fits(
    measure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    for name in ("_fit", "_try", "_draw"):
        monkeypatch.setattr(WarmUp, name, lambda self, shape, name=name: calls.append((name, str(shape))))
    heard: Any = Heard()
    fast: Any = type("Fast", (), {"compiled": True})()
    none: Any = None
    warm = WarmUp(fast, none, none, 8, torch.device("cpu"), torch.float32, heard)
    shapes = [WarmShape(128, 128, 1), *(WarmShape(64, 8 * n, 1) for n in range(14, 0, -1))]
    warm.run(shapes, measure=measure, drawn=[WarmShape(96, 96, 1)])
    kinds = ["_fit" if measure else "_try", *["_try"] * 14, "_draw"]
    assert [kind for kind, _ in calls] == kinds
    assert [shape for _, shape in calls] == [str(shape) for shape in shapes] + ["768x768"]
    assert [done for _, done, _, _ in heard.phases] == list(range(17))
    assert {total for _, _, total, _ in heard.phases} == {16}


@pytest.mark.parametrize(("card", "expected"), [(80, 0), (40, 18), (24, 40), (12, 57)])
def test_as_few_blocks_are_computed_again_as_the_card_needs(
    card: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that has so many GiB and a model of which each kept block takes 0.7, all else 10."""
    kept, other = 0.7, 10.0

    class Fast:
        blocks, checkpointed, compiled = 57, 0, True

        def discard(self) -> None:
            pass

        @property
        def need(self) -> float:
            return other + (self.blocks - self.checkpointed) * kept

    fast, tried = Fast(), []

    def step(warm: WarmUp, shape: WarmShape) -> None:
        tried.append(fast.checkpointed)
        if fast.need > card * 0.95:
            raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(WarmUp, "_step", step)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: int(fast.need * 2**30))
    card_facts = SimpleNamespace(total_memory=card << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card_facts)
    heard: Any = Heard()
    none: Any = None
    warm = WarmUp(cast(Any, fast), none, none, 8, torch.device("cpu"), torch.float32, heard)
    warm.run([WarmShape(128, 128, 1)], measure=True)
    assert fast.checkpointed == expected
    assert fast.need <= card * 0.95
    assert len(tried) < 8
    assert (f"gradient checkpointing: {expected} of 57 blocks" in heard.lines[0]) == (expected > 0)


@pytest.mark.parametrize(
    ("wanted", "compiled", "device", "graphs"),
    [
        ("auto", True, "cuda", True),
        (True, True, "cuda", True),
        (False, True, "cuda", False),
        ("auto", False, "cuda", False),
        ("auto", True, "cpu", False),
    ],
)
def test_graphs_are_for_compiled_blocks_on_nvidia(
    wanted: bool | str, compiled: bool, device: str, graphs: bool
) -> None:
    assert wants_graphs(wanted, compiled, torch.device(device)) == graphs


@pytest.mark.parametrize(
    ("fp8_seconds", "chosen"), [(0.5, "fp8"), (0.9, "bf16"), (1.5, "bf16"), (None, "bf16")]
)
def test_float8_is_chosen_where_it_is_measured_to_be_faster(
    fp8_seconds: float | None, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([fp8_seconds, 1.0])

    def clock(work: Any) -> float:
        value = next(seconds)
        if value is None:
            raise RuntimeError("no such product\nmore")
        return value

    monkeypatch.setattr(fp8, "can_compute", lambda device: True)
    monkeypatch.setattr(fp8, "_seconds", clock)
    found, told = fp8.best_compute(torch.device("cpu"), tokens=8, width=16)
    assert found == chosen
    expected = "do not run here: no such product" if fp8_seconds is None else f"{chosen} is used"
    assert told.endswith(expected)
    monkeypatch.setattr(fp8, "can_compute", lambda device: False)
    assert fp8.best_compute(torch.device("cpu")) == ("bf16", "")


def test_what_cannot_be_drawn_does_not_keep_a_run_from_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: WarmUp, shape: WarmShape) -> Any:
        assert not torch.is_grad_enabled()
        raise torch.OutOfMemoryError("CUDA out of memory\nmore")

    monkeypatch.setattr(WarmUp, "_forward", full)
    heard: Any = Heard()
    fast: Any = type("Fast", (), {"compiled": False, "discard": lambda self: None})()
    none: Any = None
    WarmUp(fast, none, none, 8, torch.device("cpu"), torch.float32, heard).run(
        [], measure=False, drawn=[WarmShape(96, 96, 1)]
    )
    assert heard.lines[0] == "pictures of 768x768 are not prepared: CUDA out of memory"


def test_a_run_compiles_nothing_after_its_warm_up(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = compiling.block_compiler
    monkeypatch.setattr("backend.trainer.assembly.block_compiler", lambda backend: usual("eager"))
    pictures = tmp_path / "many"
    pictures.mkdir()
    for index in range(5):
        draw_picture(pictures / f"{index}.png", (128, 128), index)
        (pictures / f"{index}.txt").write_text(f"a picture {index}", encoding="utf-8")
    counted: list[int] = []
    update = TrainingLoop._update

    def counting(loop: TrainingLoop, accumulation: int) -> None:
        counted.append(counters["stats"]["unique_graphs"])
        update(loop, accumulation)

    monkeypatch.setattr(TrainingLoop, "_update", counting)
    run = make_run(
        datasets=[{"folder_path": str(pictures), "resolution": [64]}],
        train={"steps": 5, "compile": True, "token_budget": 165, "disable_sampling": False,
               "skip_first_sample": True},
        sample={"prompts": ["a cat"], "sample_every": 4, "sample_steps": 1, "width": 96, "height": 64},
    )  # fmt: skip
    assert run.train() == 0
    phases = [event for event in run.events(PhaseEvent) if event.phase == "compiling"]
    details = [event.detail for event in phases if event.detail]
    # A picture and its text are 80 tokens: five are batches of two, two and one; the last is the sample.
    assert details == ["64x64 x 2", "64x64", "96x64"]
    assert phases[-1].done == phases[-1].total == len(details)
    assert len(run.events(StepEvent)) == 5
    assert counted[0] > 0
    assert counters["stats"]["unique_graphs"] == counted[0]
