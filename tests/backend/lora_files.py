"""LoRA files made up for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backend.lora.file import Tensor, write_lora
from backend.lora.naming import Architecture, Dialect, Layer
from backend.lora.number_formats import FORMATS, Bits, encode

SMALL = Architecture(
    double_blocks=1, single_blocks=2, width=8, in_channels=4, out_channels=4, text_width=6, pooled_width=5
)


def tensor(values: np.ndarray, dtype: str = "F32") -> Tensor:
    number = FORMATS[dtype]
    return Tensor.of(encode(np.asarray(values, np.float64), number), number)


def adapter(
    rng: np.random.Generator, rows: int, columns: int, rank: int = 2, dtype: str = "F16"
) -> tuple[Tensor, Tensor]:
    return tensor(rng.normal(size=(rank, columns)), dtype), tensor(rng.normal(size=(rows, rank)), dtype)


def block_layers(architecture: Architecture) -> list[Layer]:
    return [layer for layer in architecture.layers() if "_blocks." in layer.name]


def diffusers_tensors(
    architecture: Architecture = SMALL, *, rank: int = 2, dtype: str = "F16", seed: int = 0
) -> dict[str, Tensor]:
    """A LoRA on all layers of all blocks, as our trainer writes it."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in block_layers(architecture):
        for index, part in enumerate(layer.parts):
            module = layer.module(Dialect.DIFFUSERS, index)
            down, up = adapter(rng, part.rows, layer.columns, rank, dtype)
            found[f"{module}.lora_A.weight"], found[f"{module}.lora_B.weight"] = down, up
    return found


def kohya_tensors(
    architecture: Architecture = SMALL,
    *,
    rank: int = 2,
    alpha: float = 1.0,
    dtype: str = "F16",
    seed: int = 0,
    names: Dialect = Dialect.KOHYA,
    suffixes: tuple[str, str] = ("lora_down", "lora_up"),
) -> dict[str, Tensor]:
    """A LoRA on all layers of all blocks, as kohya's trainer writes it: dense."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in block_layers(architecture):
        module = layer.module(names)
        down, up = adapter(rng, layer.rows, layer.columns, rank, dtype)
        found[f"{module}.{suffixes[0]}.weight"], found[f"{module}.{suffixes[1]}.weight"] = down, up
        found[f"{module}.alpha"] = tensor(np.array(alpha), dtype)
    return found


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    write_lora(path, tensors, metadata or {})
    return path


def all_bits(tensors: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        key: (found.number.name, found.shape, np.ascontiguousarray(found.bits()).tobytes())
        for key, found in tensors.items()
    }


def same(left: Bits, right: Bits) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()
