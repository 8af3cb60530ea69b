"""Follows one run: its events and its log, in portions that keep the screen lively."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.events import Event
    from backend.launchers.base import Launcher, RunState
    from backend.runs.folder import RunRecord
    from tui.services import Runs

_PORTION = 2_000  # events handed over at once: a few milliseconds of work


class RunFollower:
    """One run's streams; keeps their offsets, so following goes on where it ended.

    Args:
        run_id: The run.
        on_events: Gets events in order.
        on_log: Gets the log's bytes in order.
    """

    def __init__(
        self,
        run_id: str,
        on_events: Callable[[Sequence[Event]], None],
        on_log: Callable[[bytes], None],
    ) -> None:
        self.run_id = run_id
        self._on_events = on_events
        self._on_log = on_log
        self._event_offset = 0
        self._log_offset = 0
        self._record: RunRecord | None = None

    async def _open(self, service: Runs) -> tuple[RunRecord, Launcher]:
        if self._record is None:
            self._record = await service.record(self.run_id)
        return self._record, service.launcher(self._record)

    async def events(self, service: Runs) -> RunState:
        """Hand over events until the run has ended; returns how it stands then.

        Raises:
            Exception: The run is not known, or its launcher cannot reach it.
        """
        record, launcher = await self._open(service)
        async for batch in launcher.events(record, self._event_offset):
            for start in range(0, len(batch.events), _PORTION):
                self._on_events(batch.events[start : start + _PORTION])
                await asyncio.sleep(0)  # a long history must not hold up keys
            self._event_offset = batch.offset
        return await launcher.status(record)

    async def log(self, service: Runs) -> None:
        """Hand over the log until the run has ended.

        Raises:
            Exception: The run is not known, or its launcher cannot reach it.
        """
        record, launcher = await self._open(service)
        async for chunk in launcher.logs(record, self._log_offset):
            self._on_log(chunk.data)
            self._log_offset = chunk.offset
            await asyncio.sleep(0)
