"""Notices that a run which says it goes on does not: steps that stop coming, or no word at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.runs.notices import Notice
from tui.runs.status import is_live
from tui.text import clip

if TYPE_CHECKING:
    from tui.services import RunRow

LOOK = 15.0
"""Seconds between two looks at the runs."""

_LEAST = 60.0  # seconds without an event before a run's own events are worth reading
_AGAIN = 60.0  # seconds until the events of a quiet run are read again


class SilenceWatch:
    """Looks at the clock for runs that nobody looks at; tells of each silence once."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}  # the last event before the silence that was told
        self._read: dict[str, float] = {}  # when the events were read last

    async def news(self, runs: Sequence[RunRow], now: float) -> list[Notice]:
        """The silences that began since the last call.

        Args:
            runs: The table of runs.
            now: Seconds since 1970.
        """
        known = {run.id for run in runs}
        self._told = {run: t for run, t in self._told.items() if run in known}
        self._read = {run: t for run, t in self._read.items() if run in known}
        found = []
        for run in runs:
            quiet = now - run.updated
            if not is_live(run.status) or str(run.status) == "queued" or not run.updated or quiet < _LEAST:
                continue
            if self._told.get(run.id) == run.updated or now - self._read.get(run.id, 0.0) < _AGAIN:
                continue
            self._read[run.id] = now
            text = await asyncio.to_thread(_why_quiet, run, now)
            if text:
                self._told[run.id] = run.updated
                found.append(Notice(clip(run.name, 40), text, "warning"))
        return found


def _why_quiet(run: RunRow, now: float) -> str | None:
    """What the watchdog says of a run's silence; None if it is in order. Reads the run's events."""
    from backend.runs.folder import RunFolder
    from backend.runs.tail import read_view
    from backend.runs.watchdog import alarms

    try:
        view = read_view(RunFolder(run.path))
    except OSError:  # it is being deleted
        return None
    found = [alarm for alarm in alarms(view, str(run.status), now) if alarm.kind in ("stall", "silence")]
    return f"{found[0].text} {found[0].hint}" if found else None
