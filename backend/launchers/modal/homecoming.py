"""Files that come home by themselves while a run goes on, as far as its config wants that."""

from __future__ import annotations

import asyncio
import contextlib
import time

from backend.launchers.base import LaunchError
from backend.launchers.modal.gateway import ModalVolume
from backend.launchers.modal.journal import Journal
from backend.launchers.modal.manifest import dump_manifest, read_manifest
from backend.launchers.modal.places import Places
from backend.launchers.modal.remote import MissingError, OfflineError, RemoteError
from backend.launchers.modal.transfer import pull
from backend.launchers.modal.voice import Voice
from backend.runs.folder import RunFolder

_EVERY = 30.0  # seconds between two looks without a reason
_AFTER = 1.0  # seconds after a reason: the container commits first
_PAUSE = 4.0

_KINDS = {"nothing": (), "samples": ("sample",), "checkpoints": ("sample", "checkpoint")}


class Homecoming:
    """Keeps the local list of the run's files fresh, and brings home what is wanted."""

    def __init__(
        self, journal: Journal, volume: ModalVolume, folder: RunFolder, places: Places, voice: Voice
    ) -> None:
        self._journal = journal
        self._volume = volume
        self._folder = folder
        self._places = places
        self._voice = voice
        self._kinds = _KINDS.get(journal.bring_home, ("sample",))
        self._wake = asyncio.Event()
        self._again = 0  # looks that are due because something new was heard of
        self._complained = ""

    def hurry(self) -> None:
        """There is something new."""
        self._again = 3  # the commit that has it may take a moment
        self._wake.set()

    async def run(self) -> None:
        """Look and bring until cancelled."""
        while True:
            pause = _EVERY
            if self._again:
                self._again -= 1
                pause = _PAUSE
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
                await asyncio.sleep(_AFTER)
            self._wake.clear()
            try:
                await self.bring()
            except OfflineError:
                continue
            except (LaunchError, OSError) as error:
                if str(error) != self._complained:
                    self._complained = str(error)
                    self._voice.warning(f"files could not be brought home: {error}", "not_home")

    async def bring(self, *, last: bool = False) -> None:
        """Look at what there is, and bring what is wanted of it.

        Raises:
            LaunchError: It cannot be had, or not be kept.
        """
        try:
            manifest = await read_manifest(self._volume, self._journal.folder)
        except MissingError:
            return  # no container has come that far
        text = dump_manifest(manifest)
        if not self._places.manifest.is_file() or self._places.manifest.read_text(encoding="utf-8") != text:
            from backend.files import write_text

            write_text(self._places.manifest, text)
        wanted = [file for file in manifest.files if file.kind in self._kinds]
        if not wanted:
            return
        began = time.monotonic()
        await pull(
            self._volume,
            self._journal.folder,
            None,
            self._folder.path,
            kinds=self._kinds,
        )
        if last or time.monotonic() - began > 2:
            self._complained = ""


__all__ = ["Homecoming", "RemoteError"]
