"""A process that behaves like the trainer towards its folder, without a model: for the launcher's tests.

It counts steps until there are enough (``config.name`` says how to behave), keeps its position in
``state/count``, and honours SIGTERM and the stop file.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from backend.events import AttemptEvent, PhaseEvent, Status, StatusEvent, StepEvent
from backend.files import write_text
from backend.runs.folder import RunFolder
from backend.runs.stream import EventWriter
from config.load import load_config


def main() -> int:
    folder = RunFolder(Path(sys.argv[1]))
    config = load_config(folder.config).config
    name, steps = config.name, config.process.train.steps
    stop = threading.Event()
    if name != "deaf":
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if name == "mute":  # dies before its first word
        print("cannot even start", flush=True)
        os._exit(3)
    count_file = folder.state / "count"
    done = int(count_file.read_text()) if count_file.exists() else 0
    with EventWriter(folder.events) as writer:
        writer.write(StatusEvent(status=Status.STARTING))
        writer.write(AttemptEvent(attempt=1, step=done, steps=steps, device="cpu"))
        writer.write(StatusEvent(status=Status.TRAINING))
        writer.write(PhaseEvent(phase="training", done=done, total=steps))
        while done < steps:
            if stop.wait(0.005) or folder.stop_file.exists():
                writer.write(StatusEvent(status=Status.STOPPED))
                return 0
            done += 1
            print(f"step {done}/{steps}", flush=True)
            write_text(count_file, str(done))  # atomic, as the real one's
            writer.write(StepEvent(step=done, loss=1 / done, smoothed=1 / done, lr=0.1, seconds=0.005))
        (folder.checkpoints / f"{name}.safetensors").write_bytes(b"lora")
        writer.write(StatusEvent(status=Status.FINISHED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
