"""Keeping a run's mirror up to date: the app's output live, and the volume where that is not enough."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from backend.launchers.modal.mirror import Mirror, Newest
from backend.launchers.modal.remote import RemoteError, RemoteVolume
from backend.launchers.modal.tail import Link, Tailer, pause_before
from backend.launchers.modal.volume_reader import Boot, Portion, VolumeReader

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class FollowState:
    """What is known of the following.

    Attributes:
        link: How the app's output reaches us.
        since: When that began, seconds since 1970.
        last_arrival: When something last came live, seconds since 1970; 0 if never.
        volume_read: When the volume was last read without a fault, seconds since 1970; 0 if never.
        waiting: Whether something waits behind a gap.
        complete: Whether the run is over and all that there is of it has been written.
        error: Why the output or the volume cannot be reached, as a sentence; None if both can.
        boots: The run's containers, as the volume has them.
    """

    link: Link = Link.CONNECTING
    since: float = 0.0
    last_arrival: float = 0.0
    volume_read: float = 0.0
    waiting: bool = False
    complete: bool = False
    error: str | None = None
    boots: tuple[Boot, ...] = ()

    @property
    def online(self) -> bool:
        """Whether Modal can be reached."""
        return self.link in (Link.LIVE, Link.DONE)


@dataclass(frozen=True, kw_only=True)
class FollowTiming:
    """Seconds.

    Attributes:
        gap: From a gap to the first look at the volume for what is missing.
        again: Between further looks.
        quiet: Without anything live, after which the volume is looked at.
        settling: From the first sign of a new container to the assumption that its predecessor's last words
            can be asked for.
        patience: After which a new container is believed in although the old one's output cannot be had.
        retry: The longest pause between two tries to read the volume.
        last_gap: How long the end of a run waits for what is missing to be committed.
    """

    gap: float = 2.0
    again: float = 5.0
    quiet: float = 15.0
    settling: float = 1.0
    patience: float = 60.0
    retry: float = 15.0
    last_gap: float = 15.0


class Follower:
    """Drives a mirror until the run's end is known.

    ``run`` is a task of its own. When the caller knows that the run is over, it awaits :meth:`finish`.

    Args:
        mirror: Where everything goes; its ``remote_folder`` must be known.
        volume: The volume that has the run.
        tailer: The app's output, from ``mirror.since_us`` on.
        on_change: Called when the state has changed in more than the time of the last arrival.
        timing: How long things take.
    """

    def __init__(
        self,
        mirror: Mirror,
        volume: RemoteVolume,
        tailer: Tailer,
        on_change: Callable[[FollowState], None] | None = None,
        *,
        timing: FollowTiming | None = None,
    ) -> None:
        self._mirror, self._tailer = mirror, tailer
        self._reader = VolumeReader(volume, mirror.remote_folder)
        self._on_change = on_change
        self._timing = timing or FollowTiming()
        self._one = asyncio.Lock()  # the mirror is written in threads, by one at a time
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()
        self._shown = FollowState()
        self._boots: tuple[Boot, ...] = ()
        self._complete = False
        self._volume_read = 0.0
        self._volume_error: str | None = None
        self._failures = 0
        self._looked: float | None = None  # when the volume was last read or tried
        self._heard = time.monotonic()
        self._waiting_since: float | None = None
        self._newest = Newest(0, 0)
        self._newest_since = time.monotonic()
        self._settled = Newest(0, 0)
        self._look_now = True

    @property
    def state(self) -> FollowState:
        """The state now."""
        tail = self._tailer.state
        error = None
        if tail.link is Link.OFFLINE:
            error = str(tail.error) or type(tail.error).__name__
        return FollowState(
            link=tail.link,
            since=tail.since,
            last_arrival=self._mirror.last_arrival,
            volume_read=self._volume_read,
            waiting=self._mirror.waiting,
            complete=self._complete,
            error=error or self._volume_error,
            boots=self._boots,
        )

    def look(self) -> None:
        """Read the volume soon: the caller has reason to think that there is something."""
        self._look_now = True
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled, or until :meth:`finish` has done its work.

        Raises:
            OSError: The local folder cannot be written.
        """
        self._mirror.rejoin()
        tasks = [asyncio.create_task(self._follow_output()), asyncio.create_task(self._follow_volume())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def finish(self, patience: float = 60.0) -> bool:
        """The run is over: get all that there is of it and write it. ``run`` must be going on.

        What cannot be found is given up only after the volume has been asked, and the output as well if it
        can be had at all.

        Args:
            patience: Seconds to try for.

        Returns:
            Whether that was possible; False without a network. Nothing is given up then, and it can be
            tried again.

        Raises:
            OSError: The local folder cannot be written.
        """
        began = time.monotonic()
        while True:
            caught_up = await self._catch_up()
            if caught_up:
                await self._tailer.finish_lines()
            read = await self._read_volume()
            spent = time.monotonic() - began
            if read and caught_up and (not self._mirror.waiting or spent >= self._timing.last_gap):
                break
            if spent >= patience:
                if not read:
                    return False
                break
            await asyncio.sleep(min(2.0, self._timing.again))
        await self._with_mirror(self._mirror.finish)
        self._complete = True
        self._tell()
        self._wake.set()
        return True

    async def _with_mirror(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        async with self._one:
            return await asyncio.to_thread(act, *args, **kwargs)

    # The app's output

    async def _follow_output(self) -> None:
        async with contextlib.aclosing(self._tailer.batches()) as batches:
            async for lines in batches:
                await self._with_mirror(self._mirror.take, lines)
                self._heard = time.monotonic()
                self._note_waiting()

    def _note_waiting(self) -> None:
        now = time.monotonic()
        if not self._mirror.waiting:
            self._waiting_since = None
        elif self._waiting_since is None:
            self._waiting_since = now
        newest = self._mirror.newest()
        if newest != self._newest:
            self._newest, self._newest_since = newest, now

    async def _catch_up(self) -> bool:
        """Get the output up to now; False if it cannot be had at this moment."""
        try:
            return await asyncio.wait_for(self._tailer.catch_up(), self._timing.patience)
        except TimeoutError:
            return False

    # The volume

    async def _follow_volume(self) -> None:
        was = self._tailer.state.link
        while not self._complete:
            self._note_waiting()
            link = self._tailer.state.link
            if link is not was:
                self._look_now |= was is Link.OFFLINE  # back from an outage
                was = link
            if self._is_due():
                await self._look()
            self._tell()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), min(0.25, self._timing.gap))
            self._wake.clear()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._looked is None or self._look_now:
            return True
        pause = now - self._looked
        if self._failures:
            return pause >= max(0.5, pause_before(self._failures + 1, self._timing.retry, 1.0))
        if self._must_settle():
            fresh = self._looked < self._newest_since + self._timing.settling
            return now - self._newest_since >= self._timing.settling and (
                fresh or pause >= self._timing.again
            )
        if self._waiting_since is not None:
            fresh = self._looked < self._waiting_since
            return now - self._waiting_since >= self._timing.gap and (fresh or pause >= self._timing.again)
        return now - max(self._heard, self._looked) >= self._timing.quiet

    def _must_settle(self) -> bool:
        return self._mirror.waiting and self._newest != self._settled

    async def _look(self) -> None:
        """Read the volume; and if a container has been followed by another, see its end through first."""
        self._look_now = False
        self._note_waiting()
        newest, since = self._newest, self._newest_since
        crossing = self._must_settle()
        caught_up = await self._catch_up() if crossing else False
        if not await self._read_volume() or not crossing:
            return
        waited = time.monotonic() - since
        if (caught_up and waited >= self._timing.settling) or waited >= self._timing.patience:
            await self._with_mirror(self._mirror.settle, newest)
            self._settled = newest
            self._note_waiting()

    async def _read_volume(self) -> bool:
        """Take in what the volume has; False if it cannot be reached."""
        async with self._reading:
            if self._mirror.refused:
                self._mirror.room()
                self._reader.rewind()
            try:
                async with contextlib.aclosing(self._reader.read()) as portions:
                    async for portion in portions:
                        await self._with_mirror(self._take, portion)
            except RemoteError as error:
                self._failures += 1
                self._volume_error = str(error)
                return False
            finally:
                self._looked = time.monotonic()
                self._note_waiting()
            self._failures, self._volume_error, self._volume_read = 0, None, time.time()
            if self._tailer.state.link is Link.OFFLINE:
                self._tailer.hurry()
            return True

    def _take(self, portion: Portion) -> None:
        mirror = self._mirror
        if portion.boots:
            self._boots = tuple(portion.boots)
            mirror.heard_of(portion.boots[-1].number)
        if portion.log_head or portion.event_head or portion.boots:
            mirror.take_heads(portion.log_head, portion.event_head)
        if portion.lines:
            mirror.take_kept_lines(portion.lines)
        if portion.events:
            mirror.take_kept_events(portion.events)
        if portion.sampler_events:
            mirror.take_kept_events(portion.sampler_events, sampler=True)

    def _tell(self) -> None:
        state = self.state
        if replace(state, last_arrival=0.0, volume_read=0.0) != replace(
            self._shown, last_arrival=0.0, volume_read=0.0
        ):
            self._shown = state
            if self._on_change is not None:
                self._on_change(state)
