"""The launcher of Modal, as the app sees it: a local folder that a courier keeps up to date.

Nothing here talks to Modal or imports its SDK. A run's folder is a mirror of its folder on the volume;
looking at the run makes sure that its courier is at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backend.events import Status, StatusEvent
from backend.files import atomic_file, read_json, write_json, write_text
from backend.launchers.base import (
    EventBatch,
    LaunchError,
    LaunchRequest,
    LogChunk,
    RunFacts,
    RunFile,
    RunState,
)
from backend.launchers.modal.environment import with_tokens
from backend.launchers.modal.journal import Journal, Stage, read_journal, write_journal
from backend.launchers.modal.money import gpu_of, spent
from backend.launchers.modal.places import Places
from backend.launchers.process import is_alive, spawn_detached
from backend.launchers.resuming import need_an_end, need_something_to_do
from backend.runs.commands import Command, send
from backend.runs.folder import RunFolder, RunRecord, new_run_id
from backend.runs.registry import Registry
from backend.runs.stream import EventTail, EventWriter
from backend.runs.tail import follow_events, follow_log, list_files, read_view
from backend.runs.view import RunView

_GRACE = 20.0  # seconds that a run may be without a courier while it is being started
_LOOK_EVERY = 5.0  # seconds between two notes that somebody looks
_SETTLING = 45.0  # seconds that a resume waits for the courier of the launch before it
_COURIER_EVERY = 10.0  # seconds between two starts of couriers for one run


class ModalLauncher:
    """The launcher of Modal; see :class:`backend.launchers.base.Launcher`.

    Args:
        registry: Where runs are entered.
    """

    name = "modal"

    COURIER = (sys.executable, "-P", "-m", "backend.launchers.modal", "courier")

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._looked: dict[str, float] = {}
        self._started: dict[str, float] = {}

    # Starting

    async def launch(self, request: LaunchRequest) -> RunRecord:
        """Check the config, make the run's folder, and send a courier off with it."""
        return await asyncio.to_thread(self._launch, request)

    def _launch(self, request: LaunchRequest) -> RunRecord:
        from backend.launchers.modal.launch import plan_journal
        from config.load import load_config

        loaded = load_config(request.config_path, request.overrides)
        process = loaded.config.process
        environment = with_tokens(request.config_path.absolute().parent)
        need_credentials(environment)
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
            write_text(folder.config, f"# Run config, resolved from {loaded.path.name}\n" + loaded.dump())
            project = str(request.config_path.absolute().parent)
            write_journal(folder.path, plan_journal(loaded).with_(project=project))
            folder.write_record(record)
            with EventWriter(folder.events) as writer:
                writer.write(StatusEvent(status=Status.QUEUED))
            self.registry.add(record)
            return self._send_courier(record, environment)
        except OSError as error:
            raise LaunchError(
                f"the run's folder could not be made: {error.strerror or error}: {error.filename}"
            ) from error

    def _send_courier(self, run: RunRecord, environment: Mapping[str, str] | None = None) -> RunRecord:
        """Start a courier; a second one ends by itself."""
        folder = RunFolder(run.path)
        Places(folder).look()
        if environment is None:
            environment = with_tokens(project_of(folder))
        handle = spawn_detached(
            (*self.COURIER, str(folder.path)),
            log=Places(folder).diary,
            folder=folder.path,
            environment=environment,
        )
        run = run.with_handle(**handle)
        folder.write_record(run)
        self._started[run.id] = time.monotonic()
        return run

    async def resume(self, run: RunRecord, overrides: Sequence[str] = ()) -> RunRecord:
        """Take an ended run up again, as a new launch that goes on in the same folder of the volume."""
        return await asyncio.to_thread(self._resume, run, tuple(overrides))

    def _resume(self, run: RunRecord, overrides: Sequence[str]) -> RunRecord:
        from backend.launchers.modal.launch import plan_journal
        from backend.launchers.modal.rewriting import load_for_resume

        folder = RunFolder(run.path)
        self._wait_until_settled(folder.read_record() or run)  # before the lock: others may launch meanwhile
        with self.registry.exclusive():
            run = folder.read_record() or run
            view, journal = read_view(folder), read_journal(folder.path)
            if journal is None:
                raise LaunchError(f"the folder of run {run.id} has no readable journal: {folder.state}")
            state = self.judge(run, view)
            need_an_end(run, state)
            loaded = load_for_resume(folder.config, overrides)
            need_something_to_do(run, view, state, loaded)
            steps = loaded.config.process.train.steps
            need_credentials(with_tokens(project_of(folder)))
            try:
                if overrides:
                    write_text(folder.config, loaded.dump())
                write_journal(folder.path, next_launch(journal, plan_journal(loaded)))
                Places(folder).stop.unlink(missing_ok=True)
                with folder.events.open("ab") as file:
                    file.write(_queued_again())
                return self._send_courier(replace(run, steps=steps))
            except OSError as error:
                raise LaunchError(f"run {run.id} could not be resumed: {error.strerror or error}") from error

    def _wait_until_settled(self, run: RunRecord) -> None:
        """Wait until the courier of a run that has just ended has put everything in order.

        Raises:
            LaunchError: That takes long, most likely for want of a network.
        """
        deadline = time.monotonic() + _SETTLING
        while True:
            state = self.judge(run, read_view(RunFolder(run.path)))
            if state.settled or not state.status.ended:
                return
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"run {run.id} is {state.status}, but what it left on Modal is not put in order yet; "
                    "try again when Modal can be reached"
                )
            time.sleep(0.2)

    # Following

    def judge(self, run: RunRecord, view: RunView) -> RunState:
        """What the run's last word means, given how far its launch is and whether a courier is at work."""
        folder = RunFolder(run.path)
        journal = read_journal(folder.path)
        may_cost = journal is not None and journal.may_cost
        if view.status.ended and not may_cost:
            return RunState(status=view.status, reason=view.reason)
        current = folder.read_record() or run
        at_work = is_alive(current.handle)
        self._attend(current, journal, at_work)
        if view.status is Status.INTERRUPTED:  # only the courier knows that it is not taken up again
            stopping = Places(folder).stop.exists()
            return RunState(
                status=Status.STOPPING if stopping else Status.QUEUED, reason=view.reason, settled=False
            )
        if view.status.ended:
            return RunState(status=view.status, reason=view.reason, settled=False)
        if journal is None:
            return RunState(status=Status.INTERRUPTED, reason="the run's journal is damaged or missing")
        if journal.stage is Stage.SPAWNED or at_work:
            return RunState(status=view.status, reason=view.reason)
        if time.time() - max(current.created, view.updated, journal.changed) < _GRACE:
            return RunState(status=view.status, reason=view.reason)
        if journal.may_cost:
            return RunState(
                status=view.status, reason="the launch broke off; what it left is being looked for"
            )
        return RunState(
            status=Status.INTERRUPTED,
            reason="the launch broke off; nothing runs on Modal, resume launches it",
        )

    def facts(self, run: RunRecord, view: RunView) -> RunFacts:
        """Where it trains, what it costs, and whether Modal can be reached."""
        folder = RunFolder(run.path)
        journal = read_journal(folder.path)
        if journal is None:
            return RunFacts(where="Modal", remote=True, safe_to_close=False)
        ended = view.status.ended
        link = read_json(Places(folder).link)
        link = link if isinstance(link, dict) and not ended else {}
        money = spent(journal, view, time.time())
        return RunFacts(
            where=f"Modal, {gpu_of(journal, view)}",
            remote=True,
            safe_to_close=ended or journal.safe_to_close,
            online=bool(link.get("online", True)),
            link_since=link.get("since"),
            link_why=str(link.get("why") or ""),
            rate=journal.rate or None,
            dollars=money.so_far if money is not None else None,
            projected=money.projected if money is not None else None,
            budget=journal.budget,
            folder=f"{journal.volume}/{journal.folder}" if journal.folder else "",
        )

    def _attend(self, run: RunRecord, journal: Journal | None, at_work: bool) -> None:
        """Note that somebody looks at a run that is not over, and see to it that a courier is at work."""
        now = time.monotonic()
        if now - self._looked.get(run.id, -_LOOK_EVERY) >= _LOOK_EVERY:
            self._looked[run.id] = now
            try:
                Places(RunFolder(run.path)).look()
            except OSError:
                return  # the folder is gone
        if at_work or journal is None or not journal.may_cost:
            return
        if now - self._started.get(run.id, -_COURIER_EVERY) >= _COURIER_EVERY:
            self._started[run.id] = now
            try:
                self._send_courier(run)
            except OSError:
                return  # tried again at the next look

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
        """A check whether nothing more will come; it keeps a view of its own and attends to the run."""
        folder = RunFolder(run.path)
        view, tail = RunView(), EventTail(folder.events)

        def over() -> bool:
            while events := tail.read():
                view.apply(events)
            state = self.judge(run, view)
            if not state.status.ended:
                return False
            # The courier brings the last lines and files home before it ends.
            return not is_alive((folder.read_record() or run).handle)

        return over

    # Ending and asking

    async def stop(self, run: RunRecord, *, now: bool = False) -> None:
        """Have the courier ask the run to save and stop; ``now`` ends its container."""
        await asyncio.to_thread(self._stop, run, now)

    def _stop(self, run: RunRecord, now: bool) -> None:
        folder = RunFolder(run.path)
        run = folder.read_record() or run
        state = self.judge(run, read_view(folder))
        if state.status.ended:
            raise LaunchError(f"run {run.id} is {state.status} already")
        try:
            write_json(Places(folder).stop, {"now": now, "at": time.time()})
        except OSError as error:
            raise LaunchError(f"run {run.id} cannot be asked to stop: {error.strerror or error}") from error

    async def command(self, run: RunRecord, command: Command) -> None:
        """Have the courier carry a command to the container."""
        if command.kind == "stop":
            await self.stop(run)
            return
        await asyncio.to_thread(self._command, run, command)

    def _command(self, run: RunRecord, command: Command) -> None:
        folder = RunFolder(run.path)
        state = self.judge(folder.read_record() or run, read_view(folder))
        if state.status.ended:
            raise LaunchError(f"run {run.id} is {state.status}; it takes no commands")
        try:
            send(Places(folder).outbox, command)
        except OSError as error:
            raise LaunchError(f"run {run.id} cannot be asked: {error.strerror or error}") from error

    # Files

    async def delete(self, run: RunRecord) -> None:
        """Delete an ended run's folder on the volume, then the one here."""
        from backend.launchers.modal.errand import ask

        folder = RunFolder(run.path)
        state = await self.status(run)
        if not state.status.ended:
            raise LaunchError(f"run {run.id} is {state.status}; stop it before it is deleted")
        journal = read_journal(folder.path)
        if journal is not None and journal.folder:
            environment = with_tokens(project_of(folder))
            await ask("delete", {"run": str(run.path)}, environment=environment)
        try:
            await asyncio.to_thread(self.registry.delete, run)
        except OSError as error:
            raise LaunchError(
                f"run {run.id} could not be deleted: {error.strerror or error}: {error.filename}"
            ) from error

    async def files(self, run: RunRecord) -> list[RunFile]:
        """The run's files on the volume as far as they are whole, and what is here already."""
        from backend.launchers.modal.errand import ask

        folder = RunFolder(run.path)
        journal = read_journal(folder.path)
        known = Places(folder).manifest.is_file()
        if journal is not None and journal.folder and not (journal.stage is Stage.ENDED and known):
            with contextlib.suppress(LaunchError):  # without a network the last list has to do
                await ask("files", {"run": str(run.path)}, environment=with_tokens(project_of(folder)))
        return await asyncio.to_thread(self._files, folder)

    def _files(self, folder: RunFolder) -> list[RunFile]:
        here = {file.path: file for file in list_files(folder)}
        for path, file in _on_the_volume(folder).items():
            mine = here.setdefault(path, file)
            if mine.bytes == file.bytes:
                here[path] = replace(mine, sha256=file.sha256)
        order = {"checkpoints": 0, "samples": 1}
        return sorted(here.values(), key=lambda file: (order.get(file.path.partition("/")[0], 2), file.path))

    async def download(
        self,
        run: RunRecord,
        files: Sequence[RunFile],
        destination: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Bring files home from the volume, in a process of its own that may be interrupted at any time.

        What is only here any more (old checkpoints, the mirror's own files) is copied from here.
        """
        from backend.launchers.modal.errand import ask

        destination = Path.cwd() / destination
        folder = RunFolder(run.path)
        there = await asyncio.to_thread(_on_the_volume, folder)
        wanted = [file.path for file in files]
        fetched = [path for path in wanted if path in there or not (run.path / path).is_file()]
        copied = [path for path in wanted if path not in fetched]
        await asyncio.to_thread(_copy, run.path, copied, destination)
        if fetched:
            job = {"run": str(run.path), "files": fetched, "destination": str(destination)}
            await ask("pull", job, progress, environment=with_tokens(project_of(folder)))
        return [destination / path for path in wanted]


def _on_the_volume(folder: RunFolder) -> dict[str, RunFile]:
    """The run's whole files on the volume by their paths, as last seen; none if nobody has looked."""
    from backend.launchers.modal.manifest import parse_manifest

    try:
        manifest = parse_manifest(Places(folder).manifest.read_bytes())
    except (OSError, LaunchError):
        return {}
    return {
        e.path: RunFile(path=e.path, bytes=e.bytes, modified=e.modified, sha256=e.sha256)
        for e in manifest.files
    }


def _copy(source: Path, paths: Sequence[str], destination: Path) -> None:
    """Copy files of a folder into another one, each whole or not at all."""
    for path in paths if source != destination else ():
        target = destination / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with (source / path).open("rb") as here, atomic_file(target) as there:
                shutil.copyfileobj(here, there)
        except OSError as error:
            raise LaunchError(f"cannot copy {error.filename}: {error.strerror or error}") from error


def next_launch(before: Journal, plan: Journal) -> Journal:
    """The journal of another launch of the same run: its folder stays, its choices may be new."""
    apps = before.earlier_apps + ((before.app_id,) if before.app_id else ())
    return plan.with_(
        launch=before.launch + 1,
        folder=before.folder,
        volume=before.volume,
        earlier_apps=apps,
        project=before.project,
    )


def project_of(folder: RunFolder) -> Path:
    """The folder of the config that the run was launched from; the run's own where that is not known."""
    journal = read_journal(folder.path)
    return Path(journal.project) if journal is not None and journal.project else folder.path


def need_credentials(environment: Mapping[str, str]) -> None:
    """Make sure that there is something to log in with, before anything is made.

    Raises:
        LaunchError: There is no Modal token anywhere.
    """
    if not (environment.get("MODAL_TOKEN_ID") and environment.get("MODAL_TOKEN_SECRET")):
        raise LaunchError(
            "there is no Modal token: make one at https://modal.com/settings/tokens,"
            " then: fluxlora-tui login modal"
        )


def _queued_again() -> bytes:
    from backend.events import encode

    return encode(StatusEvent(status=Status.QUEUED))
