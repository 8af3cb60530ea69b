"""Pictures that are the same, byte for byte or to the eye."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backend.datasets.errors import DatasetError, reason
from backend.datasets.index import Index
from backend.datasets.scan import Item

NEAR = 4  # bits of 64 that may differ
_COLOUR = 24  # levels of 256 by which mean colours may differ
_BITS = 64
_MOST = 64_000_000  # pixels that are decoded for it, at the fraction that the format offers: 192 MB
_SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations that swap the sides


class Fingerprint(NamedTuple):
    """What a picture looks like.

    Attributes:
        gradient: The difference hash (dHash, N. Krawetz): 64 bits, whether brightness falls from each of
            9 columns to the next in 8 rows.
        red: Mean red, 0..255; with green and blue it tells flat pictures of different colours apart.
        green: Mean green.
        blue: Mean blue.
    """

    gradient: int
    red: int
    green: int
    blue: int

    def __str__(self) -> str:
        return f"{self.gradient:016x}{self.red:02x}{self.green:02x}{self.blue:02x}"

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """The fingerprint that ``str`` wrote."""
        return cls(int(text[:16], 16), int(text[16:18], 16), int(text[18:20], 16), int(text[20:22], 16))

    def near(self, other: Fingerprint, distance: int = NEAR) -> bool:
        """Whether the pictures look alike."""
        return (self.gradient ^ other.gradient).bit_count() <= distance and all(
            abs(a - b) <= _COLOUR for a, b in zip(self[1:], other[1:], strict=True)
        )


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of pictures that are the same, each sorted by name.

    Attributes:
        exact: The same file more than once.
        near: The same to the eye (scaled, saved again, slightly changed), and not the same file.
    """

    exact: tuple[tuple[str, ...], ...] = ()
    near: tuple[tuple[str, ...], ...] = ()


def fingerprint(path: Path) -> Fingerprint:
    """What a picture looks like; a JPEG is decoded at an eighth of its size.

    Raises:
        DatasetError: It cannot be decoded, or is too large to be; the message is a clause without the path.
    """
    from PIL import ExifTags, Image, ImageOps

    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as file:
            file.draft("RGB", (72, 64))
            if file.width * file.height > _MOST:
                raise DatasetError("has too many pixels to be compared")
            file.load()
            # Made small before it is turned: a large picture must not be copied.
            shape = (8, 9) if file.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS else (9, 8)
            whole = file if file.mode in ("RGB", "L") else file.convert("RGB")
            small = ImageOps.exif_transpose(whole.resize(shape, Image.Resampling.BOX)).convert("RGB")
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(f"cannot be read ({reason(error)})") from None
    except Exception as error:
        raise DatasetError(f"is damaged ({str(error) or type(error).__name__})") from None
    grey = small.convert("L").tobytes()
    bits = 0
    for row in range(8):
        for column in range(8):
            bits = bits << 1 | (grey[row * 9 + column] > grey[row * 9 + column + 1])
    mean = small.resize((1, 1), Image.Resampling.BOX).tobytes()
    return Fingerprint(bits, *mean)


def near_groups(prints: Mapping[str, Fingerprint], distance: int = NEAR) -> list[tuple[str, ...]]:
    """Groups of pictures that look alike, joined through what they have in common.

    Two hashes that differ in at most ``distance`` bits agree on at least one of ``distance + 1`` bands of
    bits, so only those that share a band are compared.
    """
    same: dict[Fingerprint, list[str]] = defaultdict(list)
    for name, value in prints.items():
        same[value].append(name)
    values = list(same)
    parent = list(range(len(values)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    bands = distance + 1
    edges = [(band * _BITS // bands, (band + 1) * _BITS // bands) for band in range(bands)]
    for low, high in edges:
        shared: dict[int, list[int]] = defaultdict(list)
        mask = (1 << (high - low)) - 1
        for index, value in enumerate(values):
            shared[value.gradient >> low & mask].append(index)
        for members in shared.values():
            for position, first in enumerate(members):
                for second in members[position + 1 :]:
                    one, other = root(first), root(second)
                    if one != other and values[first].near(values[second], distance):
                        parent[other] = one
    groups: dict[int, list[str]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[root(index)] += same[value]
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def find_duplicates(
    items: Sequence[Item],
    *,
    index: Index | None = None,
    near: bool = True,
    cancelled: Callable[[], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Duplicates:
    """Look for pictures that are the same. Decodes every picture that the index does not know.

    Args:
        items: The pictures; unreadable ones are passed over.
        index: Remembers hashes.
        near: Whether to look for pictures that only look alike, too.
        cancelled: Asked now and then; what was found so far is returned if it says so.
        progress: Told how many pictures of how many have been looked at.
    """
    readable = [item for item in items if item.header is not None]
    stop = cancelled or (lambda: False)
    exact = _exact(readable, index, stop)
    if not near or stop():
        return Duplicates(tuple(exact))
    known = index.hashes(readable, "perceptual") if index is not None else {}
    prints: dict[str, Fingerprint] = {}
    fresh: dict[str, str] = {}
    for done, item in enumerate(readable):
        if stop():
            break
        if progress is not None:
            progress(done, len(readable))
        text = known.get(item.name)
        if text is None:
            with contextlib.suppress(DatasetError):
                text = fresh[item.name] = str(fingerprint(item.path))
        if text is not None:
            value = Fingerprint.parse(text)
            if value.gradient:  # flat pictures have nothing to compare
                prints[item.name] = value
    if index is not None and fresh:
        index.store_hashes(fresh, readable, "perceptual")
    # Of files that are equal one stands for all, so that a near group has something else in it.
    for group in exact:
        for name in group[1:]:
            prints.pop(name, None)
    return Duplicates(tuple(exact), tuple(near_groups(prints)))


def _exact(items: Sequence[Item], index: Index | None, stop: Callable[[], bool]) -> list[tuple[str, ...]]:
    sizes: dict[int, list[Item]] = defaultdict(list)
    for item in items:
        sizes[item.bytes].append(item)
    candidates = [item for group in sizes.values() if len(group) > 1 for item in group]
    known = index.hashes(candidates, "content") if index is not None else {}
    fresh: dict[str, str] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for item in candidates:
        if stop():
            return []
        digest = known.get(item.name)
        if digest is None:
            with contextlib.suppress(OSError), item.path.open("rb") as file:
                digest = fresh[item.name] = hashlib.file_digest(file, "sha256").hexdigest()
        if digest is not None:
            groups[digest].append(item.name)
    if index is not None and fresh:
        index.store_hashes(fresh, candidates, "content")
    return sorted(tuple(sorted(names)) for names in groups.values() if len(names) > 1)
