"""The command palette's entries: about runs everywhere, a screen's own where it has some."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from tui.runs.status import RESUMABLE, is_live
from tui.text import clip

if TYPE_CHECKING:
    from collections.abc import Callable

    from tui.app import FluxLoraApp

_SHOWN = 5  # entries offered before anything is typed


class Command(NamedTuple):
    """One entry; ``title`` is plain text, whatever the run's name holds."""

    title: str
    help: str
    run: Callable[[], Any]


class Commands(Provider):
    """Entries that are made when the palette asks, found by their titles."""

    def _commands(self) -> Iterator[Command]:
        raise NotImplementedError

    async def discover(self) -> Hits:
        """The first ones."""
        for command, _ in zip(self._commands(), range(_SHOWN), strict=False):
            yield DiscoveryHit(Content(command.title), command.run, text=command.title, help=command.help)

    async def search(self, query: str) -> Hits:
        """Every entry that fits."""
        matcher = self.matcher(query)
        for command in self._commands():
            score = matcher.match(command.title)
            if score > 0:
                # Content, not a string: the palette would read a string as markup.
                yield Hit(score, Content(command.title), command.run, text=command.title, help=command.help)


class RunCommands(Commands):
    """Open, stop, resume, download or delete any run by its name, the newest first."""

    def _commands(self) -> Iterator[Command]:
        app = cast("FluxLoraApp", self.app)
        for run in app.feed.runs:
            name = f"{clip(run.name, 40)} ({run.id})"
            yield Command(
                f"Open run {name}",
                f"Watch it in the monitor; it is {run.status}.",
                partial(app.open_run, run.id),
            )
            if is_live(run.status):
                yield Command(
                    f"Stop run {name}", "Save it and stop it; asks first.", partial(app.actions.stop, run.id)
                )
            else:
                yield Command(
                    f"Delete run {name}",
                    "All that it has made, here and on Modal; asks first.",
                    partial(app.actions.delete, run.id),
                )
            if run.backend != "local":
                yield Command(
                    f"Bring home run {name}",
                    "Download its newest LoRA and its pictures.",
                    partial(app.actions.downloads.start, run.id),
                )
            if run.status in RESUMABLE:
                yield Command(
                    f"Resume run {name}", f"Go on after step {run.step}.", partial(app.actions.resume, run.id)
                )
