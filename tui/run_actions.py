"""What a person can do with a run from any screen: stop it, resume it, start one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.messages import OperationFailed, RunStarted
from tui.status import RESUMABLE, is_live
from tui.text import clip

if TYPE_CHECKING:
    from textual.app import App

    from tui.run_feed import RunFeed


class RunActions:
    """Carries out the user's wishes in workers; failures become :class:`OperationFailed`.

    Attributes:
        busy: Requests on their way right now, as ``launching demo`` and the like.
    """

    def __init__(self, app: App[Any], feed: RunFeed) -> None:
        self._app = app
        self._feed = feed
        self.busy: list[str] = []

    def stop(self, run_id: str) -> None:
        """Ask whether to stop the run, then do it; a second time offers to stop it without saving."""
        from tui.screens.confirm import ConfirmScreen, Question

        run = self._feed.get(run_id)
        if run is None:
            return
        name = clip(run.name, 40)
        if not is_live(run.status):
            self._app.notify(f"{name} is {run.status}: there is nothing to stop.", markup=False)
            return
        now = run.status == "stopping"
        if now:
            question = Question(
                f"End {name} at once?",
                "It is saving already. Ending it now loses the steps since the last checkpoint.",
                yes="End now",
                danger=True,
            )
        else:
            question = Question(
                f"Stop {name}?",
                f"It is at step {run.step} of {run.steps}. It finishes its step and saves;"
                " resume goes on from there.",
                yes="Stop",
            )

        def answered(yes: bool | None) -> None:
            if yes:
                self._run("Stop", f"stopping {name}", self._stop(run_id, now=now))

        self._app.push_screen(ConfirmScreen(question), answered)

    def resume(self, run_id: str) -> None:
        """Take an ended run up again."""
        run = self._feed.get(run_id)
        if run is None:
            return
        name = clip(run.name, 40)
        if run.status in RESUMABLE:
            self._run("Resume", f"resuming {name}", self._resume(run_id))
        elif run.status == "finished":
            self._app.notify(f"{name} is finished: all {run.steps} steps are done.", markup=False)
        else:
            self._app.notify(f"{name} is {run.status} already.", markup=False)

    def launch(self, config: Path, done: Callable[[bool], None] | None = None) -> None:
        """Start a run of a config file; :class:`RunStarted` follows.

        Args:
            config: The file.
            done: Told at the end whether it was started.
        """
        self._run("Start", f"starting {clip(config.name, 40)}", self._launch(config), done)

    def _run(
        self,
        title: str,
        doing: str,
        work: Coroutine[Any, Any, None],
        done: Callable[[bool], None] | None = None,
    ) -> None:
        self._app.run_worker(
            self._guard(title, doing, work, done), name=doing, group="run-actions", exit_on_error=False
        )

    async def _guard(
        self,
        title: str,
        doing: str,
        work: Coroutine[Any, Any, None],
        done: Callable[[bool], None] | None,
    ) -> None:
        self.busy.append(doing)
        worked = False
        try:
            await work
            worked = True
        except Exception as error:  # LaunchError, ConfigError, or a fault the user must hear of all the same
            self._app.post_message(OperationFailed(f"{title} failed", str(error) or type(error).__name__))
        finally:
            self.busy.remove(doing)
            if done is not None:
                done(worked)

    async def _stop(self, run_id: str, *, now: bool) -> None:
        service = await self._feed.service()
        run = await service.record(run_id)
        await service.launcher(run).stop(run, now=now)

    async def _resume(self, run_id: str) -> None:
        service = await self._feed.service()
        run = await service.record(run_id)
        await service.launcher(run).resume(run)
        self._app.notify(f"{clip(run.name, 40)} goes on.", markup=False)

    async def _launch(self, config: Path) -> None:
        from backend.launchers.base import LaunchRequest

        service = await self._feed.service()
        run = await service.launch(LaunchRequest(config_path=config))
        self._app.post_message(RunStarted(run.id))
