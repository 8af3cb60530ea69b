"""What of ours is in a Modal workspace, whoever started it: runs on the volume, live apps, leftovers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from backend.events import Status
from backend.files import write_text
from backend.launchers.modal.detached_app import RUN_TAG, TOOL, TOOL_TAG
from backend.launchers.modal.gateway import Gateway, ModalVolume, RemoteApp
from backend.launchers.modal.journal import Journal, Stage, write_journal
from backend.launchers.modal.remote import MissingError, RefusedError, RemoteError
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry

_AT_ONCE = 16
_YOUNG = 120.0  # seconds in which an app without work may only be about to get some


@dataclass(frozen=True, kw_only=True)
class RemoteRun:
    """A run whose folder is on the volume.

    Attributes:
        id: Its id.
        name: ``config.name``.
        folder: Its folder on the volume.
        steps: Updates of the whole run.
        step: Updates done, as last committed.
        status: Its last committed status.
        reason: Sentence that came with it.
        created: Seconds since 1970.
        updated: When it was last committed; 0 if no container has begun.
        app_id: Its app, while one is live.
        here: Whether this machine has a folder of it.
        billed: Dollars that Modal has billed for it in the last 30 days; None where its API does not tell.
    """

    id: str
    name: str
    folder: str
    steps: int
    step: int = 0
    status: str = str(Status.QUEUED)
    reason: str | None = None
    created: float = 0.0
    updated: float = 0.0
    app_id: str | None = None
    here: bool = False
    billed: float | None = None

    @property
    def ended(self) -> bool:
        """Whether its last committed status is a final one."""
        return any(self.status == status for status in Status if status.ended)

    def record(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """An app of ours that has nothing to do, or that nobody knows.

    Attributes:
        app_id: The app.
        run_id: The run that it was made for.
        why: What makes it a leftover, as a clause.
        created: Seconds since 1970.
    """

    app_id: str
    run_id: str
    why: str
    created: float | None


async def remote_runs(gateway: Gateway, volume_name: str, here: Collection[str] = ()) -> list[RemoteRun]:
    """All runs on the volume, the newest first, with the apps that work on them.

    ``here`` are the ids of the runs that this machine has.
    """
    month_ago = time.time() - 30 * 86_400
    volume, apps, billed = await asyncio.gather(
        gateway.volume(volume_name), our_apps(gateway), gateway.billed(RUN_TAG, month_ago)
    )
    try:
        entries = await volume.list("/")
    except MissingError:
        return []
    by_run = {app.tags.get(RUN_TAG, ""): app for app in apps}
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(folder: str) -> RemoteRun | None:
        async with limit:
            return await read_run(volume, folder, by_run, here)

    names = [entry.path for entry in entries if entry.is_folder and not entry.path.startswith(".")]
    found = await asyncio.gather(*(one(name) for name in names))
    runs = [
        replace(run, billed=billed.get(run.id, 0.0) if billed is not None else None)
        for run in found
        if run is not None
    ]
    return sorted(runs, key=lambda run: -run.created)


async def read_run(
    volume: ModalVolume, folder: str, apps: Mapping[str, RemoteApp], here: Collection[str]
) -> RemoteRun | None:
    """The run in a folder of the volume; None if it is no run's folder."""
    record, status = await asyncio.gather(
        _json(volume, f"{folder}/state/run.json"), _json(volume, f"{folder}/status.json")
    )
    if not record or not isinstance(record.get("id"), str):
        return None
    app = apps.get(record["id"])
    try:
        return RemoteRun(
            id=record["id"],
            name=str(record["name"]),
            folder=folder,
            steps=int(status.get("steps") or record["steps"]),
            step=int(status.get("step") or 0),
            status=str(status.get("status") or Status.QUEUED),
            reason=status.get("reason"),
            created=float(record["created"]),
            updated=float(status.get("updated") or 0),
            app_id=app.id if app is not None else None,
            here=record["id"] in here,
        )
    except (KeyError, TypeError, ValueError):
        return None


async def our_apps(gateway: Gateway) -> list[RemoteApp]:
    """The live apps that this program made, on whatever machine."""
    return [
        app
        for app in await gateway.apps()
        if app.tags.get(TOOL_TAG) == TOOL or (not app.tags and app.description.startswith("lora-"))
    ]


async def adopt(gateway: Gateway, volume_name: str, run: RemoteRun, registry: Registry) -> RunRecord:
    """Make a local folder for a run that another machine started; a courier then fills it.

    Raises:
        RefusedError: This machine has the run already.
        RemoteError: Its files cannot be read.
        OSError: The folder cannot be made.
    """
    if run.here:
        raise RefusedError(f"run {run.id} is here already")
    volume = await gateway.volume(volume_name)
    config, plan, call = await asyncio.gather(
        volume.read(f"{run.folder}/config.yaml"),
        _json(volume, f"{run.folder}/state/launch.json"),
        last_call(volume, run.folder),
    )
    journal = Journal(
        stage=Stage.SPAWNED,  # the courier finds out what there is to follow, and ends it where it has ended
        launch=int(plan.get("launch") or 1),
        folder=run.folder,
        volume=volume_name,
        base_volume=plan.get("base_volume"),
        environment=gateway.environment,
        app_id=run.app_id,
        call_id=call,
        gpu=tuple(str(gpu) for gpu in plan.get("gpu") or ()),
        rate=float(plan.get("rate") or 0),
        budget=plan.get("budget"),
        seconds=plan.get("seconds"),
        spawned=run.created if not run.ended else None,
    )
    record = await asyncio.to_thread(_make_folder, run, config, journal, registry)
    return record


async def last_call(volume: ModalVolume, folder: str) -> str | None:
    """The call that the run's newest container works on; None if no container has begun."""
    boots = (await _json(volume, f"{folder}/state/boots.json")).get("boots")
    newest = boots[-1] if isinstance(boots, list) and boots else None
    call = newest.get("call") if isinstance(newest, dict) else None
    return call if isinstance(call, str) and call else None


def _make_folder(run: RemoteRun, config: bytes, journal: Journal, registry: Registry) -> RunRecord:
    with registry.exclusive():
        folder = RunFolder(registry.place(run.id, run.name, None))
        folder.create()
    record = RunRecord(
        id=run.id,
        name=run.name,
        backend="modal",
        steps=run.steps,
        created=run.created or time.time(),
        path=folder.path,
    )
    write_text(folder.config, config.decode("utf-8", "replace"))
    write_journal(folder.path, journal)
    folder.write_record(record)
    registry.add(record)
    return record


async def leftovers(gateway: Gateway, volume_name: str) -> list[Leftover]:
    """Apps of ours that are live and have nothing to do any more."""
    apps = await our_apps(gateway)
    if not apps:
        return []
    runs = {run.id: run for run in await remote_runs(gateway, volume_name)}
    found = []
    for app in apps:
        run_id = app.tags.get(RUN_TAG, app.description.removeprefix("lora-"))
        why = await _why_left(app, runs.get(run_id), gateway)
        if why is not None:
            found.append(Leftover(app_id=app.id, run_id=run_id, why=why, created=app.created))
    return found


async def _why_left(app: RemoteApp, run: RemoteRun | None, gateway: Gateway) -> str | None:
    """Why the app is of no use; None if it is, or if that cannot be told."""
    if app.created is not None and time.time() - app.created < _YOUNG and run is None:
        return None
    waiting = 0
    for function_id in app.functions.values():
        try:
            queue = await gateway.queue(function_id)
        except RemoteError:
            return None
        waiting += queue.backlog + queue.runners
    if waiting:
        return None
    if run is None:
        return "its run is not on the volume"
    if run.ended:
        return f"its run is {run.status}"
    if app.created is not None and time.time() - app.created < _YOUNG:
        return None
    return "it has nothing to do"


async def _json(volume: ModalVolume, path: str) -> dict[str, Any]:
    try:
        value = json.loads(await volume.read(path))
    except (MissingError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
