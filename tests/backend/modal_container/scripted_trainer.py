"""A process that behaves like the trainer towards its folder and does what ``state/script.json`` says.

The script has a list of actions for each container, by its number. Position is kept in ``state/count``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    ErrorEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
)
from backend.files import write_json, write_text
from backend.launchers.modal import wire
from backend.runs.folder import RunFolder
from backend.runs.stop_request import read_stop
from backend.runs.stream import EventWriter

STEPS = 100


class StopError(Exception):
    pass


class Trainer:
    def __init__(self, folder: RunFolder) -> None:
        first = int(os.environ["FLUXLORA_FIRST_SEQ"])
        self.boot = first // wire.SEQ_STRIDE
        self.folder = folder
        self.writer = EventWriter(folder.events, first=first)
        self.asked = False
        signal.signal(signal.SIGTERM, self._on_term)
        count = folder.state / "count"
        self.step = int(count.read_text()) if count.exists() else 0

    def _on_term(self, number: int, frame: object) -> None:
        self.asked = True

    def run(self) -> int:
        self.writer.write(StatusEvent(status=Status.STARTING))
        self.writer.write(AttemptEvent(attempt=self.boot, step=self.step, steps=STEPS, device="cpu"))
        self.writer.write(StatusEvent(status=Status.TRAINING))
        script = json.loads((self.folder.state / "script.json").read_text())
        for name, *values in script.get(str(self.boot), script.get("*")):
            try:
                code = getattr(self, f"do_{name}")(*values)
            except StopError:
                return self._stop()
            if code is not None:
                return int(code)
        raise AssertionError("a script must say how the process ends")

    def _stop(self) -> int:
        request = read_stop(self.folder.stop_file)
        self.do_checkpoint()
        ended = Status.INTERRUPTED if request and request.goes_on else Status.STOPPED
        self.writer.write(StatusEvent(status=ended, reason=request.sentence if request else "asked"))
        return 0

    def do_steps(self, count: int) -> None:
        for _ in range(count):
            if self.asked:
                raise StopError
            self.step += 1
            self.writer.write(StepEvent(step=self.step, loss=1.0, smoothed=1.0, lr=0.1))
            print(f"step {self.step}", flush=True)

    def do_checkpoint(self) -> None:
        path = self.folder.checkpoints / f"fox_{self.step:09d}.safetensors"
        path.write_bytes(b"lora at %d" % self.step)
        write_text(self.folder.state / "count", str(self.step))
        relative = path.relative_to(self.folder.path).as_posix()
        self.writer.write(CheckpointEvent(step=self.step, path=relative, bytes=path.stat().st_size))

    def do_sample(self) -> None:
        path = self.folder.samples / f"{self.step}.png"
        path.write_bytes(b"png")
        self.writer.write(
            SampleEvent(step=self.step, index=0, prompt="a fox", seed=1, path=f"samples/{path.name}")
        )

    def do_request_samples(self) -> None:
        self.folder.sampling.mkdir(exist_ok=True)
        request = {"version": 1, "id": f"id{self.step}", "step": self.step}
        write_json(self.folder.sampling / f"{self.step}.json", request)

    def do_environment(self, *names: str) -> None:
        write_json(self.folder.state / "environment.json", {name: os.environ.get(name) for name in names})
        write_json(self.folder.state / "path.json", [os.getcwd(), sys.argv, *sys.path])

    def do_print_bytes(self, text: str, times: int = 1) -> None:
        for _ in range(times):
            os.write(1, text.encode("latin-1"))

    def do_lines(self, count: int, each_second: int) -> None:
        began = time.monotonic()
        for number in range(count):
            if number % 100 == 0:
                time.sleep(max(0.0, began + number / each_second - time.monotonic()))
            print(f"line {number}")

    def do_pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_wait(self) -> None:
        """Until asked to stop."""
        while not self.asked and not self.folder.stop_file.exists():
            time.sleep(0.01)
        raise StopError

    def do_wait_for(self, name: str) -> None:
        """Until there is a file in ``state``."""
        while not (self.folder.state / name).exists():
            time.sleep(0.01)

    def do_deaf(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (self.folder.state / "deaf").touch()
        while True:
            time.sleep(0.05)

    def do_leave_a_child(self) -> None:
        """A process that goes on and holds the pipe."""
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)

    def do_signal(self, name: str) -> None:
        sys.stdout.flush()
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(10)

    def do_exit(self, code: int) -> int:
        return code

    def do_fail(self, message: str, code: str) -> int:
        self.writer.write(ErrorEvent(message=message, code=code))
        self.writer.write(StatusEvent(status=Status.FAILED, reason=message))
        return 1

    def do_finish(self) -> int:
        (self.folder.checkpoints / "fox.safetensors").write_bytes(b"final")
        self.writer.write(
            CheckpointEvent(step=self.step, path="checkpoints/fox.safetensors", bytes=5, final=True)
        )
        self.writer.write(StatusEvent(status=Status.FINISHED))
        return 0


if __name__ == "__main__":
    sys.exit(Trainer(RunFolder(Path(sys.argv[1]))).run())
