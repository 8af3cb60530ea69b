"""Commands that the viewer puts on the volume, brought into the running container's own folder.

A mounted volume does not show what others commit meanwhile, so they are fetched through Modal.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from backend.files import atomic_file
from backend.launchers.modal.container.sdk import Volume, VolumeError

_INTERVAL = 3.0
_LONGEST = 30.0  # seconds between two looks while Modal does not answer
_MOST = 1 << 20  # bytes of a command


class CommandFetcher:
    """Looks for new commands every few seconds, in a thread; failures are for the next look.

    Args:
        volume: The volume.
        folder: The run's ``state/control``, relative to the volume's root.
        target: The same folder in this container.
    """

    def __init__(self, volume: Volume, folder: str, target: Path, interval: float = _INTERVAL) -> None:
        self._volume = volume
        self._folder = folder
        self._target = target
        self._interval = interval
        self._delivered: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a look under way is not waited for."""
        self._done.set()

    def look(self) -> None:
        """Fetch what is new.

        Raises:
            VolumeError: Modal did not answer.
            OSError: A command cannot be written.
        """
        for name in sorted(self._volume.names(self._folder)):
            if name in self._delivered or not name.endswith(".json") or name.startswith("."):
                continue
            target = self._target / name
            if not target.exists():
                data = self._volume.read(f"{self._folder}/{name}")
                if len(data) <= _MOST and not self._done.is_set():
                    self._target.mkdir(parents=True, exist_ok=True)
                    with atomic_file(target) as file:
                        file.write(data)
            self._delivered.add(name)

    def _run(self) -> None:
        pause = self._interval
        while not self._done.wait(pause):
            try:
                self.look()
                pause = self._interval
            except (VolumeError, OSError):
                pause = min(2 * pause, _LONGEST)
            except Exception:  # the SDK at shutdown: there is no next look
                with contextlib.suppress(Exception):
                    pause = _LONGEST
