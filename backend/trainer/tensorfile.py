"""Writing safetensors files piece by piece, and nested values with tensors in them.

The library's own writers either build the whole file in memory, which doubles it, or open a path
themselves, which rules out :func:`backend.files.atomic_file`. The format is an 8-byte length, a JSON
header, and the tensors' bytes (https://github.com/huggingface/safetensors, README). Reading is left
to the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_TENSOR, _PAIRS = "$tensor", "$pairs"

Tensors = Mapping[str, torch.Tensor]


def header_bytes(tensors: Tensors, metadata: Mapping[str, str]) -> bytes:
    """What comes before the data, length included; tensors stand in the order of their names."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        end = offset + tensor.nbytes
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # so that the data is aligned
    return len(text).to_bytes(8, "little") + text


def data_chunks(tensors: Tensors) -> Iterator[memoryview]:
    """The bytes of the tensors in the order of their names."""
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


def write_tensors(file: IO[bytes], tensors: Tensors, metadata: Mapping[str, str]) -> int:
    """Write a safetensors file; returns its size in bytes.

    Raises:
        OSError: The disk is full or gone.
    """
    header = header_bytes(tensors, metadata)
    size = file.write(header)
    for chunk in data_chunks(tensors):
        size += file.write(chunk)
    return size


def size_of(tensors: Tensors) -> int:
    """Bytes of the tensors' data."""
    return sum(tensor.nbytes for tensor in tensors.values())


def split_tensors(value: Any) -> tuple[str, dict[str, torch.Tensor]]:
    """A nested value of dicts, lists, plain values and tensors as JSON text and named tensors."""
    tensors: dict[str, torch.Tensor] = {}

    def split(item: Any, path: str) -> Any:
        if isinstance(item, torch.Tensor):
            tensors[path] = item
            return {_TENSOR: path}
        if isinstance(item, Mapping):
            if all(isinstance(key, str) for key in item):
                return {key: split(inner, f"{path}/{key}") for key, inner in item.items()}
            return {_PAIRS: [[key, split(inner, f"{path}/{key}")] for key, inner in item.items()]}
        if isinstance(item, list | tuple):
            return [split(inner, f"{path}/{index}") for index, inner in enumerate(item)]
        return item

    return json.dumps(split(value, "")), tensors


def join_tensors(text: str, tensors: Tensors) -> Any:
    """The inverse of :func:`split_tensors` (tuples come back as lists)."""

    def join(item: Any) -> Any:
        if isinstance(item, list):
            return [join(inner) for inner in item]
        if not isinstance(item, dict):
            return item
        if item.keys() == {_TENSOR}:
            return tensors[item[_TENSOR]]
        if item.keys() == {_PAIRS}:
            return {key: join(inner) for key, inner in item[_PAIRS]}
        return {key: join(inner) for key, inner in item.items()}

    return join(json.loads(text))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, as copies that leave the file free.

    Raises:
        OSError: It cannot be read.
        safetensors.SafetensorError: It is damaged.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
