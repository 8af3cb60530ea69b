"""Three runs at once that talk a lot: all of it arrives, soon, on all three."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from backend.launchers.modal.journal import Stage
from backend.runs.folder import RunFolder
from tests.modal.client import Client

STEPS, LINES, PAUSE = 160, 100, 0.05  # 2,000 lines a second and run


def newest(run: RunFolder) -> float | None:
    """When the newest line that is here was printed."""
    with run.log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        lines = [line for line in file.read().decode().split("\n")[:-1] if line.startswith("step ")]
    return float(lines[-1].rsplit(" ", 1)[1]) if lines else None


def test_two_thousand_lines_a_second_from_each_of_three(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=PAUSE, lines=LINES)
    runs = [computer.launch(f"train.steps={STEPS}", f"config.name=fox{number}") for number in range(3)]
    for run in runs:
        computer.wait(lambda run=run: computer.journal(run).stage is Stage.SPAWNED, 60, "spawned")
        computer.wait(lambda run=run: computer.steps(run), 60, "steps")
    lags: list[float] = []
    while any(len(computer.steps(run)) < STEPS for run in runs):
        for run in runs:
            last = newest(run)
            if last is not None and len(computer.steps(run)) < STEPS:
                lags.append(time.time() - last)
        assert time.time() - last < 120 if last else True, computer.report()
        time.sleep(0.1)
    for run in runs:
        assert computer.wait_for_end(run)["status"] == "finished"
        lines = [
            line.rsplit(" ", 1)[0]
            for line in run.log.read_text(encoding="utf-8").splitlines()
            if line.startswith("step ")
        ]
        assert lines == [f"step {step} line {n}" for step in range(1, STEPS + 1) for n in range(LINES)]
    assert statistics.median(lags) < 1.0, statistics.quantiles(lags, n=20)
    print(f"lag: median {statistics.median(lags):.3f} s, p95 {statistics.quantiles(lags, n=20)[-1]:.3f} s")
