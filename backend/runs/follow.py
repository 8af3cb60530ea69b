"""Waking up when files of a folder change."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path

_STEP_MS = 40  # quiet time that ends a burst of changes
_DEBOUNCE_MS = 150  # at most so long are changes held back
_TIMEOUT_MS = 500  # look even when nothing was reported: some file systems report nothing


async def changes(folder: Path, stop: asyncio.Event | None = None) -> AsyncIterator[None]:
    """Yield at once, then whenever something in ``folder`` may have changed (at least twice a second).

    Ends when ``stop`` is set. Sub-folders are not watched.
    """
    yield
    # 80 ms of import: not on the event loop.
    watchfiles = await asyncio.to_thread(importlib.import_module, "watchfiles")
    try:
        async for _ in watchfiles.awatch(
            folder,
            recursive=False,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            rust_timeout=_TIMEOUT_MS,
            yield_on_timeout=True,
            stop_event=stop,
            ignore_permission_denied=True,
        ):
            yield
    except (FileNotFoundError, OSError, RuntimeError):
        # The folder is gone or the system's watches are used up: fall back to looking.
        while not (stop and stop.is_set()):
            await asyncio.sleep(_TIMEOUT_MS / 1000)
            yield
