"""Following a run's folder while it grows: its events, its log, its files."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from backend.launchers.base import EventBatch, LogChunk, RunFile
from backend.runs.folder import RunFolder
from backend.runs.follow import changes
from backend.runs.stream import EventTail
from backend.runs.view import RunView

_CHUNK = 1 << 20


def read_view(folder: RunFolder) -> RunView:
    """All that a run has said so far, summed up."""
    view, tail = RunView(), EventTail(folder.events)
    while events := tail.read():
        view.apply(events)
    return view


async def follow_events(
    folder: RunFolder, offset: int, over: Callable[[], bool] | None
) -> AsyncIterator[EventBatch]:
    """The events from byte ``offset`` on, until ``over`` says that no more will come (at once if None)."""
    tail = EventTail(folder.events, offset)
    async for last in _looks(folder.path, over):
        while events := await asyncio.to_thread(tail.read, _CHUNK):
            yield EventBatch(events, tail.offset)
        if last:
            return


async def follow_log(
    folder: RunFolder, offset: int, over: Callable[[], bool] | None
) -> AsyncIterator[LogChunk]:
    """The log from byte ``offset`` on, until ``over`` says that no more will come (at once if None)."""
    async for last in _looks(folder.path, over):
        while data := await asyncio.to_thread(_read_bytes, folder.log, offset):
            offset += len(data)
            yield LogChunk(data, offset)
        if last:
            return


async def _looks(folder: Path, over: Callable[[], bool] | None) -> AsyncIterator[bool]:
    """Yield whenever files may have grown; True the last time."""
    if over is None:
        yield True
        return
    async for _ in changes(folder):
        ended = await asyncio.to_thread(over)
        yield ended
        if ended:
            return


def _read_bytes(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            there = file.seek(0, os.SEEK_END) - offset
            file.seek(offset)
            return file.read(min(_CHUNK, max(0, there)))  # what is asked for is allocated first
    except FileNotFoundError:
        return b""


def list_files(folder: RunFolder) -> list[RunFile]:
    """The files that a run's folder holds: checkpoints first, then samples, then the rest."""
    found: list[RunFile] = []
    for place in (folder.checkpoints, folder.samples, folder.path):
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue
        for entry in entries:
            if entry.is_file() and not entry.name.startswith("."):
                info = entry.stat()
                relative = entry.relative_to(folder.path).as_posix()
                found.append(RunFile(path=relative, bytes=info.st_size, modified=info.st_mtime))
    return found
