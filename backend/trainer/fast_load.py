"""Weights from safetensors files straight to the device, several tensors at a time.

A model is made without memory, then each tensor is read from the file's mapped pages to where it stays.
Reading on several threads keeps a network volume or a fast disk busy, and no second copy of the model is
ever in the computer's memory.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from backend.files import read_json

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

_NAME = "diffusion_pytorch_model.safetensors"
_READERS = 8
_CHUNK = 256 << 20  # bytes of tensors that one reader takes at a time


def weight_files(folder: Path) -> list[Path]:
    """The files of a part in diffusers format, one or several shards; none if they are named otherwise."""
    if (folder / _NAME).is_file():
        return [folder / _NAME]
    index = read_json(folder / f"{_NAME}.index.json")
    shards = index.get("weight_map") if isinstance(index, dict) else None
    files = sorted({folder / str(name) for name in shards.values()}) if isinstance(shards, dict) else []
    return files if all(file.is_file() for file in files) else []


def load_transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> FluxTransformer2DModel | None:
    """The transformer in ``folder`` on ``device`` in ``dtype``; None if its files hold something else.

    Raises:
        Exception: As safetensors raises it: a file is damaged.
    """
    from diffusers import FluxTransformer2DModel

    files = weight_files(folder)
    if not files:
        return None
    with torch.device("meta"):
        config = FluxTransformer2DModel.load_config(str(folder))
        model: FluxTransformer2DModel = FluxTransformer2DModel.from_config(config)
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    work: list[tuple[Path, list[str]]] = []
    found: set[str] = set()
    for file in files:
        with safe_open(file, "pt") as opened:
            names = list(opened.keys())
            sizes = {name: torch.Size(opened.get_slice(name).get_shape()) for name in names}
        if any(sizes[name] != wanted.get(name) for name in names):
            return None
        found |= set(names)
        work += [(file, part) for part in _parts(names, sizes)]
    if found != wanted.keys():
        return None

    def read(job: tuple[Path, list[str]]) -> dict[str, torch.Tensor]:
        file, names = job
        with safe_open(file, "pt") as opened:
            return {name: _owned(opened.get_tensor(name), device, dtype) for name in names}

    with ThreadPoolExecutor(_READERS) as pool:
        for tensors in pool.map(read, work):
            model.load_state_dict(tensors, strict=False, assign=True)
    return model


def _owned(tensor: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """On the device, and no view of the file any more, which may be replaced."""
    moved = tensor.to(device=device, dtype=dtype)
    return moved.clone() if moved.data_ptr() == tensor.data_ptr() else moved


def _parts(names: list[str], sizes: dict[str, torch.Size]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    held = 0
    for name in names:
        if held > _CHUNK:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += sizes[name].numel() * 2
    return parts
