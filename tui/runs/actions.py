"""What a person can do with a run from any screen: start, stop, resume, extend and delete it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.messages import OperationFailed, RunStarted
from tui.runs.bulk_actions import BulkActions
from tui.runs.downloads import Downloads
from tui.runs.requests import TrainerRequests
from tui.runs.status import RESUMABLE, is_live
from tui.text import clip, plural, size

if TYPE_CHECKING:
    from textual.app import App

    from backend.runs.notes import Notes
    from tui.runs.feed import RunFeed
    from tui.services import RunRow

_END_PATIENCE = 60.0  # seconds for a launch to be taken back


class RunActions:
    """Carries out the user's wishes in workers; failures become :class:`OperationFailed`.

    Attributes:
        busy: What is on its way right now, as ``launching demo`` and the like.
        requests: What trainers are asked for.
        downloads: Files that are being brought home.
        bulk: What is done with several runs at once.
        notes: What the user wrote on runs, as far as it was read.
    """

    def __init__(self, app: App[Any], feed: RunFeed) -> None:
        self._app = app
        self._feed = feed
        self.busy: list[str] = []
        self.requests = TrainerRequests(app, feed, self._run)
        self.downloads = Downloads(app, feed)
        self.bulk = BulkActions(app, feed)
        self.notes: dict[str, Notes] = {}

    def stop(self, run_id: str, *, now: bool = False) -> None:
        """Ask whether to stop the run, then do it; ``now``, or the second time, without saving."""
        from tui.screens.confirm import ConfirmScreen, Question

        run = self._feed.get(run_id)
        if run is None:
            return
        name = clip(run.name, 40)
        if not is_live(run.status):
            self._app.notify(f"{name} is {run.status}: there is nothing to stop.", markup=False)
            return
        saving = run.status == "stopping"
        now = now or saving
        if now:
            already = "It is saving already. " if saving else ""
            lost = "the picture in hand" if run.kind == "caption" else "the steps since the last checkpoint"
            question = Question(
                f"End {name} at once?",
                f"{already}Ending it now loses {lost}.",
                yes="End now",
                danger=True,
            )
        elif run.kind == "caption":
            question = Question(
                f"Stop {name}?",
                f"{run.step} of {run.steps} pictures are done. It stops after the next; resume goes on.",
                yes="Stop",
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
            what = "pictures" if run.kind == "caption" else "steps"
            self._app.notify(f"{name} is finished: all {run.steps} {what} are done.", markup=False)
        else:
            self._app.notify(f"{name} is {run.status} already.", markup=False)

    def only_captions(self, run: RunRow, what: str) -> bool:
        """Whether the run captions pictures; says then that there is nothing to ``what``."""
        if run.kind != "caption":
            return False
        name = clip(run.name, 40)
        self._app.notify(f"{name}: a captioning job has no training to {what}.", markup=False)
        return True

    def launch(
        self,
        config: Path,
        done: Callable[[bool], None] | None = None,
        *,
        backend: str = "local",
        overrides: Sequence[str] = (),
        instead_of: str | None = None,
    ) -> None:
        """Start a run of a config file; :class:`RunStarted` follows.

        Args:
            config: The file.
            done: Told at the end whether it was started.
            backend: Where it trains.
            overrides: ``key.path=value``, over what the file says.
            instead_of: An ended run that is deleted once the new one has been started.
        """
        work = self._launch(config, backend, tuple(overrides), instead_of)
        self._run("Start", f"starting {clip(config.name, 40)}", work, done)

    def launch_all(self, config: Path, each: Sequence[Sequence[str]], *, backend: str = "local") -> None:
        """Start several runs of one config file, one after the other; the first that fails ends it.

        Args:
            config: The file.
            each: For each run its ``key.path=value``, the name among them.
            backend: Where they train.
        """
        work = self._launch_all(config, backend, [tuple(one) for one in each])
        self._run("Start", f"starting {len(each)} runs of {clip(config.name, 40)}", work)

    def new_run(self, backend: str, path: str = "") -> None:
        """Ask for a config file, then train it.

        Args:
            backend: Where, unless the user says otherwise.
            path: The file, if it is known.
        """
        from tui.screens.new_run import NewRun, NewRunScreen

        def answered(run: NewRun | None) -> None:
            if run is not None:
                self.launch(run.config, backend=run.backend, overrides=run.overrides)

        self._app.push_screen(NewRunScreen(backend, path), answered)

    def extend(self, run_id: str) -> None:
        """Ask for a new total of steps; a run that goes on is told, an ended one is resumed with it."""
        from tui.screens.ask_number import NumberScreen

        run = self._feed.get(run_id)
        if run is None or self.only_captions(run, "extend"):
            return
        live = is_live(run.status)
        how = "It is told at once." if live else f"It is {run.status}: it is resumed with the new total."
        text = f"It is at step {run.step} of {run.steps}. {how}\n\nNew total of steps:"
        name = clip(run.name, 40)

        def answered(steps: int | None) -> None:
            if steps is None or (live and steps == run.steps):
                return
            if live:
                self.requests.ask(run_id, "extend", steps)
            else:
                self._run("Extend", f"resuming {name}", self._resume(run_id, (f"train.steps={steps}",)))

        self._app.push_screen(NumberScreen(f"Extend {name}", text, run.steps, run.step + 1), answered)

    def delete(self, run_id: str, done: Callable[[], None] | None = None) -> None:
        """Ask whether to delete an ended run with all that it has made, then do it; ``done`` is told then."""
        run = self._feed.get(run_id)
        if run is None:
            return
        name = clip(run.name, 40)
        if is_live(run.status):
            self._app.notify(f"{name} is {run.status}: stop it before it is deleted.", markup=False)
            return
        self._run("Delete", f"deleting {name}", self._delete(run, name, done))

    def write_notes(self, run_id: str, notes: Notes) -> None:
        """Store what the user writes on a run."""
        self.notes[run_id] = notes
        self._run("Note", "storing a note", self._write_notes(run_id, notes))

    def add_gpus(self, run_id: str, more: Sequence[str]) -> None:
        """Ask whether to wait for other GPUs too, then launch the waiting run again with them at the end."""
        from tui.screens.confirm import ConfirmScreen, Question

        run = self._feed.get(run_id)
        if run is None or not more:
            return
        name = clip(run.name, 40)
        question = Question(
            f"Try {' and '.join(more)} too?",
            f"The launch of {name} is taken back and made again, with {' and '.join(more)} after the GPUs of "
            "its config. What is uploaded stays there.",
            yes="Launch again",
        )

        def answered(yes: bool | None) -> None:
            if yes:
                work = self._relaunch(run_id, run.path / "config.yaml", tuple(more))
                self._run("Launch", f"launching {name} again", work)

        self._app.push_screen(ConfirmScreen(question), answered)

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

    async def _resume(self, run_id: str, overrides: Sequence[str] = ()) -> None:
        service = await self._feed.service()
        run = await service.record(run_id)
        await service.launcher(run).resume(run, overrides)
        self._app.notify(f"{clip(run.name, 40)} goes on.", markup=False)

    async def _write_notes(self, run_id: str, notes: Notes) -> None:
        service = await self._feed.service()
        await service.write_notes(await service.record(run_id), notes)
        await self._feed.refresh()

    async def _delete(self, row: RunRow, name: str, done: Callable[[], None] | None) -> None:
        from tui.screens.confirm import ConfirmScreen, Question

        service = await self._feed.service()
        run = await service.record(row.id)
        launcher = service.launcher(run)
        files = await launcher.files(run)
        loras = sum(file.path.endswith(".safetensors") for file in files)
        amount = f"{plural(len(files), 'file')} ({size(sum(file.bytes for file in files))})"
        elsewhere = ", and its folder on Modal's volume" if row.backend == "modal" else ""
        question = Question(
            f"Delete {name} for good?",
            f"{amount}, {plural(loras, 'LoRA')} among them: all that is in {run.path}{elsewhere}.",
            yes="Delete",
            danger=True,
        )
        if await self._app.push_screen_wait(ConfirmScreen(question)):
            await launcher.delete(run)
            await self._feed.refresh()
            self._app.notify(f"{name} is deleted.", markup=False)
            if done is not None:
                done()

    async def _relaunch(self, run_id: str, config: Path, more: tuple[str, ...]) -> None:
        from backend.launchers.base import LaunchError
        from tui.runs.gpu_fallback import gpus_of

        service = await self._feed.service()
        run = await service.record(run_id)
        launcher = service.launcher(run)
        gpus = (*await asyncio.to_thread(gpus_of, config), *more)
        await launcher.stop(run, now=True)  # it waits: there is nothing to save
        try:
            async with asyncio.timeout(_END_PATIENCE):
                async for _ in launcher.events(run):
                    pass  # they end when it has
        except TimeoutError:
            raise LaunchError("the launch could not be taken back in time; the run waits as before") from None
        await launcher.resume(run, (f"modal.gpu={','.join(gpus)}",))

    async def _launch(
        self, config: Path, backend: str, overrides: tuple[str, ...], instead_of: str | None = None
    ) -> None:
        from backend.launchers.base import LaunchRequest

        service = await self._feed.service()
        run = await service.launch(LaunchRequest(config_path=config, overrides=overrides), backend)
        if instead_of is not None:
            old = await service.record(instead_of)
            await service.launcher(old).delete(old)
        self._app.post_message(RunStarted(run.id))

    async def _launch_all(self, config: Path, backend: str, each: list[tuple[str, ...]]) -> None:
        from backend.launchers.base import LaunchError, LaunchRequest

        service = await self._feed.service()
        last = ""
        for number, overrides in enumerate(each, 1):
            request = LaunchRequest(config_path=config, overrides=overrides)
            try:
                last = (await service.launch(request, backend)).id
            except LaunchError as error:
                raise LaunchError(f"run {number} of {len(each)}: {error}") from error
        self._app.notify(f"{len(each)} runs are started.", markup=False)
        self._app.post_message(RunStarted(last))
