"""A real terminal for end-to-end tests: a pty, and pyte's emulator that knows what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pyte

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "ctrl+c": "\x03",
    "ctrl+q": "\x11",
    "ctrl+o": "\x0f",
    "ctrl+p": "\x10",
    "left": "\x1b[D",
    "right": "\x1b[C",
    "up": "\x1b[A",
    "down": "\x1b[B",
}


class Terminal:
    """Runs a command in a terminal of its own.

    Args:
        command: Program and arguments.
        columns: Width.
        rows: Height.
        env: The whole environment.
        cwd: Working folder.
    """

    def __init__(
        self, command: Sequence[str], *, columns: int = 120, rows: int = 36, env: dict[str, str], cwd: Path
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self.raw = bytearray()
        self._master, slave = pty.openpty()
        self._set_size(columns, rows)
        self.process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env={"TERM": "xterm-256color", "COLORTERM": "truecolor", **env},
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                shown, rest = known_to_pyte(rest + data)
                self._stream.feed(shown)

    def resize(self, columns: int, rows: int) -> None:
        """Change the terminal's size, as dragging a window's corner does."""
        with self._lock:
            self._screen.resize(rows, columns)
        self._set_size(columns, rows)
        os.killpg(self.process.pid, signal.SIGWINCH)

    def text(self) -> str:
        """What the screen shows, a line a row."""
        with self._lock:
            return "\n".join(line.rstrip() for line in self._screen.display)

    def press(self, *keys: str) -> None:
        """Type keys, by name or as text."""
        for key in keys:
            os.write(self._master, KEYS.get(key, key).encode())

    def wait_for(self, pattern: str, seconds: float = 30) -> str:
        """Wait until the screen matches a regular expression; returns the screen."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.text()
            if re.search(pattern, text):
                return text
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not appear in {seconds} s; the screen shows:\n{text}")
            if self.process.poll() is not None and not self._reader.is_alive():
                raise AssertionError(f"ended with {self.process.returncode}; the screen shows:\n{text}")
            time.sleep(0.05)

    def wait_for_end(self, seconds: float = 20) -> int:
        """Wait until the command ends; returns its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running after {seconds} s; the screen shows:\n{self.text()}"
            ) from None

    def kill(self) -> None:
        """SIGKILL the command and all in its session, as closing the window on a hung app does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        """End everything."""
        self.kill()
        os.close(self._master)


_PRIVATE = re.compile(
    rb"\x1b\[[<>=?][0-9;]*\$?[a-zA-Z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1bP[^\x1b]*\x1b\\"
)
_UNFINISHED = re.compile(rb"\x1b(?:\[[<>=?]?[0-9;]*\$?|\][^\x07\x1b]*\x1b?|P[^\x1b]*\x1b?)?\Z")


def known_to_pyte(data: bytes) -> tuple[bytes, bytes]:
    """Take away private sequences (kitty keys, mouse modes): pyte prints what it does not know.

    Returns:
        What pyte may see, and the beginning of a sequence that the next bytes end.
    """
    unfinished = _UNFINISHED.search(data)
    cut = unfinished.start() if unfinished else len(data)
    return _PRIVATE.sub(b"", data[:cut]), data[cut:]
