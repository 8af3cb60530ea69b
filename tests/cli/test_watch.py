"""``watch``: plain lines in a pipe, lines redrawn in place in a terminal."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    Event,
    PhaseEvent,
    Status,
    StatusEvent,
    StepEvent,
    WarningEvent,
)
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from backend.runs.stream import EventWriter
from tests.cli.conftest import Output
from tui.cli.watch import _sparkline

BEGINNING: list[Event] = [
    StatusEvent(status=Status.STARTING),
    AttemptEvent(attempt=1, step=0, steps=40, device="cpu"),
    StatusEvent(status=Status.TRAINING),
    PhaseEvent(phase="training", total=40),
    *(StepEvent(step=n, loss=1 / n, smoothed=1 / n, lr=1e-4, seconds=0.5) for n in range(1, 31)),
]
REST: list[Event] = [
    *(StepEvent(step=n, loss=1 / n, smoothed=1 / n, lr=1e-4, seconds=0.5) for n in range(31, 41)),
    WarningEvent(message="the disk is \x1b[31mnearly full"),
    CheckpointEvent(step=40, path="checkpoints/cat.safetensors", final=True),
]


def write(folder: RunFolder, *events: Event) -> None:
    with EventWriter(folder.events) as writer:
        for event in events:
            writer.write(event)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that goes on, as long as this process does."""
    monkeypatch.setenv("FLUXLORA_HOME", str(tmp_path / "home"))
    registry = Registry(tmp_path / "home")
    folder = RunFolder(registry.runs_folder / "abcd2345")
    folder.create()
    handle = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    record = RunRecord(id="abcd2345", name="cat", backend="local", steps=40, path=folder.path, handle=handle)
    folder.write_record(record)
    registry.add(record)
    write(folder, *BEGINNING)
    folder.log.write_bytes(b"loading\nstep 1\rstep 2\nlast \x1b[31mline\n")
    return folder


def test_in_a_pipe_what_happens_is_a_line(cli: Output, folder: RunFolder) -> None:
    write(folder, *REST, StatusEvent(status=Status.FINISHED))
    code, out, err = cli("watch", "last")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("step 0 status: starting")
    assert any("attempt: began at step 0 of 40 on cpu" in line for line in lines)
    assert any("checkpoint: cat.safetensors (final)" in line for line in lines)
    assert any("step 40/40 loss 0.0250" in line for line in lines)
    assert lines[-1] == "run abcd2345 finished"
    assert "\x1b" not in out


def test_it_follows_a_run_to_its_end_and_tells_how_that_was(cli: Output, folder: RunFolder) -> None:
    def go_on() -> None:
        write(folder, *REST, StatusEvent(status=Status.FAILED, reason="no memory"))

    thread = threading.Timer(1.0, go_on)
    thread.start()
    code, out, _ = cli("watch", "abcd")
    thread.join()
    assert code == 1
    assert out.splitlines()[-1] == "run abcd2345 failed: no memory"
    assert out.count("status: training") == 1  # nothing is told twice
    assert out.count("warning: the disk is") == 1


def test_a_run_that_is_not_there_is_a_sentence(cli: Output, folder: RunFolder) -> None:
    code, out, err = cli("watch", "nope")
    assert (code, out) == (2, "")
    assert "no run fits 'nope'" in err


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_in_a_terminal_lines_are_redrawn_in_place(folder: RunFolder, tmp_path: Path) -> None:
    from tests.e2e.terminal import Terminal

    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG")}
    env = {**kept, "FLUXLORA_HOME": str(tmp_path / "home"), "TERM": "xterm-256color"}
    command = (sys.executable, "-m", "tui", "watch", "last")
    terminal = Terminal(command, columns=80, rows=24, env=env, cwd=tmp_path)
    try:
        terminal.wait_for(r"training 30/40")
        text = terminal.wait_for(r"last .*line")
        assert "step 2" in text
        assert "step 1" not in text  # a progress bar shows as it is now
        assert "█" in text
        write(folder, *REST, StatusEvent(status=Status.FINISHED))
        text = terminal.wait_for(r"run abcd2345 finished")
        assert text.count("abcd2345 · this machine") == 1
        assert terminal.wait_for_end() == 0
    finally:
        terminal.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_the_emulator_loses_no_text_after_a_private_sequence_wherever_reads_are_cut() -> None:
    from tests.e2e.terminal import known_to_pyte

    sent = b"a\x1b[?25hrun\x1b[?2026$py\x1b[>1uz\x1b]9;hello\x1b\\\x1b[2mb\x1b]0;t\x07c"
    for first in range(len(sent)):
        for second in range(first, len(sent)):
            shown = rest = b""
            for piece in (sent[:first], sent[first:second], sent[second:]):
                new, rest = known_to_pyte(rest + piece)
                shown += new
            assert (shown, rest) == (b"arunyz\x1b[2mbc", b"")


def test_a_line_of_bars() -> None:
    assert _sparkline([1.0], 10) == ""
    assert _sparkline([1.0, 2.0, float("nan"), 3.0], 10) == "▁▅█"
    assert len(_sparkline([float(n) for n in range(1000)], 40)) == 40
    assert set(_sparkline([2.0] * 9, 5)) == {"▁"}
