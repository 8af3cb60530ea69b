"""The courier of one run: a process that launches it, follows it, carries wishes to it and files home.

It outlives the app, may die at any moment, and is started again by whoever looks at the run next; the
journal and the mirror's cursor say where to go on. Once the call exists, the run needs no courier.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from backend.credentials.redaction import redact
from backend.events import Event, Status
from backend.files import read_json, write_json
from backend.launchers.base import LaunchError
from backend.launchers.modal.following import Following
from backend.launchers.modal.gateway import Gateway
from backend.launchers.modal.journal import Journal, Stage, read_journal, write_journal
from backend.launchers.modal.launch import Launch, Unwanted
from backend.launchers.modal.lock import held
from backend.launchers.modal.mirror import Mirror
from backend.launchers.modal.places import Places
from backend.launchers.modal.recovery import recover
from backend.launchers.modal.remote import DeniedError, OfflineError, RemoteError
from backend.launchers.modal.voice import Voice
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.tail import read_view
from config.problems import ConfigError

_RETRY = 5.0  # seconds between two tries without a network
_OFFLINE_LAUNCH = 8.0  # a launch without a network fails after so long, with a sentence
_LOCK_PATIENCE = 5.0


async def run_courier(path: RunFolder) -> int:
    """Do all that there is to do for the run, then return an exit code."""
    record, journal = path.read_record(), read_journal(path.path)
    if record is None or journal is None:
        print(f"{path.path} is no folder of a run on Modal")
        return 2
    places = Places(path)
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        with held(places.lock) as mine:
            if mine:
                return await Courier(path, record, places).run()
        if time.monotonic() > deadline:
            return 0  # another courier is at work
        await asyncio.sleep(0.2)


class Courier:
    """One courier's work.

    Args:
        folder: The run's local folder.
        record: The run.
        places: Where the app leaves wishes.
    """

    def __init__(self, folder: RunFolder, record: RunRecord, places: Places) -> None:
        journal = read_journal(folder.path)
        assert journal is not None
        self.folder = folder
        self.record = record
        self.places = places
        self.journal: Journal = journal
        self.gateway = Gateway(journal.environment)
        self.mirror = Mirror(folder, journal.folder)
        self.voice = Voice(self._say, self.mirror.note)

    def _say(self, event: Event) -> None:
        self.mirror.say(event)

    def _note(self, journal: Journal) -> None:
        write_journal(self.folder.path, journal)
        self.journal = journal

    def wanted(self) -> bool:
        """Whether nobody has asked to stop the run."""
        return not self.places.stop.exists()

    async def run(self) -> int:
        """Work through the stages that are left."""
        try:
            if self.journal.stage is Stage.LAUNCHING:
                await self._patiently(self._recover)
            if self.journal.stage is Stage.PREPARING:
                await self._launch()
            if self.journal.stage is Stage.SPAWNED:
                await Following(
                    self.folder, self.record, self.places, self.gateway, self.mirror, self.voice, self._note
                ).run(self.journal)
            return 0
        finally:
            self.mirror.close()

    # Launching

    async def _launch(self) -> None:
        """Launch, and say how it ended if it did not come to a call."""
        launch = Launch(self.record, self.gateway, self.voice, self._note, self.wanted)
        task = asyncio.create_task(launch.run(self.journal))
        watch = asyncio.create_task(self._until_unwanted())
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                raise Unwanted
            self.journal = await task
            return
        except Unwanted:
            status, reason = Status.STOPPED, "stopped before it was handed to Modal; nothing was trained"
        except ConfigError as error:
            first = next((p for p in error.problems if p.severity == "error"), error.problems[0])
            status, reason = Status.FAILED, f"the config is not valid: {first.describe('config.yaml')}"
        except LaunchError as error:
            status, reason = Status.FAILED, str(error)
        except OSError as error:
            status, reason = Status.FAILED, f"the launch failed: {error.strerror or error}: {error.filename}"
        except Exception as error:
            what = " ".join(redact(f"{type(error).__name__}: {error}").split())
            status, reason = Status.FAILED, f"the launch failed for a reason that we did not foresee: {what}"
        finally:
            watch.cancel()
        if self.journal.stage is Stage.SPAWNED:  # the call exists: whatever went wrong was after that
            self.voice.warning(reason, "launch_end")
            return
        await self._stop_what_there_is()
        self.places.stop.unlink(missing_ok=True)
        self.voice.status(status, reason)

    async def _until_unwanted(self) -> None:
        while True:
            if not self.wanted():
                return
            await asyncio.sleep(0.2)

    async def _stop_what_there_is(self) -> None:
        """Stop the apps of a launch that broke off; the journal keeps those that could not be."""
        for app_id in (self.journal.app_id, self.journal.prefetch_app_id):
            if app_id is None:
                continue
            try:
                await self.gateway.stop_app(app_id)
            except RemoteError as error:
                self.voice.warning(
                    f"the app {app_id} could not be stopped ({error}); that is tried again at the next look",
                    "app_left",
                )
                return
        if self.journal.stage is Stage.LAUNCHING and self.journal.app_id is None:
            return  # perhaps an app exists whose id never arrived: the next courier looks for it
        self._note(self.journal.with_(stage=Stage.ENDED, prefetch_app_id=None, prefetch_call_id=None))

    # After a crash

    async def _recover(self) -> None:
        view = await asyncio.to_thread(read_view, self.folder)
        self._note(await recover(self.record, self.journal, self.gateway, self.voice, told=view.status.ended))

    async def _patiently(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something that must be done, over any time without a network, while somebody is interested."""
        while True:
            try:
                await act()
                return
            except DeniedError as error:
                self.link(False, str(error))
                raise
            except OfflineError as error:
                self.link(False, str(error))
            await asyncio.sleep(_RETRY)

    def link(self, online: bool, why: str = "") -> None:
        """Note for the app whether Modal can be reached."""
        set_link(self.places, online, why)


def set_link(places: Places, online: bool, why: str = "") -> None:
    """Note whether Modal can be reached from here, and since when."""
    before = read_json(places.link)
    if isinstance(before, dict) and before.get("online") == online:
        return
    value: dict[str, Any] = {"online": online, "since": time.time(), "why": why}
    with contextlib.suppress(OSError):
        write_json(places.link, value)
