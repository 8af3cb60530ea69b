"""Following a run that Modal has: its words into the mirror, wishes to it, files home, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from backend.events import Status
from backend.launchers.modal.follower import Follower, FollowState
from backend.launchers.modal.gateway import Gateway, ModalVolume
from backend.launchers.modal.homecoming import Homecoming
from backend.launchers.modal.journal import Journal, Stage
from backend.launchers.modal.mirror import Mirror
from backend.launchers.modal.outcome import Kind, Observation, Verdict, observe, observe_value, verdict
from backend.launchers.modal.places import Places
from backend.launchers.modal.queueing import QueueWatch
from backend.launchers.modal.remote import LogPiece, LogSource, MissingError, OfflineError, RemoteError
from backend.launchers.modal.tail import Link, Tailer
from backend.launchers.modal.voice import Voice
from backend.launchers.modal.wishes import Wishes
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.stream import EventTail
from backend.runs.view import RunView

_ASK_EVERY = 5.0  # seconds between two questions whether the call is done
_AFTER_LAST_WORD = 120.0  # seconds that a container may take to end after its last word
_LOST = 3  # answers in a row that Modal knows nothing of the call
_UNWATCHED = 900.0  # seconds without anybody looking, after which a courier goes
_SAMPLERS = 3600.0  # seconds that the last rounds of samples may take
_TICK = 0.25
_STOP_PATIENCE = 600.0  # seconds for which stopping the app is tried without a network


class Following:
    """Follows one run to its end.

    Args:
        folder: Its local folder.
        record: The run.
        places: Where the app leaves wishes.
        gateway: The connection.
        mirror: The local copy of what it says.
        voice: For the courier's own words.
        note: Writes the journal down.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: RunRecord,
        places: Places,
        gateway: Gateway,
        mirror: Mirror,
        voice: Voice,
        note: Callable[[Journal], None],
    ) -> None:
        self.folder = folder
        self.record = record
        self.places = places
        self.gateway = gateway
        self.mirror = mirror
        self.voice = voice
        self.note = note
        self.view = RunView()
        self._tail = EventTail(folder.events)
        self._lost = 0
        self._online = True
        self._samplers: list[str] = []
        self._ending = False
        self._stream = self._calls = (True, "")
        self._ready = asyncio.Event()  # the volume was read: what stands there comes before our own words

    async def run(self, journal: Journal) -> None:
        """Follow until the run has ended, or until nobody has looked for a long time."""
        self.mirror.remote_folder = journal.folder
        volume = await self._volume(journal)
        source: LogSource = self.gateway.logs(journal.app_id) if journal.app_id else NoOutput()
        tailer = Tailer(source, self.mirror.since_us, None)
        follower = Follower(self.mirror, volume, tailer, self._on_link)
        queue = QueueWatch(self.gateway, journal, self.voice)
        wishes = Wishes(self.gateway, journal, volume, self.places, self.voice)
        homecoming = Homecoming(journal, volume, self.folder, self.places, self.voice)
        helpers: list[Coroutine[Any, Any, None]] = [
            self._tick(follower, homecoming),
            queue.run(self.view, self._ready),
            wishes.run(self.view),
            homecoming.run(),
        ]
        following = asyncio.create_task(follower.run())
        tasks = [asyncio.create_task(helper) for helper in helpers]
        try:
            ending = asyncio.create_task(self._until_over(journal, volume))
            done, _ = await asyncio.wait([ending, following, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not ending:
                    ending.cancel()
                    task.result()  # a disk that is full, or a fault of ours
            found = await ending
            for task in tasks:
                task.cancel()
            if found is not None:
                await self._end(found, journal, follower, homecoming)
        finally:
            for task in (following, *tasks):
                task.cancel()
            await asyncio.gather(following, *tasks, return_exceptions=True)

    async def _volume(self, journal: Journal) -> ModalVolume:
        while True:
            try:
                return await self.gateway.volume(journal.volume)
            except RemoteError as error:
                self._link(False, str(error))
            await asyncio.sleep(_ASK_EVERY)

    # What is known

    def _on_link(self, state: FollowState) -> None:
        if state.link is not Link.CONNECTING:
            self._stream = (state.online, state.error or "")
            self._show_link()

    def _show_link(self) -> None:
        """Modal can be reached if its stream is open and its calls are answered."""
        (streams, stream_why), (answers, call_why) = self._stream, self._calls
        self._link(streams and answers, call_why if not answers else stream_why)

    def _link(self, online: bool, why: str) -> None:
        from backend.launchers.modal.courier import set_link

        if online != self._online:
            self._online = online
            if not self._ready.is_set():
                pass
            elif online:
                self.voice.line("Modal can be reached again")
            else:
                self.voice.line(f"offline: the run continues on Modal ({why})", "WARNING")
        set_link(self.places, online, why)

    def _read(self) -> None:
        while events := self._tail.read():
            self.view.apply(events)

    async def _tick(self, follower: Follower, homecoming: Homecoming) -> None:
        """Keep the view fresh, and tell the others what changed in it."""
        files = 0
        while True:
            await asyncio.to_thread(self._read)
            if follower.state.volume_read:
                self._ready.set()
            self._note_preemption()
            seen = len(self.view.checkpoints) + len(self.view.samples)
            if seen != files:
                files = seen
                homecoming.hurry()
            await asyncio.sleep(_TICK)

    # How it ended

    async def _until_over(self, journal: Journal, volume: ModalVolume) -> Verdict | None:
        """How the run ended; None if nobody is interested and nothing is left to carry."""
        last_word_at: float | None = None
        asked = 0.0
        while True:
            status = self.view.status
            if status in (Status.FINISHED, Status.STOPPED, Status.FAILED):
                last_word_at = last_word_at or time.monotonic()
            else:
                last_word_at = None
            pause = 0.5 if last_word_at is not None else _ASK_EVERY
            if time.monotonic() - asked >= pause:
                asked = time.monotonic()
                found = await self._ask(journal, volume)
                if found.status is not None:
                    return found
            if last_word_at is not None and time.monotonic() - last_word_at > _AFTER_LAST_WORD:
                return Verdict(self.view.status, self.view.reason)
            if self.places.unwatched_for() > _UNWATCHED and not self._has_wishes():
                return None
            await asyncio.sleep(_TICK)

    async def _ask(self, journal: Journal, volume: ModalVolume) -> Verdict:
        """What Modal and the volume know of the run's end."""
        seen = await self._observe(journal)
        self._calls = (seen.kind is not Kind.NO_ANSWER, seen.detail)
        self._show_link()
        if seen.kind in (Kind.RUNNING, Kind.NO_ANSWER, Kind.DENIED):
            return verdict(seen, self.view.status)
        # Every word that it said must be here before its end is judged by them.
        try:
            written = await read_status(volume, journal)
        except RemoteError as error:
            return verdict(observe(error), self.view.status)
        found = verdict(seen, self.view.status, written)
        if found.status is None and seen.kind is Kind.GONE:
            self._lost += 1
            if self._lost >= _LOST:
                return Verdict(
                    Status.INTERRUPTED,
                    "Modal does not know the run's app any more, and the volume does not tell how it ended; "
                    "resume goes on from the last save",
                )
        else:
            self._lost = 0
        return found

    async def _observe(self, journal: Journal) -> Observation:
        try:
            if journal.call_id is not None:
                value = await self.gateway.result(journal.call_id)
                if isinstance(value, dict) and isinstance(value.get("samplers"), list):
                    self._samplers = [str(call) for call in value["samplers"]]
                return observe_value(value)
            if journal.app_id is not None and await self.gateway.is_running(journal.app_id):
                return Observation(Kind.GONE if await self._is_idle(journal) else Kind.RUNNING)
            return Observation(Kind.GONE, "its app is over")
        except asyncio.CancelledError:
            raise
        except Exception as error:
            return observe(error)

    async def _is_idle(self, journal: Journal) -> bool:
        """Whether the app has nothing to do; only for a run whose call is not known."""
        if journal.function_id is None:
            return False
        queue = await self.gateway.queue(journal.function_id)
        return queue.backlog + queue.runners == 0

    def _note_preemption(self) -> None:
        """A container that was taken away calls its run interrupted; it goes on by itself."""
        if self._ending or not self._ready.is_set() or self.places.stop.exists():
            return
        if self.view.status is Status.INTERRUPTED:
            self.voice.status(
                Status.QUEUED, "the container was taken away; the run goes on in a new one by itself"
            )

    def _has_wishes(self) -> bool:
        return self.places.stop.exists() or any(self.places.outbox.glob("*.json"))

    async def _end(
        self, found: Verdict, journal: Journal, follower: Follower, homecoming: Homecoming
    ) -> None:
        """Write the last words, bring the last files home, leave nothing that costs."""
        assert found.status is not None
        self._ending = True
        await self._wait_for_samplers()
        while True:
            if await follower.finish():
                break
            await asyncio.sleep(_ASK_EVERY)
        await asyncio.to_thread(self._read)
        if self.view.status is not found.status:
            self.voice.status(found.status, _final(found.reason))
        with contextlib.suppress(RemoteError, OSError):
            await homecoming.bring(last=True)
        await self._stop_app(journal)
        self.places.stop.unlink(missing_ok=True)
        self.note(journal.with_(stage=Stage.ENDED))

    async def _wait_for_samplers(self) -> None:
        """Stopping the app would end the containers that still draw the last samples."""
        deadline = time.monotonic() + _SAMPLERS
        waiting = list(self._samplers)
        while waiting and time.monotonic() < deadline:
            try:
                await self.gateway.result(waiting[0])
            except TimeoutError:
                await asyncio.sleep(_ASK_EVERY)
                continue
            except OfflineError:
                await asyncio.sleep(_ASK_EVERY)
                continue
            except Exception as error:
                self.voice.line(f"a round of samples was not drawn: {type(error).__name__}", "WARNING")
            waiting.pop(0)

    async def _stop_app(self, journal: Journal) -> None:
        deadline = time.monotonic() + _STOP_PATIENCE
        while journal.app_id is not None:
            try:
                await self.gateway.stop_app(journal.app_id)
                return
            except MissingError:
                return
            except OfflineError:
                if time.monotonic() > deadline:
                    raise
            except RemoteError as error:
                self.voice.line(f"the app {journal.app_id} could not be stopped: {error}", "WARNING")
                return
            await asyncio.sleep(_ASK_EVERY)


def _final(reason: str | None) -> str | None:
    """A container's sentence about its end, when no other container comes after all."""
    return re.sub(r"; Modal starts another(?: container)?\b", "", reason) if reason else reason


class NoOutput:
    """The output of an app that is gone."""

    async def stream(self) -> AsyncIterator[LogPiece]:
        """Nothing."""
        nothing: tuple[LogPiece, ...] = ()
        for piece in nothing:
            yield piece

    async def fetch(self, since_us: int | None = None) -> list[LogPiece]:
        """Nothing."""
        return []


async def read_status(volume: ModalVolume, journal: Journal) -> dict[str, Any] | None:
    """``status.json`` of the run's present launch; None if it has none.

    Raises:
        RemoteError: The volume cannot be read.
    """
    import json

    try:
        status = json.loads(await volume.read(f"{journal.folder}/status.json"))
    except MissingError:
        return None
    except ValueError:
        return None
    if not isinstance(status, dict):
        return None
    updated = status.get("updated")
    if journal.launch > 1 and isinstance(updated, int | float) and updated < (journal.spawned or 0):
        return None  # what the launch before this one left
    return status
