"""While a run waits for a GPU: how long already, and what stands before it."""

from __future__ import annotations

import asyncio
import time

from backend.events import Phase, Status
from backend.launchers.modal.gateway import Gateway
from backend.launchers.modal.journal import Journal
from backend.launchers.modal.remote import RemoteError
from backend.launchers.modal.voice import Voice
from backend.runs.view import RunView

_EVERY = 5.0
_SLOWLY = 20.0  # after some minutes
_SOON = 240.0


class QueueWatch:
    """Tells of the queue as long as no container has taken the run up."""

    def __init__(self, gateway: Gateway, journal: Journal, voice: Voice) -> None:
        self._gateway = gateway
        self._journal = journal
        self._voice = voice

    async def run(self, view: RunView, ready: asyncio.Event) -> None:
        """Watch until cancelled, from when it is ``ready``; also between two containers."""
        await ready.wait()
        began: float | None = None
        told = 0.0
        while True:
            if view.status is not Status.QUEUED:
                began = None
            else:
                began = began or time.time()
                waited = time.time() - began
                if time.time() - told >= (_EVERY if waited < _SOON else _SLOWLY):
                    told = time.time()
                    await self._tell(waited, view)
            await asyncio.sleep(0.5)

    async def _tell(self, waited: float, view: RunView) -> None:
        gpus = ", then ".join(self._journal.gpu) or "a container"
        if self._journal.function_id is None:
            self._voice.phase(Phase.WAITING, int(waited), 0, gpus)
            return
        try:
            queue = await self._gateway.queue(self._journal.function_id)
        except RemoteError:
            return  # offline is told by others
        if view.status is not Status.QUEUED:
            return  # it has begun meanwhile
        if queue.runners:
            self._voice.phase(Phase.BOOTING, int(waited), 0, gpus)
        else:
            others = f", {queue.backlog} calls wait" if queue.backlog > 1 else ""
            self._voice.phase(Phase.WAITING, int(waited), 0, gpus + others)
