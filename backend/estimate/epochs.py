"""What an epoch of a config is made of: shapes and batches, of the real pictures where they are here."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from backend.datasets.errors import DatasetError
from backend.datasets.headers import HeaderError, read_header
from backend.datasets.index import Index
from backend.datasets.scan import scan_all
from backend.datasets.sidecar import SIDECAR
from backend.estimate.flux import TEXT_TOKENS
from backend.trainer.buckets import Bucket, BucketKind, buckets_for, square_bucket
from backend.trainer.budget import batch_sizes, tokens_of
from config.schema import DatasetConfig, ProcessConfig

Sizes = Mapping[tuple[int, int], int]
"""How many pictures there are of a width and a height in pixels, cropped as the sidecar says."""

_REMEMBERED = 8  # folders


@dataclass(frozen=True)
class Part:
    """What is trained in one shape.

    Attributes:
        resolution: The entry of ``datasets.resolution`` that it comes from.
        bucket: The shape.
        samples: In an epoch; a share if nobody knows the pictures.
        pictures: In an average batch.
        share: Of all batches, 0 to 1.
    """

    resolution: int
    bucket: Bucket
    samples: float
    pictures: float
    share: float

    @property
    def length(self) -> int:
        """Tokens of a picture with its text."""
        return tokens_of(self.bucket, TEXT_TOKENS)


@dataclass(frozen=True)
class Plan:
    """An epoch.

    Attributes:
        parts: Its shapes, smallest first.
        pictures: In all datasets; None if a folder cannot be looked at from here.
        counts: The same by dataset.
        batches: In an epoch of what is learned, that is without regularisation pictures.
        learned: Share of all batches that is no regularisation.
        latents: To be computed before training.
        largest: Tokens of the largest batch.
    """

    parts: tuple[Part, ...]
    pictures: int | None
    counts: tuple[int | None, ...]
    batches: float
    learned: float
    latents: float
    largest: int


def plan_of(process: ProcessConfig, *, look: bool = True) -> Plan:
    """What an epoch is made of. Reads the headers of pictures (remembered): call it in a thread.

    Args:
        process: The run.
        look: Whether to look at the pictures; squares of each resolution if not.
    """
    found = [sizes_in(dataset) if look else None for dataset in process.datasets]
    counts = tuple(None if sizes is None else sum(sizes.values()) for sizes in found)
    pictures = None if None in counts else sum(count or 0 for count in counts)
    known = bool(pictures)
    weights: Counter[tuple[bool, int, Bucket]] = Counter()
    latents = 0.0
    for dataset, sizes in zip(process.datasets, found, strict=True):
        views = 2 ** (dataset.flip_x + dataset.flip_y)
        for resolution, bucket, count in _shapes(dataset, sizes if known and sizes is not None else None):
            weights[dataset.is_reg, resolution, bucket] += count * views * dataset.num_repeats
            latents += count * views
    train = process.train
    most = batch_sizes(
        {bucket for _, _, bucket in weights}, train.batch_size, train.token_budget, TEXT_TOKENS
    )
    by_bucket: Counter[tuple[bool, Bucket]] = Counter()
    for (is_reg, _, bucket), count in weights.items():
        by_bucket[is_reg, bucket] += count
    batches = {
        key: math.ceil(count / most[key[1]]) if known else count / most[key[1]]
        for key, count in by_bucket.items()
    }
    totals = {is_reg: sum(n for (reg, _), n in batches.items() if reg is is_reg) for is_reg in (False, True)}
    learned = 1.0 if not totals[True] else 0.5 if totals[False] else 0.0
    parts = []
    for (is_reg, resolution, bucket), count in weights.items():
        here, in_bucket = batches[is_reg, bucket], by_bucket[is_reg, bucket]
        half = (1 - learned) if is_reg else learned
        share = half * here / totals[is_reg] * count / in_bucket
        parts.append(Part(resolution, bucket, count, in_bucket / here if known else most[bucket], share))
    return Plan(
        tuple(sorted(parts, key=lambda part: (part.resolution, part.length, part.bucket))),
        pictures,
        counts,
        totals[False] or totals[True],
        learned,
        latents if known else 0.0,
        max(
            tokens_of(b, TEXT_TOKENS) * (min(most[b], by_bucket[reg, b]) if known else most[b])
            for reg, b in by_bucket
        ),
    )


def _shapes(dataset: DatasetConfig, sizes: Sizes | None) -> Iterator[tuple[int, Bucket, int]]:
    """Resolution, shape, and how many pictures; squares, each once, if nobody knows them."""
    resolutions = tuple(sorted(set(dataset.resolution)))
    if sizes is None:
        yield from ((resolution, square_bucket(resolution), 1) for resolution in resolutions)
        return
    kind: BucketKind = dataset.bucket_algorithm if dataset.buckets else "square"
    for (width, height), count in sizes.items():
        for resolution, bucket in _buckets(width, height, resolutions, kind):
            yield resolution, bucket, count


@lru_cache(maxsize=65536)
def _buckets(
    width: int, height: int, resolutions: tuple[int, ...], kind: BucketKind
) -> Sequence[tuple[int, Bucket]]:
    """A picture's distinct shapes, each with the smallest resolution that leads to it."""
    found: list[tuple[int, Bucket]] = []
    for index, resolution in enumerate(resolutions):
        shapes = buckets_for(width, height, resolutions[: index + 1], kind)
        if len(shapes) > len(found):
            found.append((resolution, shapes[-1]))
    return found


def sizes_in(dataset: DatasetConfig) -> Sizes | None:
    """The pictures of a dataset's folder or manifest that are trained; None if it is not here."""
    path = Path(dataset.folder_path).expanduser()
    extension = "." + dataset.caption_ext.lstrip(".")
    try:
        if path.is_dir():
            return _in_folder(path, extension, _mark(path))
        if path.is_file():
            return _in_manifest(path)
    except (OSError, ValueError, DatasetError):
        pass
    return None


def _mark(folder: Path) -> tuple[tuple[str, int], ...]:
    """Changes when a picture comes or goes, or a sidecar changes."""
    found = []
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.append((here, os.stat(here).st_mtime_ns))
        if SIDECAR in files:
            found.append((SIDECAR, os.stat(os.path.join(here, SIDECAR)).st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=_REMEMBERED)
def _in_folder(folder: Path, extension: str, _mark: tuple[tuple[str, int], ...]) -> Sizes:
    items = scan_all(folder, caption_ext=extension, index=Index(folder, caption_ext=extension)).items
    return Counter(item.size for item in items if item.size is not None and not item.excluded)


def _in_manifest(file: Path) -> Sizes | None:
    data = json.loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(data, dict):
        return None
    sizes: Counter[tuple[int, int]] = Counter()
    for name in data:
        try:
            header = read_header(file.parent / name)
        except (HeaderError, OSError):
            continue
        sizes[header.width, header.height] += 1
    return sizes
