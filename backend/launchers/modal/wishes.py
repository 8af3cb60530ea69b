"""What the user asks of a run on Modal, carried there: commands, and stopping in ever firmer ways."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from backend.events import Status
from backend.files import read_json, write_json
from backend.launchers.modal.gateway import Gateway, ModalVolume
from backend.launchers.modal.journal import Journal
from backend.launchers.modal.places import Places
from backend.launchers.modal.remote import OfflineError, RemoteError, Upload
from backend.launchers.modal.voice import Voice
from backend.runs.commands import Command, waiting
from backend.runs.view import RunView

_TICK = 0.3
_ANSWER = 45.0  # seconds in which a container must react before its call is cancelled
_SAVING = 300.0  # seconds that saving may take after that, before the app is stopped


class Wishes:
    """Carries wishes from the run's local folder to its container."""

    def __init__(
        self, gateway: Gateway, journal: Journal, volume: ModalVolume, places: Places, voice: Voice
    ) -> None:
        self._gateway = gateway
        self._journal = journal
        self._volume = volume
        self._places = places
        self._voice = voice
        self._stop = Stopping(gateway, journal, volume, places, voice)

    async def run(self, view: RunView) -> None:
        """Carry until cancelled."""
        while True:
            for letter in await asyncio.to_thread(waiting, self._places.outbox):
                if await self._carry(letter.path):
                    letter.path.unlink(missing_ok=True)
            await self._stop.look(view)
            await asyncio.sleep(_TICK)

    async def _carry(self, file: Path) -> bool:
        """Put a command on the volume; False if that has to be tried again."""
        try:
            data = await asyncio.to_thread(file.read_bytes)
            await self._volume.upload([Upload(data, f"{self._journal.folder}/state/control/{file.name}")])
        except OfflineError:
            await asyncio.sleep(2.0)
            return False
        except RemoteError as error:
            self._voice.warning(f"a command could not be carried to the run: {error}", "command_lost")
        except OSError:
            return False
        return True


class Stopping:
    """Stops a run: it is asked, then its call is cancelled, then its app is stopped."""

    def __init__(
        self, gateway: Gateway, journal: Journal, volume: ModalVolume, places: Places, voice: Voice
    ) -> None:
        self._gateway = gateway
        self._journal = journal
        self._volume = volume
        self._places = places
        self._voice = voice
        self._asked_at: float | None = None
        self._cancelled_at: float | None = None
        self._ended = False

    async def look(self, view: RunView) -> None:
        """Do what the stop request demands at this moment."""
        request = read_json(self._places.stop)
        if not isinstance(request, dict) or (view.status.ended and view.status is not Status.INTERRUPTED):
            return
        with contextlib.suppress(OfflineError):
            if request.get("now"):
                await self._end()
            else:
                await self._ask(request, view)

    async def _ask(self, request: dict[str, object], view: RunView) -> None:
        now = time.time()
        if self._asked_at is None:
            self._voice.status(Status.STOPPING, "asked to stop: it saves, then stops")
            if not view.containers or view.status is Status.QUEUED or await self._is_waiting():
                # No container has it, so nobody can save, and nothing is lost.
                await self._cancel(kill=False)
                self._cancelled_at = now
            else:
                command = Command(kind="stop")
                name = f"{self._journal.folder}/state/control/{command.file_name}"
                from backend.runs.commands import encode

                await self._volume.upload([Upload(encode(command), name)])
            self._asked_at = now
            with contextlib.suppress(OSError):
                write_json(self._places.stop, {**request, "asked": now})
        elif self._cancelled_at is None and now - self._asked_at > _ANSWER and not _answers(view):
            self._voice.line("the container does not react; its call is cancelled", "WARNING")
            await self._cancel(kill=False)
            self._cancelled_at = now
        elif now - self._asked_at > _SAVING and not self._ended:
            self._voice.line("the container does not end; its app is stopped", "WARNING")
            await self._end()

    async def _is_waiting(self) -> bool:
        """Whether the run waits for a container, as far as Modal tells."""
        if self._journal.function_id is None:
            return False
        try:
            queue = await self._gateway.queue(self._journal.function_id)
        except OfflineError:
            raise
        except RemoteError:
            return False
        return queue.runners == 0

    async def _cancel(self, *, kill: bool) -> None:
        if self._journal.call_id is not None:
            await self._gateway.cancel(self._journal.call_id, kill=kill)
        else:
            await self._end()

    async def _end(self) -> None:
        """End the container without saving, and the app with it."""
        if self._ended:
            return
        if self._journal.call_id is not None:
            with contextlib.suppress(OfflineError, RemoteError):
                await self._gateway.cancel(self._journal.call_id, kill=True)
        if self._journal.app_id is not None:
            await self._gateway.stop_app(self._journal.app_id)
        self._ended = True


def _answers(view: RunView) -> bool:
    """Whether the trainer has said that it is stopping."""
    return any(answer.kind == "stop" for answer in view.answers.values())
