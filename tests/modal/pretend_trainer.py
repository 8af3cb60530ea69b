"""A process that behaves like the trainer towards its folder, without a model.

``PRETEND`` holds JSON: ``pause`` (seconds a step), ``lines`` (log lines a step), ``save`` (every so
many steps), ``deeds``: what happens at which step of which attempt, ``{"1": {"30": "oom"}}``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    ErrorEvent,
    PhaseEvent,
    Status,
    StatusEvent,
    StepEvent,
)
from backend.files import write_text
from backend.runs.commands import waiting
from backend.runs.folder import RunFolder
from backend.runs.stop_request import read_stop
from backend.runs.stream import EventWriter
from config.load import load_config


def loss_of(step: int) -> float:
    """The same in every attempt, so that a gap or a repetition shows."""
    return round(1 / step + step / 10_000, 9)


def main() -> int:
    folder = RunFolder(Path(sys.argv[1]))
    plan: dict[str, Any] = {"pause": 0.02, "lines": 1, "save": 10, "deeds": {}}
    plan |= json.loads(os.environ.get("PRETEND", "{}"))
    config = load_config(folder.config).config
    name, steps = config.name, config.process.train.steps
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    count_file = folder.state / "count"
    done = int(count_file.read_text()) if count_file.exists() else 0
    heard_file = folder.state / "heard"
    heard = set(heard_file.read_text().split()) if heard_file.exists() else set()
    attempt = folder.events.read_bytes().count(b'"type":"attempt"') + 1
    deeds = plan["deeds"].get(str(attempt), {})
    with EventWriter(folder.events, first=int(os.environ.get("FLUXLORA_FIRST_SEQ", "1"))) as writer:
        writer.write(StatusEvent(status=Status.STARTING))
        writer.write(AttemptEvent(attempt=attempt, step=done, steps=steps, device=plan.get("device", "cpu")))
        writer.write(StatusEvent(status=Status.TRAINING))
        writer.write(PhaseEvent(phase="training", done=done, total=steps))

        def save(step: int) -> None:
            path = folder.checkpoints / f"{name}_{step:09d}.safetensors"
            path.write_bytes(b"lora of step %d" % step)
            write_text(count_file, str(step))
            writer.write(
                CheckpointEvent(step=step, path=f"checkpoints/{path.name}", bytes=path.stat().st_size)
            )

        while done < steps:
            for letter in waiting(folder.control):
                if letter.kind == "stop" and letter.id not in heard:
                    asked.set()
                heard.add(letter.id)
                write_text(heard_file, "\n".join(sorted(heard)))
                letter.path.unlink(missing_ok=True)
            if asked.wait(plan["pause"]) or folder.stop_file.exists():
                request = read_stop(folder.stop_file)
                save(done)
                goes_on = request is not None and request.goes_on
                reason = (request.sentence if request else "") or f"stopped after step {done}"
                writer.write(
                    StatusEvent(status=Status.INTERRUPTED if goes_on else Status.STOPPED, reason=reason)
                )
                return 0
            done += 1
            now = time.time()
            sys.stdout.write("".join(f"step {done} line {n} {now:.6f}\n" for n in range(plan["lines"])))
            sys.stdout.flush()
            loss = loss_of(done)
            writer.write(StepEvent(step=done, loss=loss, smoothed=loss, lr=0.1, seconds=plan["pause"]))
            if done % plan["save"] == 0 and done < steps:
                save(done)
            match deeds.get(str(done)):
                case "oom":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "crash":
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "fail":
                    writer.write(ErrorEvent(message="the loss is not a number", code="nan"))
                    writer.write(StatusEvent(status=Status.FAILED, reason="the loss is not a number"))
                    return 1
                case "fill":
                    (folder.path / "big.bin").write_bytes(os.urandom(4 << 20))
                    save(done)
        final = folder.checkpoints / f"{name}.safetensors"
        final.write_bytes(b"the lora")
        writer.write(CheckpointEvent(step=done, path=f"checkpoints/{final.name}", bytes=8, final=True))
        writer.write(StatusEvent(status=Status.FINISHED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
