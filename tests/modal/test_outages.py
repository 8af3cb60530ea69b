"""The network goes away in mid-run, for a short and for a long time; nothing is lost or doubled."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loopback.cloud import LoopbackCloud
from tests.modal.client import Client, complete
from tests.modal.conftest import PRETEND, write_project

LONG = 120.0


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_twenty_five_seconds_without_a_network(pretend: Callable[..., Client], kind: str) -> None:
    computer = pretend(pause=0.1, lines=5)
    run = computer.launch("train.steps=400")
    computer.wait(lambda: len(computer.steps(run)) > 10, 60, "some steps")
    cut = computer.cloud.drop_connections if kind == "refused" else computer.cloud.hang_connections
    cut(25.0)
    computer.wait(
        lambda: not json.loads((run.state / "link.json").read_text())["online"], 40, "offline is noticed"
    )
    assert computer.status(run)["status"] == "training"  # nothing is concluded from it
    status = computer.wait_for_end(run, 120)
    assert (status["status"], status["step"]) == ("finished", 400), computer.report()
    assert computer.steps(run) == list(range(1, 401))
    assert "offline: the run continues on Modal" in computer.said(run)
    lines = [line.rsplit(" ", 1)[0] for line in computer.said(run).splitlines() if line.startswith("step ")]
    assert lines == [f"step {step} line {n}" for step in range(1, 401) for n in range(5)]


def test_two_minutes_without_a_network_and_the_run_ends_meanwhile(tmp_path: Path, tiny_flux: Path) -> None:
    with LoopbackCloud() as first, LoopbackCloud() as second:
        computers = []
        for number, (cloud, steps) in enumerate(((first, 300), (second, 1500))):
            plan = json.dumps({"pause": 0.1, "lines": 2})
            cloud.knobs.environment |= {
                "FLUXLORA_TRAINER": PRETEND.stem,
                "PYTHONPATH": str(PRETEND.parent),
                "PRETEND": plan,
            }
            config = write_project(tmp_path / f"project{number}", tiny_flux)
            computers.append((Client(cloud, tmp_path / f"home{number}", config), steps))
        results: list[str] = []

        def live(computer: Client, steps: int) -> None:
            run = computer.launch(f"train.steps={steps}")
            computer.wait(lambda: len(computer.steps(run)) > 5, 90, "some steps")
            computer.cloud.drop_connections(LONG)
            status = computer.wait_for_end(run, 300)
            whole = complete(steps, computer.events(run)) and computer.steps(run) == list(range(1, steps + 1))
            results.append(f"{status['status']} {status['step'] == steps} {whole}")

        threads = [threading.Thread(target=live, args=pair) for pair in computers]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            for computer, _ in computers:
                computer.switch_off()
        assert results == ["finished True True"] * 2
