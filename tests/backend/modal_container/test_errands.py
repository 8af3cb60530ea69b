"""What a container does besides training: a child process, printed, committed, interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from backend.launchers.modal import wire
from backend.launchers.modal.container.errands import Errand, run_errand
from backend.launchers.modal.container.sdk import VolumeError, VolumeFullError
from tests.backend.modal_container.conftest import TRAINER, World, wait_for

INTERRUPTED = f"""
import json, sys
from pathlib import Path
from backend.launchers.modal.container.errands import Errand, run_errand
from backend.launchers.modal.container.sdk import FolderVolume

folder = Path(sys.argv[1])
first = {{"FLUXLORA_FIRST_SEQ": "1"}}
events, volume = folder / "events.jsonl", FolderVolume(folder)
try:
    run_errand(Errand({TRAINER!r}, [str(folder)], first, events, volume, sampler=True))
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
"""


def errand(world: World) -> tuple[int, str, object]:
    descriptor = os.open(world.printed, os.O_WRONLY | os.O_APPEND)
    try:
        outcome = run_errand(
            Errand(
                TRAINER,
                [str(world.folder.path)],
                {"FLUXLORA_FIRST_SEQ": "1"},
                world.folder.events,
                world.volume,
                sampler=True,
            ),
            descriptor=descriptor,
        )
    finally:
        os.close(descriptor)
    return outcome.code, outcome.problem, outcome.commit


def test_events_and_lines_are_printed_and_files_committed(world: World) -> None:
    world.script(
        ["print_bytes", "[1.1] looks like a numbered line\n"],
        ["print_bytes", '@@{"type":"looks like an event"}\n'],
        ["sample"],
        ["finish"],
    )
    assert errand(world)[0] == 0
    parsed = [wire.parse(line) for line in world.lines()]
    events = [p.json for p in parsed if isinstance(p, wire.EventLine)]
    assert all(p.sampler for p in parsed if isinstance(p, wire.EventLine))
    assert events == world.folder.events.read_text(encoding="utf-8").splitlines()
    assert not [p for p in parsed if isinstance(p, wire.LogLine)]
    assert any("looks like a numbered line" in line for line in world.lines())
    assert (world.volume.committed / "fox/samples/0.png").exists()


def test_how_an_errand_failed_is_told(world: World) -> None:
    world.script(["fail", "access to the model is denied", "model_gated"])
    assert errand(world) == (1, "access to the model is denied", None)
    world.folder.events.unlink()
    world.script(["print_bytes", "ImportError: no module named diffusers\n"], ["exit", 1])
    assert errand(world)[:2] == (1, "ImportError: no module named diffusers")


def test_a_full_volume_is_told(world: World) -> None:
    world.script(["finish"])
    world.volume.trouble = VolumeFullError("No space left on volume")
    code, _, commit = errand(world)
    assert code == 0
    assert isinstance(commit, VolumeError)


def test_an_interrupted_errand_ends_its_child_and_passes_it_on(world: World) -> None:
    world.script(["steps", 3], ["wait"])
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(world.folder.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    world.processes.append(process)
    wait_for(lambda: world.reached(3), "step 3")
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert errors.strip() == "interrupted"
    last = [line for line in printed.splitlines() if line.startswith("@@s{")][-1]
    assert json.loads(last.removeprefix("@@s"))["type"] == "status"
    assert world.events("checkpoint")[-1]["step"] == 3
