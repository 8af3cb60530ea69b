"""Three runs on Modal that print 2,000 lines a second each: how late they are here, and how quick keys stay.

The runs are pretended (``tests/modal/pretend_trainer.py``) in the stand-in of ``tests/loopback``; couriers,
mirrors and the app are the real ones. The app runs in a pty of 120x36 with its monitor on one of the runs; a
key's time is from writing it to when what it asked for has been written. Everything shares this machine:
three containers, three couriers, the stand-in, the app. Prints one JSON line::

    python -m benchmarks.modal_follow [--seconds 20]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.e2e.terminal import Terminal
from tests.loopback.cloud import LoopbackCloud
from tests.modal.client import Client
from tests.modal.conftest import PRETEND, write_project
from tests.modal.test_three_runs import newest


class Wire(Terminal):
    """What the app writes, as it comes: an emulator in Python is slow, and would be timed with it."""

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.raw += data

    def text(self) -> str:
        """The last that was written, control sequences and all."""
        return self.raw[-200_000:].decode("utf-8", "replace")


def key_times(terminal: Wire, seconds: float) -> dict[str, list[float]]:
    """Seconds from pressing to the screen's answer, for some keys of the monitor and of the jobs."""
    keys = (
        ("1", "1", b"Progress"),  # to the jobs
        ("2", "2", b"Loss"),  # to the monitor
        ("m", "m", b"lr"),  # in the chart: the learning rate, and back
        ("M", "M", b"loss"),
        ("?", "?", b"esc"),
        ("escape", "escape", b"Loss"),
    )
    times: dict[str, list[float]] = {name: [] for name, _, _ in keys}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, key, shows in keys:
            began, written = time.perf_counter(), len(terminal.raw)
            terminal.press(key)
            while shows not in terminal.raw[written:]:
                if time.perf_counter() - began > 5:
                    raise RuntimeError(f"{key} did nothing:\n{terminal.raw[written:]!r}")
                time.sleep(0.0005)
            times[name].append(time.perf_counter() - began)
            time.sleep(0.15 + random.random() / 10)  # not in step with the repaints
    return times


def press_keys(seconds: float) -> dict[str, object]:
    """Open the app, go to the monitor and press keys; in a process that does nothing else."""
    terminal = Wire([sys.executable, "-m", "tui"], env=dict(os.environ), cwd=Path.cwd(), columns=120, rows=36)
    try:
        terminal.wait_for("training", 60)
        terminal.press("2")
        terminal.wait_for("Loss", 30)
        time.sleep(3)
        terminal.press("tab")  # the chart has the focus
        app = psutil.Process(terminal.process.pid)
        app.cpu_percent()
        times = key_times(terminal, seconds)
        share = app.cpu_percent()
    finally:
        terminal.close()
    keys = [took for some in times.values() for took in some]
    return {
        "key_median_ms": round(1000 * statistics.median(keys), 1),
        "key_p95_ms": p95(keys),
        "key_p95_ms_by_key": {key: p95(some) for key, some in times.items()},
        "keys": len(keys),
        "app_cpu_percent": round(share),
        "load": round(os.getloadavg()[0], 1),
    }


def p95(seconds: Sequence[float]) -> float:
    """The 95th percentile, in milliseconds."""
    return round(1000 * statistics.quantiles(seconds, n=20)[-1], 1)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only-keys", action="store_true", help="of an app in this environment")
    parser.add_argument(
        "--undisturbed",
        action="store_true",
        help="give app and keys the CPU first (Linux, root)",
    )
    options = parser.parse_args()
    if options.only_keys:
        print(json.dumps(press_keys(options.seconds)))
        return 0
    from backend.trainer.tiny import build_tiny_flux

    command = [sys.executable, "-m", "benchmarks.modal_follow"]
    if options.undisturbed:
        command = ["chrt", "-r", "10", *command]
    with tempfile.TemporaryDirectory() as place, LoopbackCloud() as cloud:
        folder = Path(place)
        cloud.knobs.environment |= {
            "FLUXLORA_TRAINER": PRETEND.stem,
            "PYTHONPATH": str(PRETEND.parent),
            "PRETEND": json.dumps({"pause": 0.05, "lines": 100}),
        }
        config = write_project(folder / "project", build_tiny_flux(folder / "tiny"))
        client = Client(cloud, folder / "home", config)
        try:
            runs = [client.launch("train.steps=100000", f"config.name=fox{number}") for number in range(3)]
            for run in runs:
                client.wait(lambda run=run: client.steps(run), 60, "steps")
            pressing = subprocess.Popen(
                [*command, "--only-keys", "--seconds", str(options.seconds)],
                env={**client.environment, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdout=subprocess.PIPE,
            )
            lags: list[float] = []
            while pressing.poll() is None:
                lags += [time.time() - last for run in runs if (last := newest(run)) is not None]
                time.sleep(0.1)
            assert pressing.stdout is not None
            keys = json.loads(pressing.stdout.read())
        finally:
            client.switch_off()
    lag = {"lag_median_s": round(statistics.median(lags), 3), "lag_p95_s": p95(lags) / 1000}
    print(json.dumps({"lines_a_second": 6000, **lag, **keys}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
