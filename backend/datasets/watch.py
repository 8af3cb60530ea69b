"""Changes of a dataset's folder from outside, within a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

_DEBOUNCE = 300  # milliseconds that a burst of changes is gathered at the most
_STEP = 50  # milliseconds between two looks
_LOOK = 0.5  # seconds between two looks whether the folder is still there


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed.

    Attributes:
        paths: Files and folders that were added, changed or deleted.
        gone: The dataset's folder itself is gone; nothing follows.
    """

    paths: frozenset[Path] = frozenset()
    gone: bool = False


async def watch(folder: Path, stop: asyncio.Event | None = None) -> AsyncIterator[Changes]:
    """Changes in ``folder`` and below, until ``stop`` is set or the folder is gone.

    Temporary files of the app's own atomic writes and other hidden files but the sidecar are left out.
    """
    from watchfiles import awatch

    folder = _absolute(folder)
    stop = stop or asyncio.Event()

    if not folder.is_dir():
        yield Changes(gone=True)
        return
    try:
        async for found in awatch(
            folder,
            watch_filter=lambda _, path: _wanted(folder, path),
            debounce=_DEBOUNCE,
            step=_STEP,
            stop_event=stop,
            rust_timeout=int(_LOOK * 1000),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        ):
            if not folder.is_dir():
                yield Changes(gone=True)
                return
            if found:
                yield Changes(frozenset(Path(path) for _, path in found))
    except (OSError, RuntimeError):
        if not folder.is_dir():
            yield Changes(gone=True)
            return
        raise


async def watch_many(
    folders: Collection[Path], stop: asyncio.Event | None = None
) -> AsyncIterator[frozenset[Path]]:
    """Which of some folders changed, came or went, until ``stop`` is set; one thread for all of them.

    What is left out is as for :func:`watch`.
    """
    from watchfiles import awatch

    stop = stop or asyncio.Event()
    known = {_absolute(folder): folder for folder in folders}
    there = await asyncio.to_thread(_existing, known)
    while not stop.is_set():
        if not there:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK)
        else:
            async for found in awatch(
                *there,
                watch_filter=lambda _, path: any(_wanted(folder, path) for folder in known),
                debounce=_DEBOUNCE,
                step=_STEP,
                stop_event=stop,
                rust_timeout=int(_LOOK * 1000),
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                paths = [Path(path) for _, path in found]
                changed = {name for at, name in known.items() if any(p.is_relative_to(at) for p in paths)}
                if changed:
                    yield frozenset(changed)
                if await asyncio.to_thread(_existing, known) != there:
                    break
        now = await asyncio.to_thread(_existing, known)
        if other := now ^ there:
            yield frozenset(known[at] for at in other)
        there = now


def _existing(folders: Iterable[Path]) -> set[Path]:
    return {folder for folder in folders if folder.is_dir()}


def _wanted(folder: Path, path: str) -> bool:
    """Whether a path in a folder may matter: no hidden file but the sidecar."""
    from backend.datasets.sidecar import SIDECAR

    at = Path(path)
    if not at.is_relative_to(folder):
        return False
    parts = at.relative_to(folder).parts
    hidden = any(part.startswith(".") for part in parts[:-1])
    return not hidden and (not parts or not parts[-1].startswith(".") or parts[-1] == SIDECAR)


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))
