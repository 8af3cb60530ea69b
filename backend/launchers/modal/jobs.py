"""The jobs of :mod:`backend.launchers.modal.errand`, as the process does them that may load the SDK."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.credentials.errors import CredentialsError
from backend.credentials.redaction import redact
from backend.launchers.base import LaunchError
from backend.launchers.modal import account_jobs
from backend.launchers.modal.gateway import Gateway
from backend.launchers.modal.journal import Journal, read_journal
from backend.launchers.modal.places import Places
from backend.launchers.modal.remote import MissingError, RefusedError
from backend.runs.folder import RunFolder
from backend.runs.registry import Registry

Progress = Callable[[int, int], None]
Job = Callable[[Mapping[str, Any], Progress], Coroutine[Any, Any, Any]]
TalkingJob = Callable[[Mapping[str, Any], Callable[[Any], None]], Coroutine[Any, Any, Any]]


def do_job(name: str) -> int:
    """Do the job called ``name`` with the arguments on standard input; returns the exit code."""
    try:
        arguments = json.loads(sys.stdin.read() or "{}")
        answer = asyncio.run(_work(name, arguments))
    except LaunchError as error:
        _tell({"error": str(error), "kind": type(error).__name__})
        return 1
    except CredentialsError as error:
        _tell({"error": str(error)})
        return 1
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _tell({"error": f"{error.strerror or error}{where}"})
        return 1
    except Exception as error:
        what = " ".join(redact(f"{type(error).__name__}: {error}").split())
        _tell({"error": f"internal error in the {name} job: {what}"})
        return 1
    _tell({"answer": answer})
    return 0


async def _work(name: str, arguments: Mapping[str, Any]) -> Any:
    if name in TALKING:
        return await TALKING[name](arguments, lambda news: _tell({"news": news}))
    return await JOBS[name](arguments, _tell_progress)


def _tell(message: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _tell_progress(done: int, total: int) -> None:
    _tell({"progress": [done, total]})


async def pull(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Bring files of a run home: ``{run, files | null, destination, kinds | null}``."""
    from backend.launchers.modal.transfer import BROUGHT_HOME
    from backend.launchers.modal.transfer import pull as fetch

    folder = RunFolder(Path(arguments["run"]))
    journal = _journal(folder)
    gateway = Gateway(journal.environment)
    volume = await gateway.volume(journal.volume)
    destination, kinds = Path(arguments["destination"]), arguments.get("kinds")
    if _same_place(destination, folder.path):
        kinds = [kind for kind in BROUGHT_HOME if kinds is None or kind in kinds]  # the rest is the mirror's
    paths = await fetch(volume, journal.folder, arguments.get("files"), destination, progress, kinds=kinds)
    return {"paths": [str(path) for path in paths]}


async def files(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Renew the local list of the run's whole files on the volume: ``{run}``."""
    from backend.files import write_text
    from backend.launchers.modal.manifest import dump_manifest, read_manifest

    folder = RunFolder(Path(arguments["run"]))
    journal = _journal(folder)
    volume = await Gateway(journal.environment).volume(journal.volume)
    manifest = await read_manifest(volume, journal.folder)
    write_text(Places(folder).manifest, dump_manifest(manifest))
    return {"files": len(manifest.files)}


async def delete(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Delete a run's folder from the volume, after its apps are stopped: ``{run}``."""
    folder = RunFolder(Path(arguments["run"]))
    journal = _journal(folder)
    gateway = Gateway(journal.environment)
    for app_id in (journal.app_id, journal.prefetch_app_id):
        if app_id is not None and await gateway.is_running(app_id):
            await gateway.stop_app(app_id)
    if journal.folder:
        volume = await gateway.volume(journal.volume)
        await volume.remove(journal.folder, recursive=True)
    return {"folder": journal.folder}


async def runs(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """What is on the volume and running in the workspace: ``{volume, environment, root}``."""
    from backend.launchers.modal.workspace import remote_runs

    registry = Registry(Path(arguments["root"]))
    here = {run.id for run in await asyncio.to_thread(registry.all)}
    gateway = Gateway(arguments.get("environment"))
    found = await remote_runs(gateway, arguments["volume"], here)
    return {"workspace": await gateway.workspace(), "runs": [run.record() for run in found]}


async def adopt(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Take up a run that another machine started: ``{run, volume, environment, root}``."""
    from backend.launchers.modal.workspace import adopt as take_up
    from backend.launchers.modal.workspace import remote_runs

    registry = Registry(Path(arguments["root"]))
    here = {run.id for run in await asyncio.to_thread(registry.all)}
    gateway = Gateway(arguments.get("environment"))
    wanted = str(arguments["run"])
    fitting = [
        run
        for run in await remote_runs(gateway, arguments["volume"], here)
        if wanted in (run.id, run.folder) or (wanted and run.id.startswith(wanted))
    ]
    if len(fitting) != 1:
        what = "no run" if not fitting else f"{len(fitting)} runs"
        raise RefusedError(f"the volume {arguments['volume']} has {what} called {wanted!r}")
    record = await take_up(gateway, arguments["volume"], fitting[0], registry)
    return {"id": record.id, "path": str(record.path)}


async def cleanup(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """List apps of ours that are of no use, and stop them if told: ``{volume, environment, remove}``."""
    from backend.launchers.modal.workspace import leftovers

    gateway = Gateway(arguments.get("environment"))
    found = await leftovers(gateway, arguments["volume"])
    if arguments.get("remove"):
        for done, leftover in enumerate(found):
            progress(done, len(found))
            await gateway.stop_app(leftover.app_id)
    return {"leftovers": [asdict(leftover) for leftover in found], "removed": bool(arguments.get("remove"))}


async def library(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """The base models on their volume: ``{base_volume, environment}``."""
    from backend.launchers.modal.library import cached_models, everything

    gateway = Gateway(arguments.get("environment"))
    try:
        volume = await gateway.volume(arguments["base_volume"], create=False)
    except MissingError:
        return {"models": []}  # nothing was ever kept there; looking makes no volume
    return {"models": [asdict(model) for model in cached_models(await everything(volume))]}


async def prefetch(arguments: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Have base models downloaded in the cloud, and wait: ``{models, base_volume, environment, root}``."""
    from backend.home import home
    from backend.launchers.modal.cloud_download import download

    gateway = Gateway(arguments.get("environment"))
    models = [str(model) for model in arguments["models"]]
    root = Path(arguments.get("root") or home())
    return {
        "models": models,
        "fetched": await download(gateway, arguments["base_volume"], models, root, progress),
    }


def _same_place(one: Path, other: Path) -> bool:
    """Whether both are the same folder, however they are written."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return one.resolve() == other.resolve()


def _journal(folder: RunFolder) -> Journal:
    journal = read_journal(folder.path)
    if journal is None:
        raise RefusedError(f"{folder.path} is no folder of a run on Modal")
    if not journal.folder:
        raise RefusedError("the run never came to Modal; it has no files there")
    return journal


JOBS: dict[str, Job] = {
    "pull": pull,
    "files": files,
    "delete": delete,
    "runs": runs,
    "adopt": adopt,
    "cleanup": cleanup,
    "library": library,
    "prefetch": prefetch,
}

TALKING: dict[str, TalkingJob] = {
    "doctor": account_jobs.doctor,
    "account": account_jobs.account,
    "login": account_jobs.login,
}
"""Jobs that tell news on their way, of whatever kind."""
