"""Rounds of samples that the trainer hands over, handed on to containers of their own.

Whatever goes wrong here costs pictures, never training.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.files import read_json, write_json
from backend.launchers.modal.container.sdk import Volume, VolumeError

HANDED_FILE = "handed.json"
"""In ``state/sampling``: the calls that draw rounds, by the id of the request."""

_REQUEST = re.compile(r"(\d{1,12})\.json")
_INTERVAL = 1.0
_TIDY_EVERY = 15  # looks between two looks at what is done
_TRIES = 5
_LAST_LOOK = 60.0  # seconds for a look that is under way


class SamplerDispatch:
    """Starts a container for every request in ``state/sampling``, once what it needs is committed.

    Args:
        folder: ``state/sampling``.
        remote: The same folder, relative to the volume's root.
        volume: The volume.
        commit: Commits all that was written; raises :class:`VolumeError`.
        spawn: Starts a container for a step; returns the id of the call; raises :class:`VolumeError`.
        say: Writes a log line, with its level.
    """

    def __init__(
        self,
        folder: Path,
        remote: str,
        volume: Volume,
        commit: Callable[[], None],
        spawn: Callable[[int], str],
        say: Callable[[str, str], None],
        interval: float = _INTERVAL,
    ) -> None:
        self._folder = folder
        self._remote = remote
        self._volume = volume
        self._commit = commit
        self._spawn = spawn
        self._say = say
        self._interval = interval
        self._failures: dict[str, int] = {}
        handed = read_json(folder / HANDED_FILE)
        self._handed: dict[str, str] = handed if isinstance(handed, dict) else {}
        self.calls: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="samplers", daemon=True)

    def start(self) -> None:
        """Begin to look for requests."""
        self._thread.start()

    def stop(self, *, last_look: bool) -> None:
        """Look no more, but a last time if there is time for that."""
        self._stop.set()
        if last_look:
            self._thread.join(_LAST_LOOK)
            if not self._thread.is_alive():
                self.look()

    def look(self) -> None:
        """Hand on what is new."""
        with self._lock:
            for step, request in self._requests():
                if request not in self._handed and self._failures.get(request, 0) < _TRIES:
                    self._hand_on(step, request)

    def tidy(self) -> None:
        """Delete the requests that are done, so that the trainer can delete their weights.

        The sampler deletes them on the volume; this container does not see that by itself.
        """
        with self._lock:
            here = {f"{step}.json" for step, request in self._requests() if request in self._handed}
            if here:
                for name in here - set(self._volume.names(self._remote)):
                    (self._folder / name).unlink(missing_ok=True)

    def _requests(self) -> list[tuple[int, str]]:
        try:
            names = [match for path in self._folder.iterdir() if (match := _REQUEST.fullmatch(path.name))]
        except OSError:
            return []
        found = []
        for name in sorted(names, key=lambda match: int(match[1])):
            document: Any = read_json(self._folder / name.string)
            if isinstance(document, dict):
                found.append((int(name[1]), str(document.get("id") or name[1])))
        return found

    def _hand_on(self, step: int, request: str) -> None:
        try:
            self._commit()
            call = self._spawn(step)
        except VolumeError as error:
            self._failures[request] = self._failures.get(request, 0) + 1
            if self._failures[request] == _TRIES:
                self._say(
                    f"the samples of step {step} are left out: no container came up ({error})", "WARNING"
                )
            return
        self._handed[request] = call
        self.calls.append(call)
        with contextlib.suppress(OSError):
            write_json(self._folder / HANDED_FILE, self._handed)

    def _run(self) -> None:
        looks = 0
        while not self._stop.wait(self._interval):
            self.look()
            looks += 1
            if looks % _TIDY_EVERY == 0:
                with contextlib.suppress(VolumeError, OSError):
                    self.tidy()
