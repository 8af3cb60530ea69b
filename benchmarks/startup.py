"""Time to first paint and memory at rest, beside a minimal Textual app in the same run.

Each sample is a process of its own in a pseudo terminal of 120x36. First paint: the moment when the
terminal (emulated by pyte) shows text of the app. Memory: the process's resident set a second later.

    python benchmarks/startup.py [--runs N] [--runs-table ROWS]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

import psutil
import pyte

COLUMNS, ROWS = 120, 36
DEADLINE = 30.0
GLYPHS = 5  # so many visible characters are a picture, not a stray reply
MINIMAL = """
from textual.app import App
from textual.widgets import Static

class Minimal(App):
    def compose(self):
        yield Static("hello from a minimal app")

Minimal().run()
"""


@dataclass(frozen=True)
class Sample:
    """One start: seconds to the first paint, MiB at rest."""

    seconds: float
    memory: float


@contextlib.contextmanager
def _terminal(command: list[str], env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True, close_fds=True
    )
    os.close(slave)
    try:
        yield process, master
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)


def _read(master: int, stream: pyte.ByteStream, seconds: float) -> bool:
    ready, _, _ = select.select([master], [], [], seconds)
    if not ready:
        return False
    try:
        data = os.read(master, 65536)
    except OSError:
        return False
    stream.feed(data.replace(b"\x1b[>4;1m", b""))  # pyte mistakes this key setting for underline
    return True


def start_once(command: list[str], env: dict[str, str], rest: float) -> Sample:
    """Start ``command`` once.

    Raises:
        RuntimeError: Nothing was painted in time.
    """
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    began = time.perf_counter()
    with _terminal(command, env) as (process, master):
        while True:
            if time.perf_counter() - began > DEADLINE or process.poll() is not None:
                raise RuntimeError("nothing was painted:\n" + "\n".join(screen.display).rstrip())
            if (
                _read(master, stream, 0.05)
                and sum(len(line.split()) and len("".join(line.split())) for line in screen.display) > GLYPHS
            ):
                break
        seconds = time.perf_counter() - began
        until = time.perf_counter() + rest
        while (left := until - time.perf_counter()) > 0:
            _read(master, stream, left)
        memory = psutil.Process(process.pid).memory_info().rss / 2**20
    return Sample(seconds, memory)


def _fill_table(home: Path, rows: int) -> None:
    """A last session's table of runs, as the app remembers it."""
    (home / "cache").mkdir(parents=True)
    table = [
        {
            "id": f"run{n:05}",
            "name": f"run {n}",
            "backend": "local",
            "status": "finished",
            "reason": None,
            "step": 1000,
            "steps": 1000,
            "loss": 0.1,
            "created": 1.7e9 + n,
            "updated": 1.7e9 + n + 500,
            "path": str(home / "runs" / f"run{n}"),
        }
        for n in range(rows)
    ]
    (home / "cache" / "run-table.json").write_text(json.dumps(table), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9, help="starts of each app (default 9)")
    parser.add_argument(
        "--runs-table", type=int, default=20, help="remembered runs in the table (default 20)"
    )
    parser.add_argument("--rest", type=float, default=1.2, help="seconds until memory is read (default 1.2)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        _fill_table(home, arguments.runs_table)
        env = {
            k: v for k, v in os.environ.items() if not k.startswith(("TEXTUAL", "SSH_", "NO_COLOR", "TMUX"))
        }
        env |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "FLUXLORA_HOME": str(home)}
        env["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        apps = {
            "minimal": [sys.executable, "-c", MINIMAL],
            "fluxlora-tui": [sys.executable, "-m", "tui"],
        }
        samples: dict[str, list[Sample]] = {name: [] for name in apps}
        for command in apps.values():  # warm the disk's and Python's caches
            start_once(command, env, 0.0)
        for _ in range(arguments.runs):
            for name, command in apps.items():
                samples[name].append(start_once(command, env, arguments.rest))
    medians = {}
    print(f"{arguments.runs} starts each, {COLUMNS}x{ROWS}, alternating")
    for name, taken in samples.items():
        seconds = [sample.seconds for sample in taken]
        memory = statistics.median(sample.memory for sample in taken)
        medians[name] = statistics.median(seconds)
        print(
            f"{name:14} first paint {medians[name] * 1000:6.0f} ms"
            f" (min {min(seconds) * 1000:.0f}, max {max(seconds) * 1000:.0f})   memory {memory:5.1f} MiB"
        )
    print(f"ratio {medians['fluxlora-tui'] / medians['minimal']:.2f}")


if __name__ == "__main__":
    main()
