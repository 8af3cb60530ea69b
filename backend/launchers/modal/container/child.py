"""The process that does the work, in a group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from backend.launchers.modal.container.paths import package_root
from backend.launchers.modal.container.pump import Lines, Pump

LEASH = "backend.launchers.modal.container.leash"

_QUIET = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "PYTHONFAULTHANDLER": "1",  # a crash in native code names the place
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TQDM_MININTERVAL": "5",
    "NO_COLOR": "1",
    "TERM": "dumb",
}


class Child:
    """A Python module, running; what it prints goes to the log.

    Args:
        module: The module.
        arguments: Its arguments.
        environment: Added to this process's own.
        log: Where its output goes.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Lines
    ) -> None:
        path = [str(package_root())]
        if inherited := os.environ.get("PYTHONPATH"):
            path.append(inherited)
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", LEASH, module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=tempfile.gettempdir(),  # a working folder on the volume would keep it from reloading
                env={
                    **os.environ,
                    **_QUIET,
                    **environment,
                    "PYTHONPATH": os.pathsep.join(path),
                    "FLUXLORA_LEASH": str(os.getpid()),
                },
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pump = Pump(reading, log)
        self.killed = False

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Like :meth:`poll`, after at most ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask it to save and stop."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.poll() is None:
            self.killed = True
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self, patience: float = 10.0) -> None:
        """After its end: end what it left behind, and take in the rest of its output."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pump.join(patience)
