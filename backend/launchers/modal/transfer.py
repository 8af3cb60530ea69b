"""Bringing a run's files home: only complete ones, checked, and continued where a transfer broke off.

A file arrives as ``NAME.part``, beside ``NAME.part.json`` that says of which version it is the beginning;
it takes its name in one step when its size and hash are right. So whatever has its name is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backend.files import read_json, write_json
from backend.home import cache_dir
from backend.launchers.modal.hashes import FileError, FileHashes
from backend.launchers.modal.lock import held
from backend.launchers.modal.manifest import (
    Manifest,
    ManifestFile,
    TransferError,
    list_folder,
    read_manifest,
)
from backend.launchers.modal.remote import MissingError, RemoteError, RemoteVolume

__all__ = ["BROUGHT_HOME", "Manifest", "ManifestFile", "TransferError", "new_files", "pull"]

Progress = Callable[[int, int], None]
"""Told the bytes that are here, and all that were asked for; from any thread."""

BROUGHT_HOME = ("checkpoint", "sample")
"""Kinds that come home on their own: the mirror writes the logs, and state is the container's."""

_OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})
_MARGIN = 32 << 20  # bytes that stay free on the disk
_PATIENCE = 120.0  # seconds that another transfer into the same folder is waited for
_CLOSE = 2.0  # seconds by which file systems round times


async def pull(
    volume: RemoteVolume,
    remote_folder: str,
    files: Sequence[str] | None,
    destination: Path,
    progress: Progress | None = None,
    parallel: int = 4,
    *,
    kinds: Collection[str] | None = None,
    without_manifest: bool = False,
    hashes: FileHashes | None = None,
) -> list[Path]:
    """Copy a run's files into ``destination``, which gets the same folders.

    What is there and right is not fetched again. When cancelled, only whole files and ``.part`` files are
    left, and the next call goes on with those.

    Args:
        volume: Where the run is.
        remote_folder: Its folder there.
        files: Paths in that folder; all if None. Files that vanish meanwhile (old checkpoints are
            deleted) are an error if they were named here, else they are passed over.
        destination: Where they go; made if missing. Not the folder of a live mirror, unless ``kinds`` are
            :data:`BROUGHT_HOME`.
        progress: Told of bytes.
        parallel: Files at a time.
        kinds: Only these (see :data:`backend.launchers.modal.manifest.KINDS`).
        without_manifest: Take what is there, checked by size only, if the folder has no manifest.
        hashes: Remembers hashes of local files.

    Returns:
        The local files, in the order of the manifest or of ``files``.

    Raises:
        TransferError: A file is gone, damaged or not complete; there is no room, or no permission here.
        MissingError: There is no manifest, and ``without_manifest`` is off; or no such folder.
        RemoteError: Modal cannot be reached or refuses.
    """

    async def look() -> Manifest:
        try:
            return await read_manifest(volume, remote_folder)
        except MissingError:
            if not without_manifest:
                raise
            return await list_folder(volume, remote_folder)

    wanted = _choose(await look(), files, kinds)
    hashes = hashes or FileHashes()
    try:
        async with _alone_in(destination):
            right = await asyncio.to_thread(_right, wanted, destination, hashes)
            missing = [file for file in wanted if file.path not in right]
            await asyncio.to_thread(_prepare, missing, destination)
            meter = _Meter(progress, {file.path: file.bytes for file in missing})
            transfer = _Transfer(volume, remote_folder, destination, look, meter, files is not None)
            fetched = await transfer.fetch_all(missing, parallel)
    except OSError as error:
        raise TransferError(_cannot_write(error, destination)) from error
    return [destination / file.path for file in wanted if file.path in right or file.path in fetched]


def new_files(
    manifest: Manifest,
    destination: Path,
    kinds: Collection[str] = BROUGHT_HOME,
    hashes: FileHashes | None = None,
) -> list[ManifestFile]:
    """What of a manifest is not in ``destination`` yet, or is another version there; reads local files.

    With :func:`pull` and these files' paths, or simply with its ``kinds``, they come home.
    """
    wanted = [file for file in manifest.files if file.kind in kinds]
    right = _right(wanted, destination, hashes or FileHashes())
    return [file for file in wanted if file.path not in right]


# -- what to take --------------------------------------------------------------------------------


def _choose(
    manifest: Manifest, files: Sequence[str] | None, kinds: Collection[str] | None
) -> list[ManifestFile]:
    if files is None:
        chosen = [file for file in manifest.files if not _is_part(file.path)]
    else:
        listed = {file.path: file for file in manifest.files}
        unknown = [path for path in files if path not in listed]
        if unknown:
            more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise TransferError(f"the run has no complete file {unknown[0]}{more}; list its files again")
        chosen = [listed[path] for path in dict.fromkeys(files)]
    return [file for file in chosen if kinds is None or file.kind in kinds]


def _is_part(path: str) -> bool:
    return path.endswith((".part", ".part.json"))


def _right(wanted: Iterable[ManifestFile], destination: Path, hashes: FileHashes) -> set[str]:
    """Paths of those files that are in ``destination`` with the right content."""
    right: set[str] = set()
    by_hash: dict[Path, ManifestFile] = {}
    for file in wanted:
        target = destination / file.path
        try:
            info = target.stat()
        except OSError:
            continue
        if info.st_size != file.bytes or not target.is_file():
            continue
        if file.sha256:
            by_hash[target] = file
        elif abs(info.st_mtime - file.modified) <= _CLOSE:
            right.add(file.path)
    try:
        found = hashes.of(list(by_hash))
    except FileError:  # one vanished or cannot be read: look at each alone
        found = {}
        for target in by_hash:
            with contextlib.suppress(FileError):
                found |= hashes.of([target])
    right |= {
        by_hash[target].path for target, state in found.items() if state.sha256 == by_hash[target].sha256
    }
    return right


# -- this machine's side -------------------------------------------------------------------------


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _note(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _usable(file: ManifestFile, target: Path) -> int:
    """Bytes of a ``.part`` file that are the beginning of this version; what is of another is deleted."""
    part, note = _part(target), read_json(_note(target))
    try:
        size = part.stat().st_size
    except OSError:
        return 0
    if isinstance(note, dict) and note.get("version") == file.version and size <= file.bytes:
        return size
    part.unlink()
    return 0


def _prepare(missing: Sequence[ManifestFile], destination: Path) -> None:
    """Make folders, and make sure that everything fits and stays inside ``destination``."""
    if not missing:
        return
    destination.mkdir(parents=True, exist_ok=True)
    top = destination.resolve()
    needed = 0
    for file in missing:
        target = destination / file.path
        if not target.parent.resolve().is_relative_to(top):
            raise TransferError(f"{target.parent} is a link that leads out of {destination}; remove it")
        if target.is_dir():
            raise TransferError(f"{target} is a folder here; move it away")
        target.parent.mkdir(parents=True, exist_ok=True)
        needed += file.bytes - _usable(file, target)
    free = shutil.disk_usage(destination).free
    if needed + _MARGIN > free:
        raise TransferError(
            f"{destination} has {_size(free)} free; {_size(needed)} are to come, and {_size(_MARGIN)} "
            "stay free"
        )


def _finish(file: ManifestFile, target: Path) -> bool:
    """Give a ``.part`` file its name if it is right; returns whether it is."""
    part = _part(target)
    with part.open("r+b") as opened:
        os.fsync(opened.fileno())
        if opened.seek(0, os.SEEK_END) != file.bytes:
            return False
        opened.seek(0)
        if file.sha256 and hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
            return False
    part.replace(target)
    if not file.sha256:
        os.utime(target, (file.modified, file.modified))
    _note(target).unlink(missing_ok=True)
    return True


def _size(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else "under 1 MB"


def _cannot_write(error: OSError, destination: Path) -> str:
    if isinstance(error, ConnectionError | TimeoutError):
        return "the connection to Modal broke; try again, what has arrived is kept"
    where = error.filename or destination
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {where}; make room and try again, what has arrived is kept"
    return f"{where} cannot be written: {(error.strerror or str(error)).lower()}"


@contextlib.asynccontextmanager
async def _alone_in(destination: Path) -> AsyncIterator[None]:
    """Keep other processes from writing the same ``.part`` files. The lock ends with its process."""
    lock = await asyncio.to_thread(_lock_file, destination)
    if lock is None:  # nowhere to lock: then without
        yield
        return
    until = time.monotonic() + _PATIENCE
    while True:
        with held(lock) as mine:
            if mine:
                yield
                return
        if time.monotonic() > until:
            raise TransferError(
                f"files are being brought to {destination} by another process; try again later"
            )
        await asyncio.sleep(0.2)


def _lock_file(destination: Path) -> Path | None:
    name = hashlib.sha256(os.fsencode(os.path.realpath(destination))).hexdigest()[:24]
    folder = cache_dir() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("ab"):
            return folder / name
    except OSError:
        return None


class _Meter:
    """Adds up the bytes of files that arrive side by side."""

    def __init__(self, progress: Progress | None, sizes: dict[str, int]) -> None:
        self._progress = progress
        self._sizes = sizes
        self._done = dict.fromkeys(sizes, 0)
        self._lock = threading.Lock()

    def set(self, path: str, done: int, size: int | None = None) -> None:
        """So many bytes of a file are here; ``size`` if it is another than was thought."""
        with self._lock:
            if size is not None:
                self._sizes[path] = size
            self._done[path] = min(done, self._sizes[path])
            self._tell()

    def add(self, path: str, count: int) -> None:
        """So many more bytes are here."""
        with self._lock:
            self._done[path] = min(self._done[path] + count, self._sizes[path])
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(sum(self._done.values()), sum(self._sizes.values()))


# -- fetching ------------------------------------------------------------------------------------


@dataclass
class _Transfer:
    """Fetches files of one run; ``named`` tells that one which vanishes is an error."""

    volume: RemoteVolume
    folder: str
    destination: Path
    look: Callable[[], Awaitable[Manifest]]
    meter: _Meter
    named: bool
    fetched: set[str] = field(default_factory=set)

    async def fetch_all(self, files: Sequence[ManifestFile], parallel: int) -> set[str]:
        waiting = iter(files)

        async def work() -> None:
            for file in waiting:  # shared by all workers
                if await self._fetch(file):
                    self.fetched.add(file.path)

        workers = [asyncio.create_task(work()) for _ in range(min(max(1, parallel), len(files)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return self.fetched

    async def _fetch(self, file: ManifestFile) -> bool:
        """Fetch one file; False if it is gone and need not be here."""
        target = self.destination / file.path
        restarted = looked = False
        while True:
            gone = False
            start = 0
            try:
                start = await self._read(file, target)
                if await asyncio.to_thread(_finish, file, target):
                    self.meter.set(file.path, file.bytes)
                    return True
            except MissingError:
                gone = True
            _part(target).unlink(missing_ok=True)
            if start and not gone and not restarted:
                restarted = True  # the beginning, from an earlier transfer, may have been bad
                continue
            newer = None if looked else (await self.look()).get(file.path)
            looked = True
            if newer is not None and newer.version != file.version:
                file = newer
                continue
            _note(target).unlink(missing_ok=True)
            if gone and not self.named:
                self.meter.set(file.path, 0, 0)
                return False
            what = "is gone from Modal" if gone else "does not arrive as it should (its hash differs)"
            raise TransferError(f"{file.path} {what}; list the run's files and try again")

    async def _read(self, file: ManifestFile, target: Path) -> int:
        """Fetch what a ``.part`` file lacks; returns how many bytes it had."""
        start = _usable(file, target)
        self.meter.set(file.path, start, file.bytes)
        if start == file.bytes and start:
            return start
        write_json(_note(target), {"version": file.version, "bytes": file.bytes})
        part = _part(target)
        with part.open("r+b" if part.exists() else "x+b") as opened:
            opened.seek(start)
            try:
                await self.volume.read_into(
                    f"{self.folder}/{file.path}",
                    opened,
                    start,
                    lambda count: self.meter.add(file.path, count),
                )
            except RemoteError as error:
                cause = error.__cause__
                if isinstance(cause, OSError) and cause.errno in _OF_THE_DISK:
                    raise cause from None  # it was this disk that refused, not Modal
                raise
        return start
