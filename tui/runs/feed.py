"""The one place that watches the runs for the whole app."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.signal import Signal

from tui.messages import RunsChanged
from tui.runs.cache import load_runs, save_runs
from tui.runs.status import is_live

if TYPE_CHECKING:
    from textual.app import App

    from tui.services import RunRow, Runs, RunsFactory

_RETRY = 3.0  # seconds until the watch is tried again
_CACHE_EVERY = 10.0  # seconds between two writes of the remembered table


class RunFeed:
    """All runs as they are now, for every screen.

    Attributes:
        changed: Published with a :class:`RunsChanged` whenever the table has new content.
        runs: The table, newest run first.
        live: False while ``runs`` is what the last session remembered.
        error: Why the runs cannot be read, or None.
        herald: Told of each change whatever screen is shown: signals reach only what is on one.
    """

    def __init__(self, app: App[Any], factory: RunsFactory, cache: Path) -> None:
        self.changed: Signal[RunsChanged] = Signal(app, "runs-changed")
        self.runs: tuple[RunRow, ...] = load_runs(cache)
        self.live = False
        self.error: str | None = None
        self.herald: Callable[[RunsChanged], None] | None = None
        self._factory = factory
        self._cache = cache
        self._cached: tuple[RunRow, ...] = self.runs
        self._cached_at = 0.0
        self._service: asyncio.Future[Runs] | None = None

    async def service(self) -> Runs:
        """The backend's service, made in a thread the first time.

        Raises:
            Exception: Whatever kept it from being made; the next call tries again.
        """
        if self._service is None or (self._service.done() and self._service.exception()):
            self._service = asyncio.ensure_future(asyncio.to_thread(self._factory))
        return await asyncio.shield(self._service)

    def get(self, run_id: str) -> RunRow | None:
        """The row of one run."""
        return next((run for run in self.runs if run.id == run_id), None)

    @property
    def going(self) -> list[RunRow]:
        """The runs that go on by themselves."""
        return [run for run in self.runs if is_live(run.status)] if self.live else []

    async def watch(self) -> None:
        """Keep ``runs`` up to date until cancelled, whatever happens to the registry meanwhile."""
        while True:
            try:
                service = await self.service()
                self._take(await service.list())
                async for runs in service.watch():
                    self._take(runs)
                    await self._remember(soon=False)
            except Exception as error:
                reason = str(error) or type(error).__name__
                if reason != self.error:
                    self.error = reason
                    self.publish()
            await asyncio.sleep(_RETRY)

    async def refresh(self, patience: float = 0.5) -> None:
        """Look at the runs at once, for whoever must not act on a table that is a moment old.

        Args:
            patience: Seconds after which the table has to do as it is.
        """
        with contextlib.suppress(Exception):  # the watch reports what is wrong
            async with asyncio.timeout(patience):
                self._take(await (await self.service()).list())

    def publish(self) -> None:
        """Tell the screens what the table holds."""
        change = RunsChanged(self.runs, self.live)
        self.changed.publish(change)
        if self.herald is not None:
            self.herald(change)

    def _take(self, runs: Sequence[RunRow]) -> None:
        rows = tuple(runs)
        first, self.live, self.error = not self.live or self.error is not None, True, None
        if first or rows != self.runs:
            self.runs = rows
            self.publish()

    async def _remember(self, *, soon: bool) -> None:
        now = time.monotonic()
        if not self.live or self.runs == self._cached or (not soon and now - self._cached_at < _CACHE_EVERY):
            return
        self._cached, self._cached_at = self.runs, now
        with contextlib.suppress(OSError):  # only a convenience for the next start
            await asyncio.to_thread(save_runs, self._cache, self.runs)

    async def close(self) -> None:
        """Remember the table for the next session."""
        await self._remember(soon=True)
