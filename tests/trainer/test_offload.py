from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.events import StepEvent
from backend.trainer.bench.rig import synthetic_batch
from backend.trainer.bench.shapes import FLUX_DEV, random_transformer, small
from backend.trainer.buckets import Bucket
from backend.trainer.loading import BaseModel
from backend.trainer.lora import Lora, attach_lora
from backend.trainer.memory import recomputed_bytes
from backend.trainer.offload import BlockSwap, blocks_of, blocks_to_swap, frozen_bytes, resident, spread
from backend.trainer.quantisation import QType, is_block_layer, quantise_model
from backend.trainer.step import FlowModel
from config.schema import ModelConfig, NetworkConfig
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")
CONFIG = small(32, 2, 4)


def build(qtype: QType | None, swapped: int) -> tuple[FlowModel, Lora, BlockSwap | None]:
    transformer = random_transformer(CONFIG, CPU, torch.float32)
    if qtype is not None:
        quantise_model(transformer, qtype, is_block_layer, CPU)
    lora = attach_lora(transformer, NetworkConfig(rank=4), torch.Generator().manual_seed(0))
    for name, parameter in lora.parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    transformer.train()
    transformer.enable_gradient_checkpointing()
    swap = BlockSwap(transformer, swapped, CPU) if swapped else None
    return FlowModel(transformer, 1.0), lora, swap


def gradients(model: FlowModel, lora: Lora) -> tuple[float, list[torch.Tensor]]:
    batch = synthetic_batch(CONFIG, 64, 64, 1, CPU, torch.float32, 8)
    predicted = model.velocity(batch.latents, torch.tensor([0.5]), batch.t5, batch.clip)
    loss = (predicted - batch.latents.roll(1)).square().mean()
    loss.backward()
    grads = [parameter.grad for parameter in lora.parameters.values()]
    for parameter in lora.parameters.values():
        parameter.grad = None
    assert all(grad is not None for grad in grads)
    return float(loss.detach()), [grad for grad in grads if grad is not None]


@pytest.mark.parametrize("qtype", [None, "float8", "int8", "nf4"])
@pytest.mark.parametrize("swapped", [1, 3, 6])
def test_swapped_blocks_compute_the_same(qtype: QType | None, swapped: int) -> None:
    plain_model, plain_lora, _ = build(qtype, 0)
    model, lora, swap = build(qtype, swapped)
    assert swap is not None
    for _ in range(2):
        loss, grads = gradients(plain_model, plain_lora)
        same, others = gradients(model, lora)
        assert same == loss
        assert all(torch.equal(a, b) for a, b in zip(grads, others, strict=True))
    with torch.no_grad():
        batch = synthetic_batch(CONFIG, 64, 64, 1, CPU, torch.float32, 8)
        inputs = (batch.latents, torch.tensor([0.5]), batch.t5, batch.clip)
        assert torch.equal(model.velocity(*inputs), plain_model.velocity(*inputs))


def test_each_block_is_copied_once_each_way() -> None:
    model, lora, swap = build(None, 4)
    assert swap is not None
    gradients(model, lora)
    assert swap.copies == 4 + 2  # forward four; backward begins with the two that are there


def test_recomputing_is_needed() -> None:
    transformer = random_transformer(CONFIG, CPU, torch.float32)
    with pytest.raises(ValueError, match="checkpointing"):
        BlockSwap(transformer, 1, CPU)


def test_swapped_blocks_lie_apart() -> None:
    assert spread(1, 57) == [28]
    assert spread(3, 6) == [1, 3, 5]
    assert spread(9, 4) == [0, 1, 2, 3]


def test_as_few_blocks_are_swapped_as_fit() -> None:
    sizes = [100] * 10
    assert blocks_to_swap(3, sizes, 0, 0, 0) == 3
    assert blocks_to_swap(30, sizes, 0, 0, 0) == 10
    assert blocks_to_swap("auto", sizes, 50, 2000, 100) == 0
    # 1000 * 0.92 = 920 - 100 - 50 = 770 left: eight stay but two places are taken up.
    assert blocks_to_swap("auto", sizes, 50, 1000, 100) == 5
    assert blocks_to_swap("auto", sizes, 50, 100, 100) == 10


# Bits a weight of a block, as they are kept; measured on quantised layers.
BITS: dict[QType | None, float] = {None: 16, "float8": 8.0, "nf4": 4.5}


@functools.cache
def flux() -> tuple[Any, list[int], int]:
    """FLUX.1 without memory, the bytes of its blocks and of the rest."""
    transformer = random_transformer(FLUX_DEV, torch.device("meta"), torch.bfloat16)
    sizes = [frozen_bytes(block) for block in blocks_of(transformer)]
    return transformer, sizes, frozen_bytes(transformer) - sum(sizes)


@pytest.mark.parametrize(
    ("card", "qtype", "swapped"),
    [
        (80, None, 0),
        (24, None, 20),
        (16, None, 38),
        (12, None, 48),
        (24, "float8", 0),
        (16, "float8", 16),
        (12, "float8", 35),
        (16, "nf4", 0),
        (12, "nf4", 15),
    ],
)
def test_what_auto_swaps_on_cards_of_all_sizes_fits(card: int, qtype: QType | None, swapped: int) -> None:
    transformer, whole, others = flux()
    sizes = [int(size * BITS[qtype] / 16) for size in whole]
    free = (card << 30) - (600 << 20)  # what the driver and torch's libraries take
    need = recomputed_bytes(transformer, 16, [(Bucket(512, 512), 1), (Bucket(1024, 1024), 1)], 512)
    assert 5.0 < need / 2**30 < 5.6
    count = blocks_to_swap("auto", sizes, others, free, need)
    assert count == swapped
    assert resident(sizes, count) + others + need < free * 0.93
    if count:  # and no fewer would do
        assert resident(sizes, count - 1) + others + need > free * 0.91
    # Smaller pictures need less, larger batches more.
    smaller = recomputed_bytes(transformer, 16, [(Bucket(512, 512), 1)], 512)
    larger = recomputed_bytes(transformer, 16, [(Bucket(1024, 1024), 2)], 512)
    assert smaller < need < larger
    counts = [blocks_to_swap("auto", sizes, others, free, each) for each in (smaller, need, larger)]
    assert counts == sorted(counts)


def test_a_model_that_does_not_fit_is_told_of(tiny_flux: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.trainer.loading.free_memory_here", lambda: 1 << 30)
    warned: list[tuple[str, str]] = []
    settings = ModelConfig(name_or_path="tiny", offload="auto")
    base = BaseModel(tiny_flux, "tiny", CPU, torch.float32, settings=settings)
    assert base.transformer(lambda *said: warned.append(said), lambda model: 1 << 20).swapped_blocks == 0
    assert warned == []
    model = base.transformer(lambda *said: warned.append(said), lambda model: 1 << 30)
    assert model.swapped_blocks == len(blocks_of(model)) == 3
    ((sentence, code),) = warned
    assert code == "memory_short"
    assert "needs about 1.0 GiB beside the weights, 1.0 GiB are free" in sentence


def test_weights_are_counted_as_they_are_kept() -> None:
    transformer = random_transformer(CONFIG, CPU, torch.float32)
    before = frozen_bytes(blocks_of(transformer)[-1])
    quantise_model(transformer, "int8", is_block_layer, CPU)
    assert frozen_bytes(blocks_of(transformer)[-1]) < before / 3


def test_a_run_with_swapped_blocks_learns_the_same(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, swapped = make_run("plain"), make_run("swapped", model={"offload": 2})
    assert plain.train() == swapped.train() == 0
    assert "2 blocks wait in the computer's memory" in capsys.readouterr().out
    losses = [[event.loss for event in run.events(StepEvent)] for run in (plain, swapped)]
    assert losses[0] == losses[1]
