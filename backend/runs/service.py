"""What the screens and the command line ask of runs: list, watch, find, start, stop, resume."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backend.events import Status
from backend.launchers import launcher_for
from backend.launchers.base import Launcher, LaunchRequest, RunState
from backend.runs.commands import Command
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.notes import Notes
from backend.runs.registry import Registry, RunSummary
from backend.runs.stream import EventTail
from backend.runs.view import RunView

_INTERVAL = 0.5  # seconds between looks at the runs that are going on


@dataclass
class _Follower:
    """An active run's events, read incrementally."""

    tail: EventTail
    view: RunView = field(default_factory=RunView)


class RunService:
    """All runs of this user, on every backend.

    Args:
        root: The data folder; ``FLUXLORA_HOME`` or the user's data folder if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.registry = Registry(root)
        self._launchers: dict[str, Launcher] = {}
        self._followers: dict[str, _Follower] = {}
        self._one_reader = threading.Lock()  # tails are read at an offset of their own

    def launcher(self, run: RunRecord | RunSummary | str) -> Launcher:
        """The launcher of a run, or of a backend's name.

        Raises:
            LaunchError: This version has no such backend.
        """
        name = run if isinstance(run, str) else run.backend
        if name not in self._launchers:
            self._launchers[name] = launcher_for(name, self.registry)
        return self._launchers[name]

    async def launch(self, request: LaunchRequest, backend: str = "local") -> RunRecord:
        """Start a new run.

        Raises:
            ConfigError: The config has errors.
            LaunchError: It could not be started.
        """
        return await self.launcher(backend).launch(request)

    async def record(self, run: str) -> RunRecord:
        """The record of a run; see :meth:`record_now`."""
        return await asyncio.to_thread(self.record_now, run)

    def record_now(self, run: str) -> RunRecord:
        """The record of the run that ``run`` (an id, prefix, ``last``, name) means.

        Raises:
            RunNotFoundError: None fits, or several do.
        """
        return self.registry.record(self.registry.find(run))

    async def stop(self, run: RunRecord, *, now: bool = False) -> None:
        """Ask the run to save and stop; see :meth:`backend.launchers.base.Launcher.stop`."""
        await self.launcher(run).stop(run, now=now)

    async def command(self, run: RunRecord, command: Command) -> None:
        """Ask the run's trainer for something; see :meth:`backend.launchers.base.Launcher.command`."""
        await self.launcher(run).command(run, command)

    async def resume(self, run: RunRecord, overrides: Sequence[str] = ()) -> RunRecord:
        """Take the run up again; see :meth:`backend.launchers.base.Launcher.resume`."""
        return await self.launcher(run).resume(run, overrides)

    async def write_notes(self, run: RunRecord, notes: Notes) -> None:
        """Replace what the user has written on the run.

        Raises:
            OSError: It cannot be written.
        """
        await asyncio.to_thread(self.registry.write_notes, run.id, run.path, notes)

    async def list(self) -> Sequence[RunSummary]:
        """Every run, the newest first, as it stands now."""
        return await asyncio.to_thread(self.list_now)

    def list_now(self) -> Sequence[RunSummary]:
        """The same for code without an event loop."""
        with self._one_reader:
            return [self._refresh(run) for run in self.registry.all()]

    async def watch(self) -> AsyncIterator[Sequence[RunSummary]]:
        """The list now, and again whenever something in it has changed."""
        shown: Sequence[RunSummary] | None = None
        while True:
            runs = await self.list()
            if runs != shown:
                shown = runs
                yield runs
            await asyncio.sleep(_INTERVAL)

    def _refresh(self, run: RunSummary) -> RunSummary:
        """The run's summary, read anew if its events have grown or its process may have died."""
        mark = _mark(RunFolder(run.path).events)
        if run.status.ended and mark == run.mark:
            self._followers.pop(run.id, None)
            return run
        record = RunFolder(run.path).read_record()
        if record is None:
            return replace(run, status=Status.INTERRUPTED, reason="the run's record is damaged")
        follower = self._followers.setdefault(run.id, _Follower(EventTail(RunFolder(run.path).events)))
        while events := follower.tail.read():
            follower.view.apply(events)
        view = follower.view
        state = self._judge(record, view)
        dollars, budget = self._money(record, view)
        fresh = replace(
            run,
            steps=view.steps or record.steps,
            status=state.status,
            reason=state.reason,
            step=view.step,
            loss=view.loss,
            seconds_per_step=view.seconds_per_step,
            updated=view.updated or run.created,
            mark=mark if state.settled else "",
            dollars=dollars,
            budget=budget,
        )
        if fresh != run:
            self.registry.save(fresh)
        return fresh

    def _judge(self, record: RunRecord, view: RunView) -> RunState:
        from backend.launchers.base import LaunchError

        try:
            return self.launcher(record).judge(record, view)
        except LaunchError:  # a backend of a newer version
            return RunState(status=view.status, reason=view.reason)

    def _money(self, record: RunRecord, view: RunView) -> tuple[float | None, float | None]:
        """What the run has cost so far, to the cent (a table need not change more often), and its budget."""
        from backend.launchers.base import LaunchError

        try:
            facts = self.launcher(record).facts(record, view)
        except LaunchError:
            return None, None
        return None if facts.dollars is None else round(facts.dollars, 2), facts.budget


def _mark(path: Path) -> str:
    """What changes whenever the file grows or is replaced."""
    try:
        info = path.stat()
    except OSError:
        return ""
    return f"{info.st_size}:{info.st_mtime_ns}"
