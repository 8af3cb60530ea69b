"""Weights from safetensors files straight to the device, several tensors at a time.

A model is made without memory, then each tensor is read from the file's mapped pages to where it stays.
Reading on several threads keeps a network volume or a fast disk busy, and no second copy of the model is
ever in the computer's memory.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
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


class TransformerReading:
    """A transformer's weights on their way to the device, read by threads until :meth:`model` is asked for.

    The threads only read; the model is put together by who asks for it. For libraries that load other models
    meanwhile patch torch's modules for all threads.

    Args:
        folder: The transformer's, in diffusers format.
        device: Where the weights go.
        dtype: Their number format.

    Attributes:
        nbytes: Of all weights on the device.

    Raises:
        NotDiffusersError: The files hold something else, or are named otherwise.
        Exception: As safetensors raises it: a file is damaged.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        from diffusers import FluxTransformer2DModel

        files = weight_files(folder)
        if not files:
            raise NotDiffusersError
        with torch.device("meta"):
            config = FluxTransformer2DModel.load_config(str(folder))
            self._model: FluxTransformer2DModel = FluxTransformer2DModel.from_config(config)
        wanted = {name: tensor.shape for name, tensor in self._model.state_dict().items()}
        self._device, self._dtype = device, dtype
        self._work: list[tuple[Path, list[str]]] = []
        found: set[str] = set()
        for file in files:
            with safe_open(file, "pt") as opened:
                names = list(opened.keys())
                sizes = {name: torch.Size(opened.get_slice(name).get_shape()) for name in names}
            if any(sizes[name] != wanted.get(name) for name in names):
                raise NotDiffusersError
            found |= set(names)
            self._work += [(file, part) for part in _parts(names, sizes)]
        if found != wanted.keys():
            raise NotDiffusersError
        self.nbytes = sum(shape.numel() for shape in wanted.values()) * dtype.itemsize
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="weights")
        self._parts: list[Future[dict[str, torch.Tensor]]] = []
        self._began = self._ended = 0.0

    @property
    def seconds(self) -> float:
        """How long reading took; what there was of it so far."""
        return (self._ended or time.monotonic()) - self._began if self._began else 0.0

    def start(self) -> None:
        """Begin to read."""
        if not self._parts:
            self._began = time.monotonic()
            self._parts = [self._pool.submit(self._read, *job) for job in self._work]

    def model(self) -> FluxTransformer2DModel:
        """The transformer, waited for.

        Raises:
            Exception: As safetensors or torch raise it: a file is damaged, or memory is full.
        """
        self.start()
        try:
            for part in self._parts:
                self._model.load_state_dict(part.result(), strict=False, assign=True)
        finally:
            self.close()
        return self._model

    def close(self) -> None:
        """End the threads, at the latest after what they are reading, and let go what was read."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._parts = []

    def _read(self, file: Path, names: list[str]) -> dict[str, torch.Tensor]:
        with safe_open(file, "pt") as opened:
            read = {name: _owned(opened.get_tensor(name), self._device, self._dtype) for name in names}
        self._ended = time.monotonic()
        return read


class NotDiffusersError(Exception):
    """The files are not the whole of a transformer in diffusers format."""


def load_transformer(folder: Path, device: torch.device, dtype: torch.dtype) -> FluxTransformer2DModel | None:
    """The transformer in ``folder`` on ``device`` in ``dtype``; None if its files hold something else.

    Raises:
        Exception: As safetensors raises it: a file is damaged.
    """
    try:
        return TransformerReading(folder, device, dtype).model()
    except NotDiffusersError:
        return None


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
