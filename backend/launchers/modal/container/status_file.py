"""``status.json``: how the run stands, for whoever asks when Modal has forgotten the function's result."""

from __future__ import annotations

import time
from pathlib import Path

from backend.events import Status
from backend.files import read_json, write_json
from backend.launchers.modal.container.said import Said

NAME = "status.json"


class StatusFile:
    """Writes the file for one container.

    Args:
        path: The file.
        boot: Number of the container.
        started: When it began, seconds since 1970.
        gpu: Name of its GPU.
    """

    def __init__(self, path: Path, boot: int, started: float, gpu: str) -> None:
        self._path = path
        self._boot = boot
        self._started = started
        self._gpu = gpu
        before = read_json(path)
        spent = before.get("spent_seconds") if isinstance(before, dict) else None
        self._spent_before = float(spent) if isinstance(spent, int | float) else 0.0

    def write(self, said: Said) -> None:
        """Replace the file.

        Raises:
            OSError: The disk is full.
        """
        now = time.time()
        good = said.status in (Status.FINISHED, Status.STOPPED)
        document = {
            "version": 1,
            "ok": good if said.ended_for_good else None,
            "status": said.status.value,
            "reason": said.reason,
            "error": said.error if said.status is Status.FAILED else None,
            "step": said.step,
            "steps": said.steps,
            "boot": self._boot,
            "updated": round(now, 3),
            "spent_seconds": round(self._spent_before + max(0.0, now - self._started), 1),
            "gpu": self._gpu,
        }
        write_json(self._path, document)
