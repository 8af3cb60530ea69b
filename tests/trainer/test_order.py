from __future__ import annotations

import json
from collections import Counter

import torch

from backend.trainer.buckets import Bucket
from backend.trainer.order import DataOrder, Sample
from backend.trainer.rng import Randomness, derive_seed

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 64)


def samples(square: int, wide: int) -> list[Sample]:
    return [Sample(SQUARE, f"s{i}", "t") for i in range(square)] + [
        Sample(WIDE, f"w{i}", "t") for i in range(wide)
    ]


def take(order: DataOrder, count: int) -> list[list[str]]:
    return [[sample.latent for sample in order.next_batch()] for _ in range(count)]


def test_each_epoch_shows_every_picture_in_full_batches_of_one_bucket() -> None:
    order = DataOrder(samples(5, 3), 2, seed=1)
    assert order.batches_per_epoch == 5
    for epoch in (1, 2, 3):
        batches = take(order, 5)
        assert order.epoch == epoch
        assert all(len(batch) == 2 and len({name[0] for name in batch}) == 1 for batch in batches)
        counts = Counter(name for batch in batches for name in batch)
        assert len(counts) == 8
        assert sorted(counts.values()) == [1] * 6 + [2] * 2  # one filler a bucket


def test_a_bucket_smaller_than_a_batch_repeats_itself() -> None:
    order = DataOrder(samples(1, 0), 4, seed=1)
    assert take(order, 2) == [["s0"] * 4] * 2


def test_epochs_and_seeds_shuffle_differently() -> None:
    one = take(DataOrder(samples(20, 0), 1, seed=1), 40)
    assert one[:20] != one[20:]
    assert one == take(DataOrder(samples(20, 0), 1, seed=1), 40)
    assert one != take(DataOrder(samples(20, 0), 1, seed=2), 40)


def test_a_position_can_be_taken_up_again() -> None:
    straight = take(DataOrder(samples(7, 2), 2, seed=3), 23)
    for position in range(23):
        order = DataOrder(samples(7, 2), 2, seed=3)
        take(order, position)
        again = DataOrder(samples(7, 2), 2, seed=3)
        assert again.load(json.loads(json.dumps(order.state())))
        assert take(again, 23 - position) == straight[position:]


def test_changed_data_starts_the_next_epoch() -> None:
    order = DataOrder(samples(7, 2), 2, seed=3)
    take(order, 2)
    for other in (DataOrder(samples(8, 2), 2, seed=3), DataOrder(samples(7, 2), 1, seed=3)):
        assert not other.load(order.state())
        assert other.epoch == 2


def test_purposes_have_unrelated_seeds() -> None:
    seeds = {derive_seed(1, purpose) for purpose in ("noise", "sigma", "order/1", "order/2")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_all_generators_continue_from_their_state() -> None:
    import random

    def draw(source: Randomness) -> list[float]:
        generators = (source.noise, source.sigma, source.caption)
        return [
            *(float(torch.rand((), generator=g)) for g in generators),
            float(torch.rand(())),
            random.random(),
        ]

    source = Randomness(5, torch.device("cpu"))
    draw(source)
    state = source.state()
    expected = draw(source)
    assert len(set(expected)) == 5
    other = Randomness(6, torch.device("cpu"))
    assert other.load(state)
    assert draw(other) == expected
