"""In which order the data is trained: shuffled epochs of single-bucket batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.trainer.buckets import Bucket
from backend.trainer.rng import derive_seed


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture at one size, as often as it stands in an epoch.

    Attributes:
        bucket: Its shape in pixels.
        latent: Cache key of its latent.
        text: Cache key of its caption's embeddings.
        dropped: Cache key used instead when the caption is dropped.
        dropout: Probability of that.
    """

    bucket: Bucket
    latent: str
    text: str
    dropped: str | None = None
    dropout: float = 0.0


class DataOrder:
    """Batches without end: each epoch shuffles the samples, then groups them by bucket.

    An epoch's order depends on the seed and the epoch's number alone, so a position is two numbers.
    A bucket whose samples do not fill its last batch repeats its first ones (as ai-toolkit does):
    batches keep one size, and each picture is seen at least once an epoch.

    Args:
        samples: What there is to train on; at least one.
        batch_size: Samples a batch.
        seed: The run's training seed.
    """

    def __init__(self, samples: Sequence[Sample], batch_size: int, seed: int) -> None:
        self._samples = tuple(samples)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 1
        self._position = 0
        self._batches = self._shuffled(1)
        self._data = self._fingerprint()

    @property
    def epoch(self) -> int:
        """Epochs begun, from 1."""
        return self._epoch

    @property
    def batches_per_epoch(self) -> int:
        """Batches in one epoch."""
        return len(self._batches)

    def next_batch(self) -> list[Sample]:
        """The next batch: ``batch_size`` samples of one bucket."""
        if self._position == len(self._batches):
            self._epoch += 1
            self._position = 0
            self._batches = self._shuffled(self._epoch)
        batch = self._batches[self._position]
        self._position += 1
        return [self._samples[index] for index in batch]

    def _shuffled(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, "order", epoch))
        by_bucket: dict[Bucket, list[int]] = {}
        for index in torch.randperm(len(self._samples), generator=generator).tolist():
            by_bucket.setdefault(self._samples[index].bucket, []).append(index)
        batches = [
            batch for bucket in sorted(by_bucket) for batch in _full(by_bucket[bucket], self._batch_size)
        ]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def state(self) -> dict[str, Any]:
        """The position, and what it is a position in."""
        return {"epoch": self._epoch, "position": self._position, "data": self._data}

    def load(self, state: dict[str, Any]) -> bool:
        """Go on from a saved position.

        Returns:
            False if the data or the batch size changed since: the next epoch begins instead.
        """
        same = bool(state["data"] == self._data)
        self._epoch = int(state["epoch"]) + (not same)
        self._batches = self._shuffled(self._epoch)
        self._position = int(state["position"]) if same else 0
        return same

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self._batch_size} {self._seed}".encode())
        for sample in self._samples:
            digest.update(f"|{sample}".encode())
        return digest.hexdigest()


def _full(indices: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(indices), size):
        batch = indices[start : start + size]
        missing = size - len(batch)
        yield batch + [indices[i % len(indices)] for i in range(missing)]
