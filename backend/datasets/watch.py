"""Changes of a dataset's folder from outside, within a second."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
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

    from backend.datasets.sidecar import SIDECAR

    folder = _absolute(folder)
    stop = stop or asyncio.Event()

    def wanted(_: object, path: str) -> bool:
        relative = Path(path)
        parts = relative.relative_to(folder).parts if relative.is_relative_to(folder) else relative.parts[-1:]
        return not any(part.startswith(".") for part in parts[:-1]) and (
            not parts or not parts[-1].startswith(".") or parts[-1] == SIDECAR
        )

    if not folder.is_dir():
        yield Changes(gone=True)
        return
    try:
        async for found in awatch(
            folder,
            watch_filter=wanted,
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


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))
