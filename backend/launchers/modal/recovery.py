"""After a crash in the middle of a launch: find the app it may have left, and adopt or stop it."""

from __future__ import annotations

import time

from backend.events import Status
from backend.launchers.modal.detached_app import LAUNCH_TAG, RUN_TAG
from backend.launchers.modal.gateway import Gateway, RemoteApp
from backend.launchers.modal.journal import Journal, Stage
from backend.launchers.modal.remote import OfflineError, RemoteError
from backend.launchers.modal.voice import Voice
from backend.runs.folder import RunRecord


async def recover(
    record: RunRecord, journal: Journal, gateway: Gateway, voice: Voice, *, told: bool
) -> Journal:
    """What a journal that ended at ``launching`` means now.

    An app whose call certainly exists is adopted: its container tells the rest through the volume. Any
    other is stopped, which is always safe: nothing has been trained.

    Args:
        record: The run.
        journal: Its journal.
        gateway: The connection.
        voice: Where the user is told what was found.
        told: Whether the user knows already that the launch failed or was stopped.

    Raises:
        OfflineError: Modal cannot be reached: try again later.
        RemoteError: It cannot be found out.
    """
    voice.line("the launch broke off; looking for what it left on Modal")
    apps = await _apps_of(record, journal, gateway)
    for app in apps:
        if not told and await _has_call(app, gateway):
            voice.line(f"the app {app.id} has its call: the run goes on")
            return journal.with_(
                stage=Stage.SPAWNED,
                app_id=app.id,
                function_id=app.functions.get("train"),
                spawned=app.created or time.time(),
            )
    for app in apps:
        await gateway.stop_app(app.id)
        voice.line(f"stopped the app {app.id}, which had nothing to do yet")
    if not told:
        voice.status(
            Status.INTERRUPTED,
            "the launch broke off before the run was handed to Modal; nothing is left there, resume launches"
            " it",
        )
    return journal.with_(stage=Stage.ENDED)


async def _apps_of(record: RunRecord, journal: Journal, gateway: Gateway) -> list[RemoteApp]:
    """The live apps of this launch: by tag, by name where tags cannot be read, and the one in the journal."""
    found = []
    for app in await gateway.apps():
        tagged = app.tags.get(RUN_TAG)
        if tagged == record.id:
            if app.tags.get(LAUNCH_TAG, str(journal.launch)) == str(journal.launch):
                found.append(app)
        elif app.id == journal.app_id or (tagged is None and app.description == f"lora-{record.id}"):
            found.append(app)
    return [app for app in found if app.id != journal.prefetch_app_id]


async def _has_call(app: RemoteApp, gateway: Gateway) -> bool:
    function_id = app.functions.get("train")
    if function_id is None:
        return False
    try:
        queue = await gateway.queue(function_id)
    except OfflineError:
        raise
    except RemoteError:
        return False
    return queue.backlog + queue.runners > 0
