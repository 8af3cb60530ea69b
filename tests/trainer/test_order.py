from __future__ import annotations

import json
from collections import Counter

import torch

from backend.trainer.buckets import Bucket
from backend.trainer.budget import batch_sizes
from backend.trainer.order import DataOrder, Sample
from backend.trainer.rng import Randomness, derive_seed
from backend.trainer.texts import Texts

SQUARE, WIDE = Bucket(64, 64), Bucket(96, 64)
TEXTS = (Texts("t"),)


def samples(square: int, wide: int) -> list[Sample]:
    return [Sample(SQUARE, f"s{i}", TEXTS) for i in range(square)] + [
        Sample(WIDE, f"w{i}", TEXTS) for i in range(wide)
    ]


def take(order: DataOrder, count: int) -> list[list[str]]:
    return [[draw.sample.latent for draw in order.next_batch()] for _ in range(count)]


def test_each_epoch_shows_every_picture_once_in_even_batches_of_one_bucket() -> None:
    order = DataOrder(samples(5, 3), 2, seed=1)
    assert order.batches_per_epoch == 5
    for epoch in (1, 2, 3):
        batches = take(order, 5)
        assert order.epoch == epoch
        assert all(len({name[0] for name in batch}) == 1 for batch in batches)
        assert sorted(map(len, batches)) == [1, 1, 2, 2, 2]
        counts = Counter(name for batch in batches for name in batch)
        assert len(counts) == 8
        assert set(counts.values()) == {1}


def test_batches_that_cannot_be_full_are_even() -> None:
    order = DataOrder(samples(9, 0), 4, seed=1)
    assert sorted(map(len, take(order, 3))) == [3, 3, 3]
    assert take(DataOrder(samples(1, 0), 4, seed=1), 2) == [["s0"]] * 2


def test_each_bucket_may_have_a_batch_size_of_its_own() -> None:
    order = DataOrder(samples(6, 2), 1, seed=1, sizes={SQUARE: 3})
    assert sorted((len(batch), batch[0][0]) for batch in take(order, 4)) == [
        (1, "w"),
        (1, "w"),
        (3, "s"),
        (3, "s"),
    ]
    again = DataOrder(samples(6, 2), 1, seed=1)
    assert not again.load(order.state())  # other batches: a new epoch


def test_a_budget_of_tokens_makes_small_pictures_share_a_batch() -> None:
    small, medium, large = Bucket(512, 512), Bucket(768, 768), Bucket(1024, 1024)
    buckets = (small, medium, large)
    assert batch_sizes(buckets, 1, "auto", 512) == {small: 3, medium: 1, large: 1}
    assert batch_sizes(buckets, 1, 4608, 512) == {small: 3, medium: 1, large: 1}
    assert batch_sizes(buckets, 2, "auto", 512) == {small: 6, medium: 3, large: 2}
    assert batch_sizes(buckets, 1, 0, 512) == dict.fromkeys(buckets, 1)
    assert batch_sizes(buckets, 2, 100, 512) == dict.fromkeys(buckets, 2)  # never less than batch_size


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


def test_a_batch_is_of_one_strength_and_one_target() -> None:
    mixed = [
        Sample(SQUARE, f"{weight} {prior}", TEXTS, network_weight=weight, prior_reg=prior)
        for weight in (1.0, 0.5)
        for prior in (False, True)
        for _ in range(3)
    ]
    order = DataOrder(mixed, 2, seed=1)
    assert order.batches_per_epoch == 8
    for batch in take(order, 8):
        assert len(set(batch)) == 1


def test_a_batch_preserves_all_its_texts_or_none() -> None:
    mixed = [Sample(SQUARE, "kept", (Texts("t", "p"),)) for _ in range(3)] + samples(3, 0)
    for batch in take(DataOrder(mixed, 2, seed=1), 4):
        assert len({name == "kept" for name in batch}) == 1


def test_texts_are_taken_in_turn_by_all_copies() -> None:
    texts = tuple(Texts(str(number)) for number in range(5))
    copies = [Sample(SQUARE, "a", texts, turn=turn, turns=2) for turn in range(2)]
    order = DataOrder(copies, 1, seed=1)
    epochs = [{order.next_batch()[0].texts.trained for _ in copies} for _ in range(5)]
    assert epochs == [{"0", "1"}, {"2", "3"}, {"4", "0"}, {"1", "2"}, {"3", "4"}]


def test_more_variants_of_a_text_are_no_other_data() -> None:
    short = [Sample(SQUARE, "a", tuple(Texts(str(number)) for number in range(3)))]
    long = [Sample(SQUARE, "a", tuple(Texts(str(number)) for number in range(9)))]
    one, other = DataOrder(short, 1, seed=1), DataOrder(long, 1, seed=1)
    drawn = [one.next_batch()[0].texts for _ in range(3)]
    assert drawn == [other.next_batch()[0].texts for _ in range(3)]
    assert DataOrder(long, 1, seed=1).load(one.state())
    changed = [Sample(SQUARE, "a", (Texts("x"),))]
    assert not DataOrder(changed, 1, seed=1).load(one.state())


def crops(seed: int, count: int, slack: tuple[int, int] = (3, 1)) -> list[tuple[int, int]]:
    order = DataOrder([Sample(SQUARE, "a", TEXTS, slack=slack)], 1, seed=seed)
    return [(draw.left, draw.top) for _ in range(count) for draw in order.next_batch()]


def test_the_crop_is_drawn_every_epoch_over_the_whole_slack() -> None:
    drawn = crops(1, 400)
    assert drawn == crops(1, 400) != crops(2, 400)
    counts = Counter(drawn)
    assert set(counts) == {(left, top) for left in range(4) for top in range(2)}
    assert min(counts.values()) > 25  # 50 expected; 25 is 3.8 standard deviations below
    assert set(crops(1, 5, slack=(0, 0))) == {(0, 0)}


def test_regularisation_comes_on_even_steps_but_never_before_a_save_or_sample() -> None:
    data = [Sample(SQUARE, f"s{i}", TEXTS) for i in range(4)]
    data += [Sample(SQUARE, f"r{i}", TEXTS, is_reg=True) for i in range(3)]
    order = DataOrder(data, 1, seed=1, saved_every=(6, 0, 10))
    drawn = {step: order.next_batch(step)[0].sample for step in range(1, 31)}
    kept = [step for step, sample in drawn.items() if sample.is_reg]
    assert kept == [2, 4, 8, 14, 16, 22, 26, 28]
    assert len({drawn[step].latent for step in kept[:3]}) == 3  # an epoch of its own
    learned = [sample.latent for sample in drawn.values() if not sample.is_reg]
    alone = DataOrder(data[:4], 1, seed=1)
    assert learned == [batch[0] for batch in take(alone, len(learned))]
    assert order.batches_per_epoch == 4
    assert order.epoch == alone.epoch


def test_both_positions_can_be_taken_up_again() -> None:
    data = [Sample(SQUARE, f"s{i}", TEXTS) for i in range(3)]
    data += [Sample(SQUARE, f"r{i}", TEXTS, is_reg=True, slack=(9, 9)) for i in range(4)]
    straight_order = DataOrder(data, 1, seed=5)
    straight = [straight_order.next_batch(step) for step in range(1, 21)]
    for done in range(20):
        order = DataOrder(data, 1, seed=5)
        for step in range(1, done + 1):
            order.next_batch(step)
        again = DataOrder(data, 1, seed=5)
        assert again.load(json.loads(json.dumps(order.state())))
        assert [again.next_batch(step) for step in range(done + 1, 21)] == straight[done:]
    assert not DataOrder(data[:3], 1, seed=5).load(straight_order.state())
    assert not DataOrder([*data, data[-1]], 1, seed=5).load(straight_order.state())


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
