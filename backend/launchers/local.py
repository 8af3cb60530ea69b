"""Training on this machine, in a process of its own that outlives the app and the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from backend.captioning.runs import CAPTION, ends_elsewhere, go_on, refuse
from backend.credentials.hf_token import find_hf_token
from backend.events import CommandEvent, Status, StatusEvent
from backend.launchers.base import (
    EventBatch,
    LaunchError,
    LaunchRequest,
    LogChunk,
    RunFacts,
    RunFile,
    RunState,
)
from backend.launchers.process import ask_to_stop, is_alive, kill, spawn_detached
from backend.launchers.resuming import need_an_end, need_something_to_do
from backend.runs import commands
from backend.runs.commands import Command
from backend.runs.files import copy_file
from backend.runs.folder import RunFolder, RunRecord, new_run_id
from backend.runs.registry import Registry
from backend.runs.stream import EventWriter
from backend.runs.tail import follow_events, follow_log, list_files, read_view
from backend.runs.view import RunView
from config.load import LoadedConfig, load_config

_GRACE = 20.0  # seconds that a run may be without a process while it is being started


class LocalLauncher:
    """The launcher of this machine; see :class:`backend.launchers.base.Launcher`.

    Args:
        registry: Where runs are entered.
        trainer: The command that trains, without its last argument, the run's folder.
    """

    name = "local"

    # -P: the run's folder, which is the working folder, must not be searched for modules.
    TRAINER = (sys.executable, "-P", "-m", "backend.trainer")

    def __init__(self, registry: Registry, trainer: Sequence[str] | None = None) -> None:
        self.registry = registry
        self._trainer = tuple(trainer or self.TRAINER)

    # Starting

    async def launch(self, request: LaunchRequest) -> RunRecord:
        """Start a new run; its config is checked first and copied into the run's folder."""
        return await asyncio.to_thread(self._launch, request)

    def _launch(self, request: LaunchRequest) -> RunRecord:
        loaded = load_config(request.config_path, request.overrides)
        self._need_the_train_extra()
        process = loaded.config.process
        run_id = new_run_id()
        try:
            with self.registry.exclusive():
                folder = RunFolder(self.registry.place(run_id, loaded.config.name, process.training_folder))
                folder.create()
            record = RunRecord(
                id=run_id,
                name=loaded.config.name,
                backend=self.name,
                steps=process.train.steps,
                path=folder.path,
            )
            self._write_config(folder, loaded)
            folder.write_record(record)
            self.registry.add(record)
            return self._start(folder, record, request.config_path.absolute().parent)
        except OSError as error:
            raise LaunchError(
                f"the run's folder could not be made: {error.strerror or error}: {error.filename}"
            ) from error

    @staticmethod
    def _need_the_train_extra() -> None:
        from importlib.util import find_spec

        missing = [name for name in ("torch", "diffusers", "transformers", "peft") if find_spec(name) is None]
        if missing:
            raise LaunchError(
                f"training on this machine needs {', '.join(missing)}: pip install 'fluxlora-tui[train]'"
            )

    @staticmethod
    def _write_config(folder: RunFolder, loaded: LoadedConfig) -> None:
        from backend.files import write_text

        write_text(folder.config, f"# Run config, resolved from {loaded.path.name}\n" + loaded.dump())

    def _start(self, folder: RunFolder, record: RunRecord, project: Path) -> RunRecord:
        """Start the trainer's process. The caller has made sure that none runs.

        It gets the Hugging Face token that wins for ``project``, wherever that stands.
        """
        folder.stop_file.unlink(missing_ok=True)
        with EventWriter(folder.events) as writer:
            for letter in commands.waiting(folder.control):  # the process that they were sent to is gone
                why = "the run had ended; it was started again"
                writer.write(CommandEvent(id=letter.id, kind=letter.kind or "unknown", ok=False, detail=why))
                letter.path.unlink(missing_ok=True)
            writer.write(StatusEvent(status=Status.QUEUED))
        environment = dict(os.environ)
        if token := find_hf_token(environment, project):
            environment["HF_TOKEN"] = token.token.reveal()
        handle = spawn_detached(
            (*self._trainer, str(folder.path)), log=folder.log, folder=folder.path, environment=environment
        )
        record = record.with_handle(**handle)
        folder.write_record(record)
        return record

    async def resume(self, run: RunRecord, overrides: Sequence[str] = ()) -> RunRecord:
        """Take an ended run up again from its last resume state (from the start if it has none)."""
        return await asyncio.to_thread(self._resume, run, tuple(overrides))

    def _resume(self, run: RunRecord, overrides: Sequence[str]) -> RunRecord:
        folder = RunFolder(run.path)
        with self.registry.exclusive():
            run = folder.read_record() or run
            view = read_view(folder)
            state = self.judge(run, view)
            need_an_end(run, state)
            if run.kind == CAPTION:
                return go_on(run, state, overrides)
            loaded = load_config(folder.config, overrides)
            need_something_to_do(run, view, state, loaded)
            steps = loaded.config.process.train.steps
            self._need_the_train_extra()
            try:
                if overrides:
                    self._write_config(folder, loaded)
                return self._start(folder, replace(run, steps=steps), Path.cwd())
            except OSError as error:
                raise LaunchError(f"run {run.id} could not be resumed: {error.strerror or error}") from error

    # Following

    def judge(self, run: RunRecord, view: RunView) -> RunState:
        """What the run's last word means, given whether its process lives."""
        if view.status.ended:
            return RunState(status=view.status, reason=view.reason)
        if is_alive(run.handle):
            return RunState(status=view.status, reason=view.reason)
        folder = RunFolder(run.path)
        current = folder.read_record()  # resumed by another process since we read the record?
        if current is not None and current.handle != run.handle and is_alive(current.handle):
            return RunState(status=view.status, reason=view.reason)
        if not (current and current.handle) and time.time() - max(run.created, view.updated) < _GRACE:
            return RunState(status=view.status, reason=view.reason)
        # The process may have spoken its last word after ``view`` was read.
        latest = read_view(folder)
        if latest.status.ended:
            return RunState(status=latest.status, reason=latest.reason)
        return RunState(status=Status.INTERRUPTED, reason=_why_gone(folder, run))

    def facts(self, run: RunRecord, view: RunView) -> RunFacts:
        """It trains here, costs nothing, and ends with the machine."""
        return RunFacts(where="this machine", safe_to_close=False)

    async def status(self, run: RunRecord) -> RunState:
        """The run's status now."""
        return await asyncio.to_thread(lambda: self.judge(run, read_view(RunFolder(run.path))))

    async def events(
        self, run: RunRecord, offset: int = 0, *, follow: bool = True
    ) -> AsyncIterator[EventBatch]:
        """The run's events from byte ``offset`` on."""
        async for batch in follow_events(RunFolder(run.path), offset, self._over(run) if follow else None):
            yield batch

    async def logs(self, run: RunRecord, offset: int = 0, *, follow: bool = True) -> AsyncIterator[LogChunk]:
        """The run's log from byte ``offset`` on."""
        async for chunk in follow_log(RunFolder(run.path), offset, self._over(run) if follow else None):
            yield chunk

    def _over(self, run: RunRecord) -> Callable[[], bool]:
        """A check whether the run's process has gone: nothing more will come then."""
        return lambda: self._has_ended(RunFolder(run.path), run)

    def _has_ended(self, folder: RunFolder, run: RunRecord) -> bool:
        current = folder.read_record() or run
        if is_alive(current.handle):
            return False
        if current.handle:
            return True
        return time.time() - current.created >= _GRACE

    # Ending

    async def stop(self, run: RunRecord, *, now: bool = False) -> None:
        """Ask the trainer to save and stop; ``now`` kills it."""
        await asyncio.to_thread(self._stop, run, now)

    def _stop(self, run: RunRecord, now: bool) -> None:
        folder = RunFolder(run.path)
        run = folder.read_record() or run
        state = self.judge(run, read_view(folder))
        if state.status.ended:
            raise LaunchError(f"run {run.id} is {state.status} already")
        if not now or ends_elsewhere(run):
            folder.stop_file.touch()
            ask_to_stop(run.handle)
            return
        if not kill(run.handle):
            raise LaunchError(f"run {run.id} could not be ended: its process {run.handle.get('pid')} stays")
        with EventWriter(folder.events) as writer:
            writer.write(StatusEvent(status=Status.STOPPED, reason="ended at once, without saving"))

    async def command(self, run: RunRecord, command: Command) -> None:
        """Ask the trainer for something: it looks for commands in the run's folder."""
        await asyncio.to_thread(self._command, run, command)

    def _command(self, run: RunRecord, command: Command) -> None:
        folder = RunFolder(run.path)
        run = folder.read_record() or run
        if run.kind == CAPTION:
            refuse(run, command)
        view = read_view(folder)
        state = self.judge(run, view)
        if state.status.ended:
            hint = f"; resume it with --set train.steps={command.steps}" if command.kind == "extend" else ""
            raise LaunchError(f"run {run.id} is {state.status} already{hint}")
        if command.steps is not None and command.steps <= view.step:
            raise LaunchError(
                f"run {run.id} has done {view.step} steps already; its new total must be larger than that"
            )
        try:
            commands.send(folder.control, command)
        except OSError as error:
            raise LaunchError(f"run {run.id} cannot be reached: {error.strerror or error}") from error

    # Files

    async def delete(self, run: RunRecord) -> None:
        """Delete an ended run's folder, and forget it."""
        await asyncio.to_thread(self._delete, run)

    def _delete(self, run: RunRecord) -> None:
        state = self.judge(run, read_view(RunFolder(run.path)))
        if not state.status.ended:
            raise LaunchError(f"run {run.id} is {state.status}; stop it before it is deleted")
        try:
            self.registry.delete(run)
        except OSError as error:
            raise LaunchError(
                f"run {run.id} could not be deleted: {error.strerror or error}: {error.filename}"
            ) from error

    async def files(self, run: RunRecord) -> list[RunFile]:
        """The run's files, checkpoints first, then samples, then the rest."""
        return await asyncio.to_thread(list_files, RunFolder(run.path))

    async def download(
        self,
        run: RunRecord,
        files: Sequence[RunFile],
        destination: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Copy files out of the run's folder."""
        return await asyncio.to_thread(_copy_files, run.path, files, destination, progress)


def _why_gone(folder: RunFolder, run: RunRecord) -> str:
    """A sentence on a process that vanished, with the last line that it printed."""
    who = "captioner" if run.kind == CAPTION else "trainer"
    sentence = f"the {who}'s process is gone without a word (killed, out of memory, or a reboot)"
    try:
        with folder.log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return sentence
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{sentence}; last it said: {last[:200]}" if last else sentence


def _copy_files(
    source: Path,
    files: Sequence[RunFile],
    destination: Path,
    progress: Callable[[int, int], None] | None,
) -> list[Path]:
    total, done, copied = sum(file.bytes for file in files), 0, []
    try:
        for file in files:
            origin, target = source / file.path, destination / file.path
            if not origin.resolve().is_relative_to(source.resolve()):
                raise LaunchError(f"{file.path} is outside the run's folder")

            def tell(count: int, so_far: int = done) -> None:
                if progress is not None:
                    progress(min(so_far + count, total), total)

            copy_file(origin, target, tell)
            copied.append(target)
            done += file.bytes
            tell(file.bytes)
    except OSError as error:
        raise LaunchError(f"cannot copy {error.filename}: {error.strerror or error}") from error
    return copied
