"""What is done with several runs at once; asked about once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tui.messages import OperationFailed
from tui.runs.status import is_live
from tui.text import clip, plural

if TYPE_CHECKING:
    from textual.app import App

    from tui.runs.feed import RunFeed
    from tui.services import RunRow, Runs

_NAMED = 6  # runs that a question names


class BulkActions:
    """Stops, deletes and puts away several runs.

    Args:
        app: Asks, and runs the workers.
        feed: The runs.
    """

    def __init__(self, app: App[Any], feed: RunFeed) -> None:
        self._app = app
        self._feed = feed

    def stop(self, runs: Sequence[RunRow], done: Callable[[], None]) -> None:
        """Ask whether to save and stop those that go on, then do it."""
        live = [run for run in runs if is_live(run.status)]
        text = "Each finishes its step and saves; resume goes on from there."
        self._ask("Stop", live, text, _stop, done, danger=False)

    def delete(self, runs: Sequence[RunRow], done: Callable[[], None]) -> None:
        """Ask whether to delete those that have ended, with all their files, then do it."""
        ended = [run for run in runs if not is_live(run.status)]
        text = "All that they have made goes for good, LoRAs and pictures too, here and on Modal."
        self._ask("Delete", ended, text, _delete, done, danger=True)

    def archive(self, runs: Sequence[RunRow], archived: bool, done: Callable[[], None]) -> None:
        """Put runs away, or take them back; nothing is asked, since nothing is lost."""

        async def change(service: Runs, run: RunRow) -> None:
            from backend.runs.notes import read_notes

            record = await service.record(run.id)
            notes = await asyncio.to_thread(read_notes, record.path)
            await service.write_notes(record, replace(notes, archived=archived))

        self._start("Archive" if archived else "Take back", list(runs), change, done)

    def _ask(
        self,
        verb: str,
        runs: list[RunRow],
        text: str,
        act: Callable[[Runs, RunRow], Awaitable[None]],
        done: Callable[[], None],
        *,
        danger: bool,
    ) -> None:
        from tui.screens.confirm import ConfirmScreen, Question

        if not runs:
            self._app.notify(f"{verb}: none of the marked runs can be.", markup=False)
            return
        names = ", ".join(clip(run.name, 24) for run in runs[:_NAMED])
        more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
        question = Question(
            f"{verb} {plural(len(runs), 'run')}?", f"{names}{more}. {text}", yes=verb, danger=danger
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._start(verb, runs, act, done)

        self._app.push_screen(ConfirmScreen(question), answered)

    def _start(
        self,
        verb: str,
        runs: list[RunRow],
        act: Callable[[Runs, RunRow], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        self._app.run_worker(
            self._do(verb, runs, act, done), name=verb, group="bulk-actions", exit_on_error=False
        )

    async def _do(
        self,
        verb: str,
        runs: list[RunRow],
        act: Callable[[Runs, RunRow], Awaitable[None]],
        done: Callable[[], None],
    ) -> None:
        failed = []
        for run in runs:  # one after the other: the failure of one leaves the rest alone
            try:
                await act(await self._feed.service(), run)
            except Exception as error:
                failed.append(f"{clip(run.name, 24)}: {error or type(error).__name__}")
        await self._feed.refresh()
        worked = len(runs) - len(failed)
        if failed:
            self._app.post_message(
                OperationFailed(f"{verb}: {len(failed)} failed", "; ".join(failed[:_NAMED]))
            )
        if worked:
            self._app.notify(f"{verb}: {plural(worked, 'run')}.", markup=False)
        done()


async def _stop(service: Runs, run: RunRow) -> None:
    record = await service.record(run.id)
    await service.launcher(record).stop(record)


async def _delete(service: Runs, run: RunRow) -> None:
    record = await service.record(run.id)
    await service.launcher(record).delete(record)
