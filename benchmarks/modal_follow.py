"""Three runs on Modal that print 2,000 lines a second each: how late they are here, and how quick keys stay.

The runs are pretended (``tests/modal/pretend_trainer.py``) in the stand-in of ``tests/loopback``; couriers,
mirrors and the app are the real ones. The app runs in a pty of 120x36 with its monitor on one of the runs; a
key's time is from writing it to the first change of the screen that it causes. Everything shares this
machine: three containers, three couriers, the stand-in, the app. Prints one JSON line::

    python -m benchmarks.modal_follow [--seconds 20]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.terminal import Terminal
from tests.loopback.cloud import LoopbackCloud
from tests.modal.client import Client
from tests.modal.conftest import PRETEND, write_project
from tests.modal.test_three_runs import newest


def key_times(terminal: Terminal, seconds: float) -> list[float]:
    """Seconds from pressing to the screen's answer, for the keys that switch between Jobs and Monitor."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, shows in (("1", "Progress"), ("2", "Loss")):
            began = time.perf_counter()
            terminal.press(key)
            while shows not in terminal.text():
                if time.perf_counter() - began > 5:
                    raise RuntimeError(f"{key} did nothing:\n{terminal.text()}")
                time.sleep(0.001)
            times.append(time.perf_counter() - began)
            time.sleep(0.3)
    return times


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    from backend.trainer.tiny import build_tiny_flux

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
            terminal = Terminal(
                [sys.executable, "-m", "tui"], env=client.environment, cwd=folder, columns=120, rows=36
            )
            terminal.wait_for("training", 30)
            terminal.press("2")
            terminal.wait_for("Loss", 30)
            time.sleep(3)
            keys = key_times(terminal, options.seconds)
            lags = []
            for _ in range(100):
                lags += [time.time() - last for run in runs if (last := newest(run)) is not None]
                time.sleep(0.05)
            terminal.close()
        finally:
            client.switch_off()
    print(
        json.dumps(
            {
                "lines_a_second": 6000,
                "lag_median_s": round(statistics.median(lags), 3),
                "lag_p95_s": round(statistics.quantiles(lags, n=20)[-1], 3),
                "key_median_ms": round(1000 * statistics.median(keys), 1),
                "key_p95_ms": round(1000 * statistics.quantiles(keys, n=20)[-1], 1),
                "keys": len(keys),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
