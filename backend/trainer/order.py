"""In which order the data is trained: shuffled epochs of batches that fit together."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch

from backend.trainer.buckets import Bucket
from backend.trainer.rng import derive_seed
from backend.trainer.texts import Texts


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture at one size, as often as it stands in an epoch.

    Attributes:
        bucket: Its shape in pixels.
        latent: Cache key of its latent.
        texts: Cache keys of its texts; it takes them in turn.
        dropped: Cache keys used instead when the caption is dropped.
        dropout: Probability of that.
        mask: Cache key of its mask; None if all of it counts.
        slack: Columns and rows by which its latent is larger than the bucket; the crop is drawn anew
            every epoch.
        turn: With which of its texts it begins; copies of a picture begin with different ones.
        turns: How many copies take turns, that is how far on it is in the next epoch.
        network_weight: The adapter's strength while it trains.
        loss_multiplier: Factor on its loss.
        is_reg: Whether it belongs to a regularisation set.
        prior_reg: Whether it teaches what the base model predicts.
    """

    bucket: Bucket
    latent: str
    texts: tuple[Texts, ...]
    dropped: Texts | None = None
    dropout: float = 0.0
    mask: str | None = None
    slack: tuple[int, int] = (0, 0)
    turn: int = 0
    turns: int = 1
    network_weight: float = 1.0
    loss_multiplier: float = 1.0
    is_reg: bool = False
    prior_reg: bool = False

    @property
    def kind(self) -> tuple[Bucket, float, bool, bool]:
        """What all samples of a batch share."""
        preserves = self.texts[0].preserved is not None
        return self.bucket, self.network_weight, self.prior_reg, preserves


@dataclass(frozen=True, slots=True)
class Draw:
    """A sample as it is trained in one epoch.

    Attributes:
        sample: The sample.
        texts: Cache keys of the texts whose turn it is.
        left: First column of the crop on the latent grid.
        top: First row.
    """

    sample: Sample
    texts: Texts
    left: int = 0
    top: int = 0


class DataOrder:
    """Batches without end, and where in them a run is.

    Regularisation samples have an order of their own. It is used on even steps, except on those that
    end with a save or a sample: as in ai-toolkit, what is saved and seen follows a step of learning.

    Args:
        samples: What there is to train on; at least one that is no regularisation.
        batch_size: Samples a batch.
        seed: The run's training seed.
        saved_every: Steps between saves, and between samples; 0 is never.
        sizes: Samples a batch of the buckets for which that is another number.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        batch_size: int,
        seed: int,
        saved_every: Iterable[int] = (),
        sizes: Mapping[Bucket, int] | None = None,
    ) -> None:
        sizes = dict.fromkeys((sample.bucket for sample in samples), batch_size) | dict(sizes or {})
        learned = [sample for sample in samples if not sample.is_reg]
        kept = [sample for sample in samples if sample.is_reg]
        self._learned = _Epochs(learned, sizes, seed)
        self._kept = _Epochs(kept, sizes, derive_seed(seed, "regularisation")) if kept else None
        self._saved_every = [every for every in saved_every if every]

    def copy(self) -> DataOrder:
        """Another at the same place, which goes on by itself."""
        other = copy(self)
        other._learned = copy(self._learned)
        other._kept = copy(self._kept)
        return other

    @property
    def epoch(self) -> int:
        """Epochs begun, from 1, of what is learned."""
        return self._learned.epoch

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one epoch of what is learned."""
        return self._learned.batches

    def shapes(self) -> Counter[tuple[Bucket, int]]:
        """How many batches of an epoch are of a bucket and so many pictures, all sets together."""
        counted: Counter[tuple[Bucket, int]] = Counter()
        for draws, number in self.examples():
            counted[draws[0].sample.bucket, len(draws)] += number
        return counted

    def examples(self) -> list[tuple[list[Draw], int]]:
        """A batch of each kind that this epoch has, and how many are like it, the most frequent first.

        What makes a kind is all that a recorded pass depends on: shape, number of pictures, masks, weights.
        """
        found: dict[Any, tuple[list[Draw], int]] = {}
        for epochs in (self._learned, self._kept):
            for draws in epochs.batches_of_this() if epochs is not None else ():
                kind = _kind(draws)
                kept, number = found.get(kind, (draws, 0))
                found[kind] = kept, number + 1
        return sorted(found.values(), key=lambda item: -item[1])

    def next_batch(self, step: int = 1) -> list[Draw]:
        """The next batch for the update of number ``step`` (from 1)."""
        if self._kept is not None and self._is_for_regularisation(step):
            return self._kept.next_batch()
        return self._learned.next_batch()

    def _is_for_regularisation(self, step: int) -> bool:
        return step % 2 == 0 and all(step % every for every in self._saved_every)

    def state(self) -> dict[str, Any]:
        """The position, and what it is a position in."""
        kept = self._kept.state() if self._kept is not None else None
        return self._learned.state() | {"regularisation": kept}

    def load(self, state: dict[str, Any]) -> bool:
        """Go on from a saved position.

        Returns:
            False if the data or the batch size changed since: the next epoch begins instead.
        """
        same = self._learned.load(state)
        kept = state.get("regularisation")
        if self._kept is not None and kept is not None:
            return self._kept.load(kept) and same
        return same and self._kept is None and kept is None


class _Epochs:
    """The batches of one set: each epoch shuffles the samples, then groups those of a kind.

    An epoch's order depends on the seed and the epoch's number alone, so a position is two numbers.
    Each picture is seen once an epoch. A kind whose samples do not fill its last batch spreads them over
    batches of at most two sizes (5 by 4 is 3 and 2), so that few shapes occur and no picture counts for
    much more than others; ai-toolkit repeats some instead.
    """

    def __init__(self, samples: Sequence[Sample], sizes: Mapping[Bucket, int], seed: int) -> None:
        self._samples = tuple(samples)
        self._sizes = sizes
        self._seed = seed
        self.epoch = 1
        self._position = 0
        self._batches = self._shuffled(1)
        self._data = self._fingerprint()

    @property
    def batches(self) -> int:
        return len(self._batches)

    def next_batch(self) -> list[Draw]:
        if self._position == len(self._batches):
            self.epoch += 1
            self._position = 0
            self._batches = self._shuffled(self.epoch)
        batch = self._batches[self._position]
        self._position += 1
        return [self._draw(index) for index in batch]

    def batches_of_this(self) -> Iterator[list[Draw]]:
        """All batches of the present epoch; the position stays."""
        for batch in self._batches:
            yield [self._draw(index) for index in batch]

    def _draw(self, index: int) -> Draw:
        sample = self._samples[index]
        texts = sample.texts[(sample.turn + (self.epoch - 1) * sample.turns) % len(sample.texts)]
        columns, rows = sample.slack
        if not columns and not rows:
            return Draw(sample, texts)
        place = derive_seed(self._seed, "crop", self.epoch, index)
        rest, left = divmod(place, columns + 1)
        return Draw(sample, texts, left, rest % (rows + 1))

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
        by_kind: dict[tuple[Bucket, float, bool, bool], list[int]] = {}
        for index in torch.randperm(len(self._samples), generator=generator).tolist():
            by_kind.setdefault(self._samples[index].kind, []).append(index)
        batches = [batch for kind in sorted(by_kind) for batch in _even(by_kind[kind], self._sizes[kind[0]])]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def state(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self._position, "data": self._data}

    def load(self, state: dict[str, Any]) -> bool:
        same = bool(state["data"] == self._data)
        self.epoch = int(state["epoch"]) + (not same)
        self._batches = self._shuffled(self.epoch)
        self._position = int(state["position"]) if same else 0
        return same

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self._seed).encode())
        for sample in self._samples:
            # Not all its texts: a run that is given more steps may use more of a caption's variants.
            digest.update(
                f"|{sample.bucket} {self._sizes[sample.bucket]} {sample.latent} {sample.texts[0]} "
                f"{sample.dropped} {sample.dropout} {sample.mask} {sample.slack} {sample.network_weight} "
                f"{sample.loss_multiplier} {sample.prior_reg}".encode()
            )
        return digest.hexdigest()


def _kind(draws: Sequence[Draw]) -> tuple[Any, ...]:
    samples = [draw.sample for draw in draws]
    masked = any(sample.mask is not None for sample in samples)
    weighed = any(sample.loss_multiplier != 1.0 for sample in samples)
    return len(draws), samples[0].kind, samples[0].is_reg, masked, weighed


def _even(indices: list[int], size: int) -> Iterator[list[int]]:
    """``indices`` in as few batches of at most ``size`` as there can be, as even as they can be."""
    count = -(-len(indices) // size)
    for number in range(count):
        yield indices[number * len(indices) // count : (number + 1) * len(indices) // count]
