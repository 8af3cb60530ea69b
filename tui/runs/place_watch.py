"""What a run's launcher knows of the place where it trains, looked up about once a second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui.runs.gpu_fallback import gpus_of, others

if TYPE_CHECKING:
    from backend.launchers.base import RunFacts
    from backend.runs.view import RunView
    from tui.services import Runs

INTERVAL = 1.0
"""Seconds between two looks."""


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        facts: What the launcher knows.
        other_gpus: GPUs that the run could wait for too, while it waits for one.
    """

    facts: RunFacts
    other_gpus: tuple[str, ...] = ()


class PlaceWatch:
    """Looks at one run's place.

    Args:
        run_id: The run.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    async def look(self, service: Runs, view: RunView, *, waiting: bool) -> Look:
        """Look now.

        Args:
            service: The runs.
            view: What the run has said; copied, so that it may go on changing meanwhile.
            waiting: Whether it waits for a GPU, so that others are worth knowing.

        Raises:
            Exception: The run is gone, or its launcher does not know it.
        """
        run = await service.record(self.run_id)
        still = replace(view, containers=dict(view.containers))
        facts = await asyncio.to_thread(service.launcher(run).facts, run, still)
        more: tuple[str, ...] = ()
        if waiting and facts.remote:  # read anew each time: a relaunch may have added some
            more = others(await asyncio.to_thread(gpus_of, run.path / "config.yaml"))
        return Look(facts, more)
