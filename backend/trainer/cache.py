"""Computed once, kept on disk: latents and text embeddings under keys made of their content."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from backend.files import atomic_file
from backend.trainer.errors import TrainingError, disk_full, is_disk_full

Entry = dict[str, torch.Tensor]

_RAM_SHARE = 0.25  # of the memory free at the start
_CGROUP = Path("/sys/fs/cgroup")  # a container's own limit; psutil sees the whole machine
_CGROUP_FILES = ("memory.max", "memory.current")


def content_key(*parts: object) -> str:
    """A key of 64 hex digits for what ``parts`` (in order) determine."""
    digest = hashlib.sha256()
    for part in parts:
        text = str(part).encode("utf-8", "surrogatepass")
        digest.update(f"{len(text)}:".encode() + text)
    return digest.hexdigest()


def free_memory_here() -> int:
    """Bytes of memory that are free now, in this container if it is one."""
    free = psutil.virtual_memory().available
    try:
        most, used = ((_CGROUP / name).read_text(encoding="ascii") for name in _CGROUP_FILES)
        free = min(free, int(most) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return max(0, free)


@dataclass
class RamBudget:
    """Bytes that caches may keep in memory."""

    left: int

    @classmethod
    def of_this_machine(cls) -> RamBudget:
        """A quarter of the memory that is free now, in this container if it is one."""
        return cls(int(free_memory_here() * _RAM_SHARE))

    def take(self, count: int) -> bool:
        """Reserve ``count`` bytes if there are that many left."""
        if count > self.left:
            return False
        self.left -= count
        return True


class TensorCache:
    """Named tensors under content keys: a safetensors file each, and in memory while the budget lasts.

    A damaged file counts as missing, and is computed again. Several processes may share the folder:
    files appear whole, and equal keys mean equal content.

    Args:
        folder: Where the files are; made when needed.
        ram: Budget for entries in memory, may be shared with other caches.
    """

    def __init__(self, folder: Path, ram: RamBudget) -> None:
        self._folder = folder
        self._ram = ram
        self._kept: dict[str, Entry] = {}
        self._lock = threading.Lock()  # batches are put together in a thread

    def path(self, key: str) -> Path:
        """The file of an entry."""
        return self._folder / key[:2] / f"{key}.safetensors"

    def find(self, key: str) -> Entry | None:
        """The entry, or None if it was never stored or its file is damaged."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        path = self.path(key)
        try:
            entry: Entry = load_file(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        self._keep(key, entry)
        return entry

    def __getitem__(self, key: str) -> Entry:
        """The entry.

        Raises:
            TrainingError: It is gone, although it was there when training began.
        """
        entry = self.find(key)
        if entry is None:
            raise TrainingError(
                f"the cached data in {self._folder} was deleted while training; resume the run to compute "
                "it again",
                "cache_gone",
            )
        return entry

    def store(self, key: str, entry: Entry) -> None:
        """Keep an entry on disk, and in memory if it fits.

        Raises:
            TrainingError: The disk is full and the entry fits nowhere else.
        """
        path = self.path(key)
        kept = self._keep(key, entry)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.write(save(entry))
        except OSError as error:
            if kept:
                return  # enough for this process; a resume computes it again
            if is_disk_full(error):
                raise disk_full(path, _size(entry)) from error
            raise TrainingError(
                f"the cache folder {self._folder} cannot be written: {error.strerror or error}",
                "cache_unwritable",
            ) from error

    def _keep(self, key: str, entry: Entry) -> bool:
        with self._lock:
            if key in self._kept:
                return True
            if not self._ram.take(_size(entry)):
                return False
            self._kept[key] = entry
            return True


def _size(entry: Entry) -> int:
    return sum(tensor.nbytes for tensor in entry.values())
