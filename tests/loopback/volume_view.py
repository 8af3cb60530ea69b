"""A volume as tests see it (`cloud.volume(name)`): its committed state, to read and write from any thread."""

from __future__ import annotations

import hashlib

from .copies import node_of_bytes, read_node
from .store import CommitRecord, Store, Volume
from .trees import FolderNode, TreeError, clean_path


class VolumeView:
    """The committed state of one volume, for assertions and for planting files."""

    def __init__(self, store: Store, volume: Volume) -> None:
        self._store = store
        self.volume = volume

    def files(self, below: str = "") -> list[str]:
        """Paths of all files (not folders) below a folder, sorted."""
        with self._store.lock:
            entries = list(self.volume.tree.list(below, recursive=True))
        return [path for path, node in entries if not isinstance(node, FolderNode)]

    def exists(self, path: str) -> bool:
        return self.volume.tree.get(path) is not None

    def read(self, path: str) -> bytes:
        """Contents of a file. FileNotFoundError when there is none."""
        try:
            with self._store.lock:
                node = self.volume.tree.file(path)
        except TreeError as error:
            raise FileNotFoundError(str(error)) from None
        return read_node(self._store, node)

    def read_text(self, path: str) -> str:
        return self.read(path).decode("utf-8")

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put a file as somebody else's commit would, over what is there."""
        node = node_of_bytes(self._store, data, mode)
        with self._store.lock:
            self.volume.tree.apply({clean_path(path): node}, replace_kind=True)

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all that is in it. FileNotFoundError when there is none."""
        try:
            with self._store.lock:
                self.volume.tree.remove(path, recursive=True)
        except TreeError as error:
            raise FileNotFoundError(str(error)) from None

    def sha256(self, path: str) -> str:
        return hashlib.sha256(self.read(path)).hexdigest()

    def total_bytes(self) -> int:
        with self._store.lock:
            return self.volume.tree.total_bytes()

    @property
    def commits(self) -> list[CommitRecord]:
        """Every commit so far that changed something."""
        return list(self.volume.commits)

    @property
    def failed_commits(self) -> list[str]:
        """Why commits were refused, in order."""
        return list(self.volume.failed_commits)

    @property
    def limit_bytes(self) -> int | None:
        """What it may hold; set it to make the volume full."""
        return self.volume.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, limit: int | None) -> None:
        self.volume.limit_bytes = limit
