"""Reporting, and requests to stop."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from backend.events import Phase, PhaseEvent, Status, StatusEvent, StepEvent, WarningEvent
from backend.runs.stream import EventTail, EventWriter
from backend.trainer.control import StopControl
from backend.trainer.errors import StopRequested
from backend.trainer.report import LibraryMessages, Reporter


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_progress_is_reported_at_a_sensible_rate(events: Path) -> None:
    with EventWriter(events) as writer:
        report = Reporter(writer, io.StringIO())
        for done in range(1001):
            report.phase(Phase.CACHING_LATENTS, done, 1000)
    seen = [event.done for event in EventTail(events).read() if isinstance(event, PhaseEvent)]
    assert seen[0] == 0
    assert seen[-1] == 1000
    assert len(seen) < 50


def test_statuses_make_sense(events: Path) -> None:
    with EventWriter(events) as writer:
        report = Reporter(writer, io.StringIO())
        for status in (Status.STARTING, Status.STOPPING, Status.STOPPING, Status.TRAINING, Status.STOPPED):
            report.status(status)
    statuses = [event.status for event in EventTail(events).read() if isinstance(event, StatusEvent)]
    assert statuses == [Status.STARTING, Status.STOPPING, Status.STOPPED]


def test_an_event_in_the_middle_of_another_waits_its_turn(events: Path) -> None:
    """As when a signal handler reports while the loop does."""
    with EventWriter(events) as writer:
        report = Reporter(writer, io.StringIO())
        write = writer.write

        def interrupted(event: object) -> object:
            if isinstance(event, StepEvent):
                report.status(Status.STOPPING)
            return write(event)  # type: ignore[arg-type]

        writer.write = interrupted  # type: ignore[method-assign,assignment]
        report.step(StepEvent(step=1, loss=1.0, smoothed=1.0, lr=0.1))
        report.warning("after")
    seen = EventTail(events).read()
    assert [type(event) for event in seen] == [StepEvent, StatusEvent, WarningEvent]
    assert [event.seq for event in seen] == [1, 2, 3]


class FullDisk(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_nothing_said_ends_a_run(events: Path) -> None:
    writer = EventWriter(events)
    writer.close()  # writing to it fails from now on
    report = Reporter(writer, FullDisk())
    report.status(Status.TRAINING)
    report.step(StepEvent(step=1, loss=1.0, smoothed=1.0, lr=0.1))
    report.error("lost", "lost")


def test_a_message_is_one_line() -> None:
    out = io.StringIO()
    Reporter(None, out).warning("two\nlines\r\nor three", "x")
    assert out.getvalue().count("\n") == 1


def test_long_runs_log_steps_sparsely() -> None:
    out = io.StringIO()
    report = Reporter(None, out)
    report.attempt(attempt=1, step=0, steps=5000, device="cpu", versions={})
    for step in range(1, 5001):
        report.step(StepEvent(step=step, loss=1.0, smoothed=1.0, lr=0.1))
    lines = [line for line in out.getvalue().splitlines() if " step " in line]
    assert 2 <= len(lines) < 100
    assert "step 5000/5000" in lines[-1]


def test_what_libraries_say_becomes_lines_once() -> None:
    out = io.StringIO()
    with LibraryMessages(Reporter(None, out)):
        for _ in range(3):
            logging.getLogger("somelib.part").warning("look %s", "here")
            warnings.warn("careful", UserWarning, stacklevel=1)
    assert out.getvalue().count("somelib: look here") == 1
    assert out.getvalue().count("careful") == 1
    logging.getLogger("somelib.part").warning("afterwards")
    assert "afterwards" not in out.getvalue()


def test_the_stop_file_is_a_request(tmp_path: Path) -> None:
    asked: list[bool] = []
    stop = StopControl(tmp_path / "stop", lambda: asked.append(True))
    assert not stop.requested()
    stop.check()
    (tmp_path / "stop").touch()
    assert stop.requested()
    (tmp_path / "stop").unlink()
    assert stop.requested()  # a request is not taken back
    with pytest.raises(StopRequested):
        stop.check()
    assert asked == [True]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_signals(tmp_path: Path) -> None:
    asked: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    with StopControl(tmp_path / "stop", lambda: asked.append(True)) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert asked == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_package_itself_is_light() -> None:
    code = (
        "import sys, backend.trainer, backend.trainer.attempt, backend.trainer.__main__;"
        "print([m for m in ('torch', 'diffusers', 'numpy', 'PIL', 'pydantic', 'yaml') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
