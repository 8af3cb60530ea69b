"""The network goes away in mid-run, for a short and for a long time; nothing is lost or doubled.

Four computers with a Modal each go through it side by side: most of the time they only wait.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.loopback.cloud import LoopbackCloud
from tests.modal.client import Client, complete
from tests.modal.conftest import PRETEND, write_project

SHORT, LONG = 25.0, 70.0  # long: beyond the windows of pieces (45 s) and of the cursor (60 s)
LINES = 3


def lived_through(computer: Client, steps: int, cut: Callable[[], None]) -> None:
    """Launch, lose the network in the middle, and look at what is there in the end."""
    run = computer.launch(f"train.steps={steps}")
    computer.wait(lambda: len(computer.steps(run)) > 5, 90, "some steps")
    cut()
    link = run.state / "link.json"
    computer.wait(
        lambda: not json.loads(link.read_text(encoding="utf-8"))["online"], 45, "offline is noticed"
    )
    assert computer.status(run)["status"] == "training"  # nothing is concluded from it
    status = computer.wait_for_end(run, 300)
    assert (status["status"], status["step"]) == ("finished", steps), computer.report()
    assert complete(steps, computer.events(run))
    assert computer.steps(run) == list(range(1, steps + 1))
    said = computer.said(run)
    assert "offline: the run continues on Modal" in said
    lines = [line.rsplit(" ", 1)[0] for line in said.splitlines() if line.startswith("step ")]
    assert lines == [f"step {step} line {n}" for step in range(1, steps + 1) for n in range(LINES)]


@pytest.fixture
def computers(tmp_path: Path, tiny_flux: Path) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        made = []
        for number in range(4):
            cloud = stack.enter_context(LoopbackCloud())
            cloud.knobs.environment |= {
                "FLUXLORA_TRAINER": PRETEND.stem,
                "PYTHONPATH": str(PRETEND.parent),
                "PRETEND": json.dumps({"pause": 0.25, "lines": LINES}),
            }
            config = write_project(tmp_path / f"project{number}", tiny_flux)
            made.append(Client(cloud, tmp_path / f"home{number}", config))
        yield made
        for computer in made:
            computer.switch_off()


@pytest.mark.waits
def test_without_a_network(computers: list[Client]) -> None:
    """For 25 and 70 seconds; refused and silent; the run goes on meanwhile, or ends."""
    cases: list[tuple[Client, int, Callable[[], None]]] = [
        (computers[0], 180, lambda: computers[0].cloud.drop_connections(SHORT)),
        (computers[1], 180, lambda: computers[1].cloud.hang_connections(SHORT)),
        (computers[2], 380, lambda: computers[2].cloud.drop_connections(LONG)),
        (computers[3], 100, lambda: computers[3].cloud.drop_connections(LONG)),
    ]
    failures: list[BaseException] = []

    def live(computer: Client, steps: int, cut: Callable[[], None]) -> None:
        try:
            lived_through(computer, steps, cut)
        except BaseException as error:  # told in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=live, args=case) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
