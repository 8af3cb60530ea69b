"""The private working copies of volumes that containers write to, and how commits make them visible.

A container never works on the committed state: `checkout` writes out a copy of the last commit, the container
reads and writes plain files there, and `commit` merges what it changed into the volume at once, file by file,
the last writer winning (deletions too). That is what hides nothing: a worker that forgets to commit, or
expects to see another's files without `reload`, fails here as it fails on Modal.

Copies are real copies (no hard links: a container that appends in place would change what is committed). A
change is seen by size, times and inode; what was touched within the last moments is read again the next time,
because two writes in one tick of the clock look alike.

A full volume: the limit is checked when a commit or an upload is merged, which is then refused whole with
RESOURCE_EXHAUSTED. The container's own writes do not get ENOSPC: that would need a file system of its own,
hence root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import stat
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status

from .store import BLOCK_BYTES, CommitRecord, Store, Volume
from .trees import FileNode, FolderNode, LinkNode, Node, TreeError, parents

if TYPE_CHECKING:
    from collections.abc import Iterator

UNSETTLED_NS = 100_000_000
"""A file modified this shortly before it was read is read again at the next commit."""

Stamp = tuple[int, int, int, int, int]  # mode, size, mtime_ns, ctime_ns, inode


@dataclass
class Known:
    """What the copy and the committed state agreed on for one path. `stamp` None: look again."""

    node: Node
    stamp: Stamp | None


@dataclass(eq=False)
class WorkingCopy:
    volume: Volume
    task_id: str
    path: Path
    read_only: bool
    known: dict[str, Known] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: bool = False
    background: asyncio.Task[None] | None = None


class WorkingCopies:
    """All working copies, by task and volume. The public methods are coroutines: the disk work is done in
    threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root / "copies"
        self.root.mkdir(exist_ok=True)
        # Half-written files are kept out of the container's sight.
        self._staging = store.root / "staging"
        self._staging.mkdir(exist_ok=True)
        self._copies: dict[tuple[str, str], WorkingCopy] = {}

    def of_task(self, task_id: str) -> list[WorkingCopy]:
        return [copy for (task, _), copy in self._copies.items() if task == task_id]

    def get(self, task_id: str, volume_id: str) -> WorkingCopy:
        """The task's copy; FAILED_PRECONDITION when it has not mounted the volume."""
        self.store.volume(volume_id)
        copy = self._copies.get((task_id, volume_id))
        if copy is None:
            raise GRPCError(
                Status.FAILED_PRECONDITION, f"Volume {volume_id} is not mounted in this container"
            )
        return copy

    async def checkout(
        self,
        volume_id: str,
        task_id: str,
        *,
        sub_path: str = "",
        read_only: bool = False,
        background: bool = True,
    ) -> Path:
        """A private copy of the volume's last commit, or of its folder `sub_path` (made if missing).

        With `background`, it is committed every `knobs.commit_interval` seconds until `close`. A `read_only`
        copy is never committed. Asking again for the same task and volume gives the same copy.
        """
        copy = self._copies.get((task_id, volume_id))
        if copy is None:
            volume = self.store.volume(volume_id)
            copy = WorkingCopy(volume, task_id, self.root / task_id / volume_id, read_only)
            self._copies[task_id, volume_id] = copy
            await asyncio.to_thread(self._fill, copy)
            if background and not read_only:
                copy.background = asyncio.create_task(self._commit_now_and_then(copy))
        folder = copy.path / sub_path.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def commit(self, task_id: str, volume_id: str, kind: str = "rpc") -> CommitRecord | None:
        """Publish what the task has changed; None when that is nothing.

        Raises:
            GRPCError: RESOURCE_EXHAUSTED when the volume is full (nothing is published then), NOT_FOUND when
            it has
                been deleted, FAILED_PRECONDITION when the task has not mounted it.
        """
        copy = self.get(task_id, volume_id)
        if copy.read_only:
            return None
        try:
            return await asyncio.to_thread(self._commit, copy, kind)
        except TreeError as error:
            copy.volume.failed_commits.append(str(error))
            raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from None
        except OSError as error:
            copy.volume.failed_commits.append(str(error))
            raise GRPCError(Status.INTERNAL, f"cannot read the working copy: {error}") from None

    async def reload(self, task_id: str, volume_id: str) -> None:
        """Commit, then bring in what others have committed. FAILED_PRECONDITION while files are open."""
        copy = self.get(task_id, volume_id)
        if await asyncio.to_thread(_has_open_files, copy.path):
            raise GRPCError(Status.FAILED_PRECONDITION, "there are open files preventing the operation")
        await self.commit(task_id, volume_id)
        await asyncio.to_thread(self._pull, copy)

    async def close(self, task_id: str, *, commit: bool) -> list[str]:
        """The container has ended: a last commit if `commit`, then its copies go. Says what could not be
        committed."""
        problems = []
        for copy in self.of_task(task_id):
            await _cancel(copy.background)
            if commit:
                try:
                    await self.commit(task_id, copy.volume.volume_id, "close")
                except GRPCError as error:
                    problems.append(f"Volume {copy.volume.name or copy.volume.volume_id}: {error.message}")
            self._copies.pop((task_id, copy.volume.volume_id), None)
            await asyncio.to_thread(self._discard, copy)
        await asyncio.to_thread(shutil.rmtree, self.root / task_id, ignore_errors=True)
        return problems

    async def stop(self) -> None:
        """End all background commits; the working copies stay."""
        for copy in self._copies.values():
            await _cancel(copy.background)

    async def _commit_now_and_then(self, copy: WorkingCopy) -> None:
        while True:
            await asyncio.sleep(self.store.knobs.commit_interval or 0.2)
            if self.store.knobs.commit_interval:
                # A full or deleted volume is no reason to stop trying: it may be tidied up.
                with contextlib.suppress(GRPCError):
                    await self.commit(copy.task_id, copy.volume.volume_id, "background")

    # What follows runs in worker threads.

    def _fill(self, copy: WorkingCopy) -> None:
        copy.path.mkdir(parents=True, exist_ok=True)
        self._pull(copy)

    def _discard(self, copy: WorkingCopy) -> None:
        # A cancelled commit's thread may still be at work: it must not take vanishing files for deleted ones.
        with copy.lock:
            copy.closed = True
            shutil.rmtree(copy.path, ignore_errors=True)

    def _commit(self, copy: WorkingCopy, kind: str) -> CommitRecord | None:
        with copy.lock:
            if copy.closed:
                return None
            now = dict(_scan(copy.path))
            puts: dict[str, Node] = {}
            after: dict[str, Known] = {}
            for path, stamp in now.items():
                known = copy.known.get(path)
                if known is not None and known.stamp == stamp:
                    after[path] = known
                    continue
                read = self._read(copy.path / path, stamp, known.node if known else None)
                if read is None:  # gone since the scan
                    continue
                after[path] = read
                if known is None or known.node != read.node:
                    puts[path] = read.node
            removes = [path for path in copy.known if path not in after]
            if not puts and not removes:
                copy.known = after
                return None
            with self.store.lock:
                # A parent that somebody else removed meanwhile comes back with the file below it.
                keep = {above for path in puts for above in parents(path)}
                copy.volume.tree.apply(
                    puts,
                    [path for path in removes if path not in keep],
                    replace_kind=True,
                    limit_bytes=self.store.limit(copy.volume),
                )
                record = CommitRecord(copy.task_id, kind, time.time(), sorted(puts), sorted(removes))
                copy.volume.commits.append(record)
            copy.known = after
            return record

    def _read(self, file: Path, stamp: Stamp, before: Node | None) -> Known | None:
        """The node for what is at `file`, its bytes kept in the store."""
        mode, _, mtime_ns, _, _ = stamp
        unsettled = time.time_ns() - mtime_ns < UNSETTLED_NS
        if stat.S_ISDIR(mode):
            # A folder's own times change with every file in it: that alone is nothing to publish.
            return Known(before if isinstance(before, FolderNode) else FolderNode(time.time_ns()), stamp)
        try:
            if stat.S_ISLNK(mode):
                return Known(LinkNode(os.readlink(file), mtime_ns), stamp)
            size, blocks = 0, []
            with file.open("rb") as stream:
                while data := stream.read(BLOCK_BYTES):
                    size += len(data)
                    blocks.append(self.store.blocks.put(data.rstrip(b"\0")))
        except FileNotFoundError:
            return None
        return Known(
            FileNode(size, mtime_ns, stat.S_IMODE(mode), tuple(blocks)), None if unsettled else stamp
        )

    def _pull(self, copy: WorkingCopy) -> None:
        """Make the copy equal to the committed state, one file at a time by rename."""
        with copy.lock:
            nodes = dict(copy.volume.tree.nodes)
            for path in sorted(copy.known, reverse=True):
                if type(nodes.get(path)) is not type(copy.known[path].node):
                    _remove(copy.path / path)
                    del copy.known[path]
            for path in sorted(nodes):
                if path not in copy.known or copy.known[path].node != nodes[path]:
                    write_node(self.store, nodes[path], copy.path / path, self._staging)
                    copy.known[path] = Known(nodes[path], _stamp(copy.path / path))


async def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def write_node(store: Store, node: Node, target: Path, staging: Path) -> None:
    """Write a file, link or folder of a volume to `target`, with its time and permission bits.

    It appears there whole, by a rename out of `staging` (a folder on the same file system).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(node, FolderNode):
        target.mkdir(exist_ok=True)
        return
    part = staging / secrets.token_hex(8)
    if isinstance(node, LinkNode):
        part.symlink_to(node.target)
    else:
        with part.open("wb") as stream:
            for index, digest in enumerate(node.blocks):
                stream.seek(index * BLOCK_BYTES)
                with store.blocks.path(digest).open("rb") as block:
                    shutil.copyfileobj(block, stream, 1024 * 1024)
            stream.truncate(node.size)
        part.chmod(node.mode)
        os.utime(part, ns=(node.mtime_ns, node.mtime_ns))
    part.replace(target)


def read_node(store: Store, node: FileNode, start: int = 0, length: int | None = None) -> bytes:
    """Bytes `start` up to `start + length` (None: to the end) of a file of a volume."""
    end = node.size if length is None else min(node.size, start + length)
    pieces = []
    for index in range(start // BLOCK_BYTES, -(-end // BLOCK_BYTES)):
        first = index * BLOCK_BYTES
        block = store.blocks.get(node.blocks[index]).ljust(min(BLOCK_BYTES, node.size - first), b"\0")
        pieces.append(block[max(0, start - first) : end - first])
    return b"".join(pieces)


def node_of_bytes(store: Store, data: bytes, mode: int = 0o644) -> FileNode:
    """Keep `data` as blocks; returns the file that they make."""
    pieces = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
    blocks = tuple(store.blocks.put(piece.rstrip(b"\0")) for piece in pieces)
    return FileNode(len(data), time.time_ns(), mode, blocks)


def node_of_file(store: Store, file: Path, mode: int = 0o644) -> FileNode:
    """Keep a file's contents as blocks; returns the file that they make."""
    size, blocks = 0, []
    with file.open("rb") as stream:
        while data := stream.read(BLOCK_BYTES):
            size += len(data)
            blocks.append(store.blocks.put(data.rstrip(b"\0")))
    return FileNode(size, time.time_ns(), mode, tuple(blocks))


def _scan(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Everything below `root`: files, folders and links (sockets and pipes are not what a volume keeps)."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(root / folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                waiting.append(path)
            if kind in (stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK):
                yield path, _stamp_of(status)


def _stamp_of(status: os.stat_result) -> Stamp:
    if stat.S_ISDIR(status.st_mode):
        return status.st_mode, 0, 0, 0, status.st_ino
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _stamp(path: Path) -> Stamp:
    return _stamp_of(path.lstat())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _has_open_files(root: Path) -> bool:
    """Whether a process has a file below `root` open, or stands in a folder there. Linux only; else False.

    By inode, not by name: a container with a mount namespace of its own sees the same files under another
    path.
    """
    if not Path("/proc/self/fd").is_dir():
        return False
    device = root.stat().st_dev
    inside = {stamp[4] for _, stamp in _scan(root)} | {root.stat().st_ino}
    own = str(os.getpid())
    for process in os.scandir("/proc"):
        if not process.name.isdigit() or process.name == own:
            continue
        for link in _open_links(process.path):
            try:
                status = os.stat(link)
            except OSError:
                continue
            if status.st_dev == device and status.st_ino in inside:
                return True
    return False


def _open_links(process: str) -> Iterator[str]:
    yield f"{process}/cwd"
    try:
        for entry in os.scandir(f"{process}/fd"):
            yield entry.path
    except OSError:  # gone, or somebody else's
        return
