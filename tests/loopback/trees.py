"""A volume's committed state: paths and what is at each. Plain data, no bytes: contents are named by block
hashes.

Paths are relative, without a leading slash, as the SDK shows them. Folders are entries of their own, so that
an empty one is kept; putting a file makes its parents.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class TreeError(Exception):
    """The request makes no sense for the tree; `kind` is "missing", "exists", "invalid" or "full"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file: `blocks` are the SHA-256 of its 8 MiB pieces, each without its trailing zero bytes."""

    size: int
    mtime_ns: int
    mode: int
    blocks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkNode:
    """A symbolic link, kept as it was written."""

    target: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class FolderNode:
    mtime_ns: int = 0


Node = FileNode | LinkNode | FolderNode


def clean_path(path: str) -> str:
    """`path` without slashes at its ends, doubled ones and dots; "" is the root. TreeError if it climbs
    out."""
    if "\0" in path:
        raise TreeError("invalid", f"path {path!r} contains a zero byte")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise TreeError("invalid", f"path {path!r} must not contain '..'")
    return "/".join(parts)


def parents(path: str) -> Iterator[str]:
    """The folders above `path`, the nearest first, without the root."""
    while "/" in path:
        path = path.rsplit("/", 1)[0]
        yield path


@dataclass
class VolumeTree:
    nodes: dict[str, Node] = field(default_factory=dict)

    def get(self, path: str) -> Node | None:
        """What is at `path` (the root is always a folder), or None."""
        path = clean_path(path)
        return self.nodes.get(path) if path else FolderNode()

    def file(self, path: str) -> FileNode:
        """The file at `path`, links followed inside the volume."""
        seen = 0
        where = clean_path(path)
        while isinstance(node := self.nodes.get(where), LinkNode) and seen < 8:
            base = "" if node.target.startswith("/") else where.rpartition("/")[0] + "/"
            where, seen = clean_path(base + node.target), seen + 1
        if node is None:
            raise TreeError("missing", f"No such file: {path!r}")
        if not isinstance(node, FileNode):
            raise TreeError("invalid", f"{path!r} is a directory, not a file")
        return node

    def total_bytes(self) -> int:
        return sum(node.size for node in self.nodes.values() if isinstance(node, FileNode))

    def list(self, path: str, *, recursive: bool) -> Iterator[tuple[str, Node]]:
        """Entries below a folder (its children, or everything), or the file itself; sorted by path."""
        path = clean_path(path)
        node = self.get(path)
        if node is None:
            raise TreeError("missing", f"No such file or directory: {path!r}")
        if not isinstance(node, FolderNode):
            yield path, node
            return
        prefix = f"{path}/" if path else ""
        for name in sorted(self.nodes):
            if name.startswith(prefix) and (recursive or "/" not in name[len(prefix) :]):
                yield name, self.nodes[name]

    def apply(
        self,
        puts: Mapping[str, Node],
        removes: Iterable[str] = (),
        *,
        replace_kind: bool = False,
        limit_bytes: int | None = None,
    ) -> None:
        """Put and remove all of it, or nothing.

        `replace_kind` lets a file take a folder's place and the other way round, as a commit does (the last
        writer wins); an upload may not. Raises TreeError "full" when the tree would hold more than
        `limit_bytes` and more than before, so that a full volume can still be tidied up.
        """
        after = dict(self.nodes)
        gone = [after.pop(path, None) for path in removes]
        # A folder that one writer removed stays while another's files are in it.
        if any(isinstance(node, FolderNode) for node in gone):
            for folder in {above for path in after for above in parents(path)} - after.keys():
                after[folder] = self.nodes[folder]
        for path, node in puts.items():
            for above in parents(path):
                standing = after.get(above)
                if standing is not None and not isinstance(standing, FolderNode):
                    if not replace_kind:
                        raise TreeError("invalid", f"{above!r} is a file, so {path!r} cannot be put below it")
                    standing = None
                if standing is None:
                    after[above] = FolderNode(time.time_ns())
            standing = after.get(path)
            if isinstance(standing, FolderNode) and not isinstance(node, FolderNode):
                if not replace_kind:
                    raise TreeError(
                        "invalid", f"{path!r} is a directory and cannot be overwritten with a file"
                    )
                for below in [p for p in after if p.startswith(f"{path}/")]:
                    del after[below]
            after[path] = node
        if limit_bytes is not None:
            before, now = self.total_bytes(), VolumeTree(after).total_bytes()
            if now > limit_bytes and now > before:
                raise TreeError("full", f"No space left on volume: {now:,} bytes, {limit_bytes:,} allowed")
        self.nodes = after

    def remove(self, path: str, *, recursive: bool) -> None:
        path = clean_path(path)
        node = self.get(path)
        if node is None:
            raise TreeError("missing", f"No such file or directory: {path!r}")
        below = [p for p in self.nodes if p.startswith(f"{path}/" if path else "")]
        if isinstance(node, FolderNode) and not recursive:
            raise TreeError("invalid", f"{path!r} is a directory; pass recursive=True to remove it")
        self.apply({}, [*below, path])

    def copy(self, sources: Iterable[str], target: str, *, recursive: bool, limit_bytes: int | None) -> None:
        """As `cp` does: into a folder that exists, else under the new name (one source only)."""
        wanted = [clean_path(source) for source in sources]
        into_folder = isinstance(self.get(target), FolderNode) or target.endswith("/")
        if len(wanted) > 1 and not into_folder:
            raise TreeError("invalid", f"{target!r} is not a directory, but there are {len(wanted)} sources")
        now = time.time_ns()
        puts: dict[str, Node] = {}
        for source in wanted:
            node = self.get(source)
            if node is None:
                raise TreeError("missing", f"No such file or directory: {source!r}")
            goal = clean_path(f"{target}/{source.rpartition('/')[2]}" if into_folder else target)
            if not isinstance(node, FolderNode):
                puts[goal] = replace(node, mtime_ns=now)
                continue
            if not recursive:
                raise TreeError("invalid", f"{source!r} is a directory; pass recursive=True to copy it")
            puts[goal] = FolderNode(now)
            for path, below in self.list(source, recursive=True):
                puts[f"{goal}/{path[len(source) :].lstrip('/')}"] = replace(below, mtime_ns=now)
        self.apply(puts, limit_bytes=limit_bytes)
