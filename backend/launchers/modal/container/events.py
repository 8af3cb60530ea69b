"""Events on their way from a file to standard output."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.launchers.modal import wire
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.said import parse_event

_INTERVAL = 0.05
_PIECE = 4 << 20


class EventFollower:
    """Prints the events that are appended to a file, and tells of each.

    Args:
        path: The file, which may come later.
        offset: Byte from which on events are printed.
        output: Where to print.
        on_event: Called for each event, in this follower's thread, as its JSON object.
        sampler: Whether these are the sampler's.
    """

    def __init__(
        self,
        path: Path,
        offset: int,
        output: Output,
        on_event: Callable[[dict[str, Any]], None],
        *,
        sampler: bool = False,
    ) -> None:
        self._path = path
        self._offset = offset
        self._output = output
        self._on_event = on_event
        self._sampler = sampler
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Take what is there, and end."""
        self._done.set()
        self._thread.join()
        self.poll()

    def poll(self) -> None:
        """Take what is there now."""
        with self._lock:
            while self._poll():
                pass

    def _run(self) -> None:
        while not self._done.wait(_INTERVAL):
            self.poll()

    def _poll(self) -> bool:
        """Take a portion; whether there may be more."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_PIECE)
        except OSError:
            return False
        end = data.rfind(b"\n") + 1
        if not end:
            return False
        self._offset += end
        lines, records = [], []
        for line in data[: end - 1].split(b"\n"):
            record = parse_event(line)
            if record is not None:
                records.append(record)
                lines.append(wire.event_line(line.decode("utf-8", "replace"), sampler=self._sampler))
        self._output.write("".join(lines))
        for record in records:
            self._on_event(record)
        return len(data) == _PIECE
