"""Runs that are launched, left alone, found again, and brought home."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from backend.launchers.modal.journal import Stage
from backend.runs.folder import RunFolder
from tests.modal.client import Client, complete


def numbered_lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("step ")]


def test_a_pretended_run_survives_its_client(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.05, lines=3)
    run = computer.launch("train.steps=150")
    computer.wait(lambda: computer.journal(run).stage is Stage.SPAWNED, 60, "spawned")
    computer.wait(lambda: len(computer.steps(run)) > 5, 60, "some steps")
    computer.switch_off()
    seen = len(computer.steps(run))
    assert seen < 150

    status = computer.wait_for_end(run)
    assert (status["status"], status["step"]) == ("finished", 150), computer.report()
    steps = computer.steps(run)
    assert steps == list(range(1, 151))
    assert complete(150, computer.events(run))
    lines = [re.sub(r" [\d.]+$", "", line) for line in numbered_lines(run.log)]
    assert lines, computer.report()
    assert lines == [f"step {step} line {n}" for step in range(1, 151) for n in range(3)]
    computer.settles()

    result = computer.run("pull", status["id"])
    assert result.returncode == 0, result.stderr
    lora = run.checkpoints / "fox.safetensors"
    assert lora.read_bytes() == b"the lora"
    there = computer.home / "there"
    there.mkdir()
    subprocess.run(
        [computer.command()[0], "-m", "modal", "volume", "get", "flux-lora-models", "fox"],
        env=computer.environment,
        cwd=there,
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert (there / "fox" / "checkpoints" / "fox.safetensors").read_bytes() == b"the lora"


def test_another_computer_finds_the_run_and_follows_it(
    pretend: Callable[..., Client], tmp_path: Path
) -> None:
    first = pretend(pause=0.1)
    run = first.launch("train.steps=150")
    first.wait(lambda: len(first.steps(run)) > 5, 60, "some steps")
    run_id = first.status(run)["id"]
    first.switch_off()

    other = Client(first.cloud, tmp_path / "other", first.config)
    try:
        listed = other.run("modal", "runs")
        assert run_id in listed.stdout, listed.stderr
        adopted = other.run("modal", "adopt", run_id)
        assert adopted.returncode == 0, adopted.stderr
        (folder,) = other.folders()
        here = RunFolder(folder)
        status = other.wait_for_end(here)
        assert (status["id"], status["status"], status["step"]) == (run_id, "finished", 150), other.report()
        assert other.steps(here) == list(range(1, 151))
        again = other.run("modal", "adopt", run_id)
        assert again.returncode == 1
        assert "here already" in again.stderr
        # Its inputs are on the volume only, and that is enough to go on.
        longer = other.run("resume", run_id, "--no-wait", "--set", "train.steps=160")
        assert longer.returncode == 0, longer.stderr
        assert other.wait_for_end(here)["step"] == 160, other.report()
    finally:
        other.switch_off()


def test_leftovers_are_listed_and_removed(pretend: Callable[..., Client]) -> None:
    computer = pretend(pause=0.0)
    computer.cloud.knobs.detached_apps_stop = False
    run = computer.launch("train.steps=3")
    computer.wait(lambda: computer.journal(run).stage is Stage.SPAWNED, 60, "spawned")
    computer.switch_off()  # and this computer is never seen again
    computer.cloud.wait(lambda: not computer.cloud.tasks(running=True), 60, "the container's end")
    listed = computer.run("modal", "cleanup", "--json")
    assert json.loads(listed.stdout)["leftovers"], listed.stderr
    assert computer.live_apps()
    removed = computer.run("modal", "cleanup", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert computer.cloud.apps()[0].state == 5
