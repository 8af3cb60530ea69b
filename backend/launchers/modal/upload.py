"""Putting a bundle's files on the volume, each only once.

A root is on the volume when both ``.fluxlora/data/<hash>/`` and the marker ``.fluxlora/data/<hash>.complete``
are; the marker is written after everything else. So one listing answers for all roots of a launch, a crash
in between costs nothing but the time to go on, and two launches at once write the same bytes to the same
places.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.launchers.modal.bundle import DATA, Bundle, BundledFile, Root
from backend.launchers.modal.hashes import FileError, mark_of
from backend.launchers.modal.inputs import InputError
from backend.launchers.modal.remote import MissingError, RemoteVolume, Upload

COMPLETE = ".complete"
"""What a marker's name ends in."""

_BATCH_FILES = 32
_BATCH_BYTES = 64 << 20
_PARALLEL = 3  # batches under way: one waits for Modal's answer while another's bytes travel


@dataclass(frozen=True)
class Sent:
    """What a launch sent.

    Attributes:
        bytes_total: Size of all inputs.
        bytes_sent_at_most: Size of the inputs that were not on the volume; Modal takes only those blocks
            of them that it does not have from elsewhere.
        files: How many files those are.
        already_there: How many roots needed nothing.
    """

    bytes_total: int
    bytes_sent_at_most: int
    files: int
    already_there: int


async def send(
    bundle: Bundle, volume: RemoteVolume, progress: Callable[[int, int], None] | None = None
) -> Sent:
    """Put what the volume lacks of a bundle on it; one call to Modal when nothing is missing.

    Args:
        bundle: What the run needs.
        volume: Where it goes.
        progress: Told the bytes that are done, and those of all that was missing, after every batch.

    Raises:
        InputError: A file changed since it was hashed; nothing is marked complete then.
        RemoteError: Modal cannot be reached or refuses; what was sent stays, and is not sent again.
    """
    return await send_roots(bundle.roots, volume, progress)


async def send_roots(
    roots: Sequence[Root], volume: RemoteVolume, progress: Callable[[int, int], None] | None = None
) -> Sent:
    """Put what the volume lacks of some roots on it, as :func:`send` does."""
    there = await stored(volume) if roots else frozenset()
    missing = [root for root in roots if root.hash not in there]
    total = sum(root.bytes for root in missing)
    if missing:
        if progress is not None:
            progress(0, total)
        await _send_batches(list(_batches(missing)), volume, lambda done: progress and progress(done, total))
        await volume.upload([_marker(root) for root in missing])
    return Sent(
        bytes_total=sum(root.bytes for root in roots),
        bytes_sent_at_most=total,
        files=sum(len(root.files) for root in missing),
        already_there=len(roots) - len(missing),
    )


async def stored(volume: RemoteVolume) -> frozenset[str]:
    """Hashes of the roots that are wholly on the volume.

    Raises:
        RemoteError: Modal cannot be reached or refuses.
    """
    try:
        entries = await volume.list(DATA)
    except MissingError:
        return frozenset()
    names = {Path(entry.path).name for entry in entries}
    return frozenset(name for name in names if name + COMPLETE in names)


async def forget(volume: RemoteVolume, root: str) -> None:
    """Delete a root from the volume by its hash: the marker first, so that no launch relies on the rest.

    Raises:
        RemoteError: Modal cannot be reached or refuses.
    """
    await volume.remove(f"{DATA}/{root}{COMPLETE}")
    await volume.remove(f"{DATA}/{root}", recursive=True)


def _marker(root: Root) -> Upload:
    facts = {
        "version": 1,
        "name": root.name,
        "files": len(root.files),
        "bytes": root.bytes,
        "created": round(time.time()),
    }
    text = json.dumps(facts, ensure_ascii=False) + "\n"
    return Upload(text.encode("utf-8"), f"{DATA}/{root.hash}{COMPLETE}")


@dataclass(frozen=True)
class _Batch:
    uploads: tuple[Upload, ...]
    files: tuple[BundledFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def _batches(roots: Sequence[Root]) -> Iterator[_Batch]:
    """All files in portions; a large file is a portion of its own."""
    batch: list[tuple[Upload, BundledFile]] = []
    size = 0
    for root in roots:
        for file in root.files:
            if batch and (len(batch) >= _BATCH_FILES or size + file.bytes > _BATCH_BYTES):
                yield _batch(batch)
                batch, size = [], 0
            batch.append((Upload(file.source, f"{root.folder}/{file.path}"), file))
            size += file.bytes
    if batch:
        yield _batch(batch)


def _batch(pairs: Sequence[tuple[Upload, BundledFile]]) -> _Batch:
    return _Batch(tuple(upload for upload, _ in pairs), tuple(file for _, file in pairs))


async def _send_batches(
    batches: Sequence[_Batch], volume: RemoteVolume, told: Callable[[int], object]
) -> None:
    waiting = iter(batches)
    done = 0

    async def work() -> None:
        nonlocal done
        for batch in waiting:  # shared by all workers
            await volume.upload(batch.uploads)
            await asyncio.to_thread(_check_unchanged, batch.files)
            done += batch.bytes
            told(done)

    workers = [asyncio.create_task(work()) for _ in range(min(_PARALLEL, len(batches)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _check_unchanged(files: Sequence[BundledFile]) -> None:
    """Raise InputError if a file is not as it was when its root was named by its content."""
    for file in files:
        if isinstance(file.source, bytes):
            continue
        try:
            same = mark_of(file.source)[1] == file.mark
        except FileError as error:
            raise InputError(str(error)) from None
        if not same:
            raise InputError(f"{file.source} changed while it was sent to Modal; launch again")
