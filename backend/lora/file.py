"""Reading and writing LoRA files: the safetensors format, number by number as it is on disk.

The format is an 8-byte length, a JSON header, and the tensors' bytes (README of the safetensors
project). The library's numpy reader knows neither bfloat16 nor float8, and its writer builds the
whole file in memory; here a tensor is read when it is asked for, and written before the next is.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np

from backend.files import atomic_file
from backend.lora.number_formats import FORMATS, Bits, NumberFormat, Values, decode

_HEADER_LIMIT = 100_000_000  # the format's own
_LEGACY_HASH = slice(0x100000, 0x110000)  # the bytes of a file that the old hash covers
_HASHES = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "0" * 8}


class LoraError(Exception):
    """A file that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that is loaded when it is asked for.

    Attributes:
        number: How its numbers are stored.
        shape: Its shape.
        load: Reads or computes its bits.
    """

    number: NumberFormat
    shape: tuple[int, ...]
    load: Callable[[], Bits]

    @classmethod
    def of(cls, bits: Bits, number: NumberFormat) -> Tensor:
        """A tensor that is in memory already."""
        return cls(number, bits.shape, lambda: bits)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def bits(self) -> Bits:
        """Its numbers' bits, in its shape."""
        return self.load().reshape(self.shape)

    def values(self) -> Values:
        """Its numbers."""
        return decode(self.bits(), self.number)

    def item(self) -> float:
        """The one number of a tensor that has only one, such as an alpha.

        Raises:
            LoraError: It has more, or is no number.
        """
        if self.size != 1:
            raise LoraError(f"an alpha has the shape {list(self.shape)} instead of one number")
        if self.number.is_float:
            return float(self.values().reshape(()))
        if self.number.name[0] in "IU":
            signed = self.number.name[0].lower()
            return float(self.bits().view(f"<{signed}{self.number.size}").reshape(()))
        raise LoraError(f"an alpha is stored as {self.number.name}")


@dataclass(frozen=True)
class LoraFile:
    """A safetensors file's header, and access to its tensors.

    Attributes:
        path: Where it is.
        size: Bytes.
        tensors: By key.
        metadata: The header's strings.
    """

    path: Path
    size: int
    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_lora(path: Path) -> LoraFile:
    """Read a file's header; the tensors are read when they are asked for.

    Raises:
        LoraError: It is no complete and valid safetensors file.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if size == 0:
            raise LoraError(f"{path} is empty; it may be the rest of an interrupted download or copy")
        if len(start) < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise LoraError(f"{path} is not a safetensors file, or is cut off within its header")
        text = file.read(length)
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise LoraError(f"{path} is not a safetensors file: its header is not readable")
    metadata = _checked_metadata(path, header.pop("__metadata__", None))
    data = 8 + length
    tensors, end = {}, 0
    places: list[tuple[int, int]] = []
    for key, entry in header.items():
        number, shape, begin, stop = _checked_entry(path, key, entry)
        places.append((begin, stop))
        end = max(end, stop)
        tensors[key] = Tensor(number, shape, _reader(path, data + begin, number, shape))
    if data + end > size:
        missing = data + end - size
        raise LoraError(f"{path} is cut off: {missing:,} bytes of its tensors are missing; copy it again")
    if data + end < size:
        raise LoraError(f"{path} is damaged: {size - data - end:,} bytes after the last tensor")
    ordered = sorted(places)
    if any(left[1] != right[0] for left, right in itertools.pairwise(ordered)) or (
        ordered and ordered[0][0] != 0
    ):
        raise LoraError(f"{path} is damaged: its tensors overlap or leave gaps")
    return LoraFile(path, size, tensors, metadata)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _checked_metadata(path: Path, metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise LoraError(f"{path} is damaged: its metadata is not made of strings")
    if not _is_text("".join([*metadata, *metadata.values()])):
        raise LoraError(f"{path} is damaged: its metadata is not text")
    return metadata


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write and UTF-8 cannot
        return False
    return True


def _checked_entry(path: Path, key: str, entry: Any) -> tuple[NumberFormat, tuple[int, ...], int, int]:
    damaged = LoraError(f"{path} is damaged: the entry of a tensor in its header makes no sense")
    if not isinstance(entry, dict) or not _is_text(key):
        raise damaged
    name, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(name, str) or not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise damaged
    number = FORMATS.get(name)
    if number is None:
        raise LoraError(f"{path} has numbers of the format {name[:20]!a}, which is not known here")
    begin, stop = offsets
    if stop - begin != math.prod(shape) * number.size:
        raise damaged
    return number, tuple(shape), begin, stop


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 1 << 62 for size in value)


def _reader(path: Path, offset: int, number: NumberFormat, shape: tuple[int, ...]) -> Callable[[], Bits]:
    count = math.prod(shape)

    def load() -> Bits:
        bits: Bits = np.fromfile(path, number.bits, count, offset=offset)
        if bits.size != count:
            raise LoraError(f"{path} became shorter while it was read")
        return bits.reshape(shape)

    return load


def write_lora(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file atomically, tensor by tensor, with its identity hashes.

    Args:
        path: The file, replaced if there is one.
        tensors: By key. They are stored as the safetensors library would: the widest numbers first.
        metadata: Strings; ``sshs_model_hash``, ``sshs_legacy_hash`` and, if it is there,
            ``modelspec.hash_sha256`` are computed anew. They are the hashes that kohya's sd-scripts
            store: SHA-256 of the tensors' bytes, and the first 8 digits of the SHA-256 of 64 KiB of
            the file as it would be with only its ``ss_`` metadata.

    Raises:
        OSError: It cannot be written; nothing has changed.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].number.size, name))
    ordered = {name: tensors[name] for name in names}
    strings = {**metadata, **_HASHES}
    if "modelspec.hash_sha256" in strings:
        strings["modelspec.hash_sha256"] = "0x" + "0" * 64
    position = len(_header(ordered, {key: text for key, text in metadata.items() if key.startswith("ss_")}))
    whole, legacy = hashlib.sha256(), hashlib.sha256()
    with atomic_file(path) as file:
        # Hashes are in front of what they are made of: their places are kept and filled in at the end.
        file.write(_header(ordered, strings))
        for tensor in ordered.values():
            data = np.ascontiguousarray(tensor.bits()).reshape(-1).view(np.uint8).data
            file.write(data)
            whole.update(data)
            legacy.update(data[max(0, _LEGACY_HASH.start - position) : max(0, _LEGACY_HASH.stop - position)])
            position += len(data)
        strings |= {"sshs_model_hash": whole.hexdigest(), "sshs_legacy_hash": legacy.hexdigest()[:8]}
        if "modelspec.hash_sha256" in strings:
            strings["modelspec.hash_sha256"] = f"0x{whole.hexdigest()}"
        file.seek(0)
        file.write(_header(ordered, strings))


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """What comes before the data, its length included."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.size * tensor.number.size
        entries[name] = {
            "dtype": tensor.number.name,
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    return len(text).to_bytes(8, "little") + text
