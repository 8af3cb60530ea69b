"""Batches put together ahead: the same as without, whatever happens, and the thread ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backend.events import ErrorEvent, StepEvent
from backend.trainer import feed as feed_module
from backend.trainer.batches import Batch, BatchMaker
from backend.trainer.buckets import Bucket
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.errors import TrainingError
from backend.trainer.feed import BatchFeed
from backend.trainer.order import DataOrder, Sample
from backend.trainer.rng import Randomness
from backend.trainer.texts import Texts
from tests.trainer.conftest import MakeRun

CPU = torch.device("cpu")


class Rig:
    """Seven samples of two shapes, with captions that are dropped at times, some for regularisation."""

    def __init__(self, folder: Path, depth: int, ram: int = 1 << 28) -> None:
        budget = RamBudget(ram)
        self.latents = TensorCache(folder / "latents", budget)
        texts = TensorCache(folder / "texts", budget)
        for number, key in enumerate(("caption", "dropped", "other")):
            texts.store(key, {"t5": torch.full((3, 4), float(number)), "clip": torch.full((2,), number)})
        samples = []
        for index in range(7):
            bucket = Bucket(32, 16) if index % 2 else Bucket(16, 32)
            latent = torch.full((4, bucket.height // 8 + 1, bucket.width // 8), float(index))
            self.latents.store(f"{index:02}", {"latent": latent + torch.rand(latent.shape)})
            samples.append(
                Sample(
                    bucket,
                    f"{index:02}",
                    (Texts("caption"), Texts("other")),
                    dropped=Texts("dropped"),
                    dropout=0.5,
                    slack=(0, 1),
                    is_reg=index > 4,
                )
            )
        self.order = DataOrder(samples, 2, seed=3)
        self.random = Randomness(5, CPU)
        make = BatchMaker(self.latents, texts, self.random, CPU, torch.float32)
        self.feed = BatchFeed(self.order, make, CPU, depth)

    def take(self, steps: range, count: int = 1) -> list[Batch]:
        return [batch for step in steps for batch in self.feed.take(step, count)]

    @property
    def place(self) -> tuple[Any, list[int]]:
        return self.order.state(), self.random.caption.get_state().tolist()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name == "batches":
            thread.join(5)
            assert not thread.is_alive()


def same(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.is_reg, a.network_weight) == (b.is_reg, b.network_weight)
        assert len(a.tensors()) == len(b.tensors()) >= 3
        assert all(torch.equal(x, y) for x, y in zip(a.tensors(), b.tensors(), strict=True))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("depth", [1, 4])
def test_batches_and_places_are_those_of_no_thread(tmp_path: Path, count: int, depth: int) -> None:
    torch.manual_seed(1)
    plain = Rig(tmp_path, 0)
    torch.manual_seed(1)
    ahead = Rig(tmp_path, depth)
    for step in range(1, 30):
        same(plain.take(range(step, step + 1), count), ahead.take(range(step, step + 1), count))
        assert plain.place == ahead.place  # what would be saved now
    assert (plain.feed.hits, plain.feed.misses) == (0, 29 * count)
    assert (ahead.feed.hits, ahead.feed.misses) == (29 * count - 1, 1)
    ahead.feed.close()


def test_going_back_throws_away_what_was_ahead(tmp_path: Path) -> None:
    torch.manual_seed(1)
    rig = Rig(tmp_path, 4)
    rig.take(range(1, 6))
    place, caption = rig.order.state(), rig.random.caption.get_state()
    first = rig.take(range(6, 16))
    rig.order.load(place)
    rig.random.caption.set_state(caption)
    same(first, rig.take(range(6, 16)))
    assert rig.feed.misses == 2
    rig.feed.close()


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, 3)
    made = []
    full = threading.Event()
    assemble = BatchMaker.assemble

    def counted(maker: BatchMaker, planned: Any) -> Batch:
        made.append(threading.current_thread().name)
        if len(made) == 4:
            full.set()
        return assemble(maker, planned)

    monkeypatch.setattr(BatchMaker, "assemble", counted)
    rig.take(range(1, 2))
    assert full.wait(5)
    assert made.count("batches") == 3  # and waits, or is about to
    rig.take(range(2, 3))
    rig.feed.close()
    assert made.count("batches") <= 4
    assert made.count("MainThread") == 1


def test_an_error_is_told_where_its_batch_is_asked_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 2, ram=0)
    rig.take(range(1, 4))
    for file in (tmp_path / "latents").rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(TrainingError, match="was deleted while training") as caught:
        rig.take(range(4, 10))  # at most two were ready
    assert caught.value.code == "cache_gone"


def test_a_thread_that_dies_is_no_endless_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module._Worker, "_work", lambda worker: None)
    rig = Rig(tmp_path, 2)
    with pytest.raises(RuntimeError, match="ended unasked"):
        rig.take(range(1, 3))
    rig.feed.close()


# -- whole runs ------------------------------------------------------------------------------------


def with_threads(monkeypatch: pytest.MonkeyPatch) -> list[BatchFeed]:
    """Runs have the thread from now on, as on a GPU; the feeds that they had."""
    feeds: list[BatchFeed] = []
    usual = BatchFeed.__init__

    def with_depth(feed: BatchFeed, *args: Any) -> None:
        usual(feed, *args, depth=4)
        feeds.append(feed)

    monkeypatch.setattr(BatchFeed, "__init__", with_depth)
    return feeds


TRAIN = {"steps": 6, "gradient_accumulation": 2}


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one_without(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    data = [{"folder_path": str(pictures), "resolution": [64, 96], "caption_dropout_rate": 0.4}]
    plain = make_run("plain", train=TRAIN, datasets=data)
    assert plain.train() == 0
    ahead = with_threads(monkeypatch)
    run = make_run("ahead", train=TRAIN, datasets=data)
    assert run.train_until(3, monkeypatch) == 0
    assert run.train() == 0
    losses = [[event.loss for event in one.events(StepEvent)] for one in (plain, run)]
    assert losses[0] == losses[1]
    expected, found = load_file(plain.final), load_file(run.final)
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())
    assert [feed.misses for feed in ahead] == [1, 1]
    assert sum(feed.hits for feed in ahead) == 10


def test_a_run_whose_cache_is_deleted_says_so(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with_threads(monkeypatch)
    monkeypatch.setattr(RamBudget, "of_this_machine", classmethod(lambda cls: RamBudget(0)))
    run = make_run(train={"steps": 500})
    find = TensorCache.find
    asked = []

    def gone(cache: TensorCache, key: str) -> Any:
        asked.append(key)
        return None if threading.current_thread().name == "batches" and len(asked) > 60 else find(cache, key)

    monkeypatch.setattr(TensorCache, "find", gone)
    assert run.train() == 1
    (error,) = run.events(ErrorEvent)
    assert "was deleted while training; resume the run to compute it again" in error.message
    assert error.code == "cache_gone"
