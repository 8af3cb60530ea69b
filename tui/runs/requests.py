"""What trainers are asked for while they train: on its way, answered, or never to be answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tui.runs.status import is_live
from tui.text import clip, duration

if TYPE_CHECKING:
    from textual.app import App

    from backend.events import CommandEvent
    from tui.runs.feed import RunFeed
    from tui.services import RunRow

Kind = Literal["save", "sample", "extend"]
WORDS: dict[str, str] = {
    "save": "save a checkpoint",
    "sample": "draw samples",
    "extend": "change its number of steps",
}
"""What a command asks for, after "asked to"."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        run_id: The run.
        name: Its name.
        kind: The command's kind.
        at: Seconds since 1970.
    """

    run_id: str
    name: str
    kind: str
    at: float

    @property
    def words(self) -> str:
        """What was asked for, after "asked to"."""
        return WORDS.get(self.kind, self.kind)


class TrainerRequests:
    """Requests that were sent and not answered yet.

    Args:
        app: Shows messages.
        feed: The runs.
        run: Does something in a worker: a title for its failure, what is being done, the work.
    """

    def __init__(
        self, app: App[Any], feed: RunFeed, run: Callable[[str, str, Coroutine[Any, Any, None]], None]
    ) -> None:
        self._app = app
        self._feed = feed
        self._run = run
        self._open: dict[str, Asked] = {}

    def ask(self, run_id: str, kind: Kind, steps: int | None = None) -> None:
        """Ask the trainer of a run that goes on for something; ``steps`` is the new total of ``extend``."""
        run = self._feed.get(run_id)
        if run is None:
            return
        name = clip(run.name, 40)
        if run.kind == "caption":
            self._app.notify(f"{name}: a captioning job has nothing to {kind}.", markup=False)
        elif is_live(run.status):
            self._run("Request", f"asking {name}", self._send(run, kind, steps))
        else:
            self._app.notify(f"{name} is {run.status}: there is nobody to {WORDS[kind]}.", markup=False)

    async def _send(self, row: RunRow, kind: Kind, steps: int | None) -> None:
        from backend.runs.commands import Command

        command = Command(kind=kind, steps=steps)
        self._open[command.id] = Asked(row.id, row.name, kind, time.time())
        try:
            service = await self._feed.service()
            run = await service.record(row.id)
            await service.launcher(run).command(run, command)
        except BaseException:
            self._open.pop(command.id, None)
            raise

    def sentence(self, run_id: str) -> str:
        """What a run was asked for, for its header; empty if nothing is open."""
        asked = [asked for asked in self._open.values() if asked.run_id == run_id]
        if not asked:
            return ""
        what = " and to ".join(dict.fromkeys(one.words for one in asked))
        waited = time.time() - min(one.at for one in asked)
        ago = f" {duration(waited)} ago" if waited >= 5 else ""
        return f"asked to {what}{ago}; it answers between two steps"

    def answered(self, event: CommandEvent) -> None:
        """Show a trainer's answer, if somebody in this session asked."""
        asked = self._open.pop(event.id, None)
        if asked is None:
            return
        detail = event.detail or ("done" if event.ok else "no reason was given")
        self._app.notify(
            detail if event.ok else f"Could not {asked.words}: {detail}",
            title=f"{clip(asked.name, 40)}: {asked.kind}",
            severity="information" if event.ok else "warning",
            timeout=8,
            markup=False,
        )

    def ended(self, run_id: str) -> None:
        """A run has ended: what it did not answer will not be done."""
        for key, asked in list(self._open.items()):
            if asked.run_id == run_id:
                del self._open[key]
                self._app.notify(
                    f"It ended before it could {asked.words}.",
                    title=clip(asked.name, 40),
                    severity="warning",
                    markup=False,
                )
