"""Waiting, without a screen, until a run that is launched elsewhere needs this machine no more."""

from __future__ import annotations

import asyncio
import sys

from backend.events import Event, PhaseEvent
from backend.launchers.base import RunState
from tui.cli.progress import ProgressLine
from tui.cli.report import printable
from tui.cli.watching import RunWatch

_INTERVAL = 0.25  # seconds between two looks
_IN_BYTES = ("uploading", "downloading base model")  # phases that count bytes

HANDED_OVER = "handed to Modal: you may close this computer"


async def wait_until_safe(watch: RunWatch) -> RunState | None:
    """Tell the launch's phases on standard error until it is safe to switch this machine off.

    Returns:
        None once it is; else how the run ended before.
    """
    teller = _Phases()
    try:
        while True:
            events, state, facts = await asyncio.to_thread(watch.look)
            for event in events:
                teller.tell(event)
            if state.status.ended:
                return state
            if facts.safe_to_close or not facts.remote:
                return None
            await asyncio.sleep(_INTERVAL)
    finally:
        teller.close()


class _Phases:
    """One line a phase, and how far it is where that counts bytes."""

    def __init__(self) -> None:
        self._phase = ""
        self._line: ProgressLine | None = None

    def tell(self, event: Event) -> None:
        if not isinstance(event, PhaseEvent):
            return
        if event.phase != self._phase:
            self.close()
            self._phase = event.phase
            detail = f": {event.detail}" if event.detail else ""
            print(printable(f"{event.phase}{detail}"), file=sys.stderr, flush=True)
            self._line = ProgressLine(f"  {event.phase}") if event.phase in _IN_BYTES else None
        if self._line is not None:
            self._line(event.done, event.total)

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
