"""A counting trainer that answers commands: ``sample`` is refused, all others are done."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from backend.events import AttemptEvent, CheckpointEvent, CommandEvent, Status, StatusEvent, StepEvent
from backend.runs.commands import waiting
from backend.runs.folder import RunFolder
from backend.runs.stream import EventWriter
from config.load import load_config


def main() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the stop file says the same
    folder = RunFolder(Path(sys.argv[1]))
    config = load_config(folder.config).config
    steps, done = config.process.train.steps, 0
    with EventWriter(folder.events) as writer:
        writer.write(StatusEvent(status=Status.STARTING))
        writer.write(AttemptEvent(attempt=1, step=0, steps=steps, device="NVIDIA H100 80GB HBM3"))
        writer.write(StatusEvent(status=Status.TRAINING))
        while done < steps:
            if folder.stop_file.exists():
                writer.write(StatusEvent(status=Status.STOPPED))
                return 0
            for letter in waiting(folder.control):
                command = letter.command
                assert command is not None
                ok = command.kind != "sample"
                detail = f"{command.kind} at step {done}" if ok else "it has no prompts"
                steps = command.steps or steps
                writer.write(
                    CommandEvent(id=command.id, kind=command.kind, ok=ok, detail=detail, steps=command.steps)
                )
                letter.path.unlink()
            done += 1
            print(f"step {done}/{steps}", flush=True)
            writer.write(StepEvent(step=done, loss=1 / done, smoothed=1 / done, lr=0.1, seconds=0.005))
            time.sleep(0.005)
        path = f"checkpoints/{config.name}.safetensors"
        writer.write(CheckpointEvent(step=done, path=path, bytes=4, final=True))
        writer.write(StatusEvent(status=Status.FINISHED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
