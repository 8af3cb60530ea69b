"""Processes that outlive the one that started them, and how to find them again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# psutil is imported where it is used: listing finished runs needs no look at processes.

_TOLERANCE = 2.0  # seconds; start times are read back from a clock with coarse ticks

_children: list[subprocess.Popen[bytes]] = []


def spawn_detached(
    arguments: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Start a process that survives this one and its terminal.

    Its output is appended to ``log``; it reads nothing. Returns its pid and start time, which together
    name it until the machine's clock is set back, also over a reboot. ``environment`` replaces this
    process's own.

    Raises:
        OSError: It could not be started.
    """
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = (
            subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW | 0x00000008  # detached
        )
    else:
        options["start_new_session"] = True  # the terminal's hang-up and Ctrl-C do not reach it
    inherited = os.environ if environment is None else environment
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**inherited, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"},
            close_fds=True,
            **options,
        )
    _children.append(child)
    return {"pid": child.pid, "started": started_at(child.pid)}


def started_at(pid: int) -> float | None:
    """When the process began, seconds since 1970; None if it is gone."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def is_alive(handle: dict[str, Any]) -> bool:
    """Whether the very process of ``handle`` still runs; another one with its pid does not count."""
    import psutil

    # A child that ended stays a zombie until somebody asks for its exit status.
    for child in [c for c in _children if c.poll() is not None]:
        _children.remove(child)
    pid, started = handle.get("pid"), handle.get("started")
    if not isinstance(pid, int):
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return not isinstance(started, int | float) or abs(process.create_time() - started) < _TOLERANCE
    except psutil.Error:
        return False


def ask_to_stop(handle: dict[str, Any]) -> None:
    """Send SIGTERM, where signals exist; elsewhere the stop file alone has to do."""
    if sys.platform != "win32" and is_alive(handle):
        with contextlib.suppress(OSError):
            os.kill(handle["pid"], signal.SIGTERM)


def kill(handle: dict[str, Any], *, patience: float = 10.0) -> bool:
    """End the process and its children at once; returns whether it is gone.

    Waits up to ``patience`` seconds for it to disappear.
    """
    import psutil

    if not is_alive(handle):
        return True
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(handle["pid"])
        family = [*process.children(recursive=True), process]
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(family, timeout=patience)
    return not is_alive(handle)
