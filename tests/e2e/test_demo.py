"""The demo as a newcomer lives it: the real command, a real terminal, a real training run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import COMMAND

if TYPE_CHECKING:
    from .terminal import Terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.waits,
    pytest.mark.skipif(sys.platform == "win32", reason="needs a pty and signals"),
]


class Cli:
    """The command without a screen, in the same environment as the terminal's."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder

    def __call__(self, *arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def runs(self) -> list[dict[str, Any]]:
        result = self("runs", "--json")
        assert result.returncode == 0, result.stderr
        return list(json.loads(result.stdout))

    def wait_for(self, condition: Callable[[dict[str, Any]], bool], seconds: float = 180) -> dict[str, Any]:
        """Wait until the newest run fits; returns it."""
        deadline = time.monotonic() + seconds
        while True:
            runs = self.runs()
            if runs and condition(runs[0]):
                return runs[0]
            assert time.monotonic() < deadline, runs
            time.sleep(0.3)


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Cli:
    return Cli(environment, tmp_path)


def test_headless_demo_trains_to_the_end_and_says_where_the_lora_lies(cli: Cli) -> None:
    began = time.monotonic()
    result = cli("demo", "--headless", seconds=280)
    assert result.returncode == 0, result.stderr
    lora = Path(re.findall(r"(\S+\.safetensors)\s*\Z", result.stdout)[0])
    assert lora.is_file()
    (run,) = cli.runs()
    assert (run["status"], run["step"]) == ("finished", run["steps"])
    assert lora.parent.parent == Path(run["path"])
    smoothed = [row["smoothed"] for row in json.loads(cli("metrics", "last", "--json").stdout)["steps"]]
    assert len(smoothed) == run["steps"]
    assert smoothed[-1] < 0.7 * smoothed[0]
    assert list((Path(run["path"]) / "samples").iterdir())
    assert time.monotonic() - began < 270  # alone on two cores it takes about one minute


def test_the_demo_in_a_terminal_survives_everything(open_terminal: Callable[..., Terminal], cli: Cli) -> None:
    # A newcomer: one command, one key.
    terminal = open_terminal("demo")
    terminal.wait_for("Demo ready", 90)
    terminal.press("d")
    terminal.wait_for(r"step \d+/\d+ · \d+ %", 90)
    terminal.wait_for("INFO", 60)
    terminal.wait_for(r"loss \d\.\d+ \(smoothed", 90)
    before = cli.wait_for(lambda run: run["status"] == "training" and run["step"] >= 10)

    # The window goes away in the middle: the run does not notice.
    terminal.kill()
    later = cli.wait_for(lambda run: run["step"] > before["step"])
    assert later["id"] == before["id"]
    assert later["status"] == "training"

    # Opened again, smaller, without colour: there it is, as it stands.
    again = open_terminal(columns=80, rows=24, NO_COLOR="1")
    again.wait_for("training", 30)
    again.press("2")
    again.wait_for(r"loss \d\.\d+", 30)
    again.resize(200, 60)
    again.wait_for("Samples of step", 30)
    again.resize(60, 18)
    again.resize(120, 36)
    again.wait_for(r"ema 0\.\d", 30)

    # The trainer is killed: the run is interrupted, and one key goes on from the last checkpoint.
    saved = cli.wait_for(lambda run: any((Path(run["path"]) / "checkpoints").glob("*_0*.safetensors")), 180)
    pid = json.loads((Path(saved["path"]) / "state" / "run.json").read_text(encoding="utf-8"))["handle"][
        "pid"
    ]
    os.kill(pid, signal.SIGKILL)
    cli.wait_for(lambda run: run["status"] == "interrupted", 30)
    again.wait_for("interrupted", 30)
    again.press("r")
    again.wait_for(r"training|starting|queued", 30)
    resumed = cli.wait_for(lambda run: run["status"] == "training" and run["step"] > 0, 120)
    assert resumed["id"] == before["id"]

    # Stop from the screen; it asks first, then saves.
    again.wait_for(r"● training", 60)
    again.press("s")
    again.wait_for(r"\(y\)", 20)
    again.press("y")
    stopped = cli.wait_for(lambda run: run["status"] == "stopped", 90)
    again.wait_for("stopped", 30)
    assert any((Path(stopped["path"]) / "checkpoints").glob(f"*_{stopped['step']:09d}.safetensors"))

    # Leaving gives the terminal back as it was.
    again.press("q")
    assert again.wait_for_end() == 0
    assert b"\x1b[?1049l" in again.raw
    assert b"\x1b[?25h" in again.raw
