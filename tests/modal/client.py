"""A computer with the program on it: its data folder, its command line, and a hard way to switch it off."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from modal_proto import api_pb2

from backend.events import AttemptEvent, Event, StatusEvent, StepEvent
from backend.launchers.modal.journal import Journal, read_journal
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from tests.loopback.cloud import LoopbackCloud

# Answers every line on standard input with the list of runs: what an open app does all the time, without
# starting Python anew for each look.
_LOOK = """
import json, sys
from backend.runs.service import RunService
service = RunService()
for _ in sys.stdin:
    runs = service.list_now()
    print(json.dumps([
        {"id": run.id, "path": str(run.path), "status": str(run.status), "step": run.step, "steps": run.steps}
        for run in runs
    ]), flush=True)
"""


class Client:
    """One data folder, and processes that use it.

    Args:
        cloud: The Modal that it talks to.
        home: The data folder.
        config: The config that it launches.
    """

    def __init__(self, cloud: LoopbackCloud, home: Path, config: Path) -> None:
        self.cloud = cloud
        self.home = home
        self.config = config
        self.environment = cloud.environ(FLUXLORA_HOME=str(home), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
        self._started: list[subprocess.Popen[bytes]] = []
        self._looker: subprocess.Popen[str] | None = None

    # Commands

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "tui", *arguments]

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def launch(self, *options: str) -> RunFolder:
        """``train --backend modal``; returns as soon as the run has a folder."""
        before = set(self.folders())
        overrides = [part for option in options for part in ("--set", option)]
        self.start("train", str(self.config), "--backend", "modal", "--no-wait", *overrides)
        self.wait(lambda: set(self.folders()) - before, 60, "a run's folder")
        (new,) = set(self.folders()) - before
        return RunFolder(new)

    # What is known

    def folders(self) -> list[Path]:
        return sorted(path.parent.parent for path in (self.home / "runs").glob("*/state/run.json"))

    def status(self, run: RunFolder) -> dict[str, Any]:
        """The run as the list of runs has it; asking is looking, and so sees to a courier."""
        looker = self._looker
        if looker is None:
            looker = self._looker = subprocess.Popen(
                [sys.executable, "-c", _LOOK],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        assert looker.stdin is not None
        assert looker.stdout is not None
        deadline = time.monotonic() + 15
        while True:
            looker.stdin.write("\n")
            looker.stdin.flush()
            for entry in json.loads(looker.stdout.readline()):
                if entry["path"] == str(run.path):
                    return dict(entry)
            assert time.monotonic() < deadline, "the run is not in the list"
            time.sleep(0.1)

    def journal(self, run: RunFolder) -> Journal:
        journal = read_journal(run.path)
        assert journal is not None
        return journal

    def events(self, run: RunFolder) -> list[Event]:
        tail, events = EventTail(run.events), []
        while some := tail.read():
            events += some
        return events

    def said(self, run: RunFolder) -> str:
        """The log so far, and the sentences that came with statuses."""
        log = run.log.read_text(encoding="utf-8") if run.log.exists() else ""
        reasons = [e.reason or "" for e in self.events(run) if isinstance(e, StatusEvent)]
        return "\n".join([log, *reasons])

    def steps(self, run: RunFolder) -> list[int]:
        """Numbers of all steps that events tell of, in their order."""
        return [event.step for event in self.events(run) if isinstance(event, StepEvent)]

    def wait(self, condition: Callable[[], Any], seconds: float = 60, what: str = "the condition") -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come true within {seconds} s\n{self.report()}")
            time.sleep(0.05)
        return value

    def wait_for_end(self, run: RunFolder, seconds: float = 90) -> dict[str, Any]:
        """Wait until the run has ended and its courier is done; its line of ``runs --json``."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(run)
            ended = status["status"] in ("finished", "stopped", "failed", "interrupted")
            if ended and not self.journal(run).may_cost and not self.couriers():
                return status
            if time.monotonic() > deadline:
                raise AssertionError(f"{status} after {seconds} s\n{self.report()}")
            time.sleep(0.3)

    def settles(self) -> None:
        """Wait until no app and no container is left: Modal answers a stop at once, and then ends both."""

        def nothing_left() -> bool:
            apps_over = all(app.state == api_pb2.APP_STATE_STOPPED for app in self.cloud.apps())
            return apps_over and not self.cloud.tasks(running=True)

        self.wait(nothing_left, 20, "nothing left on Modal")

    def live_apps(self) -> list[str]:
        """The apps that nobody has stopped; one that was may still have containers that end."""
        return [app.app_id for app in self.cloud.apps() if app.running]

    def report(self) -> str:
        """All that helps to understand a failure."""
        parts = []
        for folder in self.folders():
            run = RunFolder(folder)
            state = [run.state / name for name in ("modal.json", "courier.log", "link.json")]
            for path in (run.log, *state):
                with contextlib.suppress(OSError):
                    parts.append(f"--- {path}\n{path.read_text(encoding='utf-8')[-3000:]}")
        parts += [f"--- {app.app_id}\n{self.cloud.text(app.app_id)[-2000:]}" for app in self.cloud.apps()]
        return "\n".join(parts)

    # Switching off

    def couriers(self) -> list[psutil.Process]:
        """The couriers of this data folder that live."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            words = process.info["cmdline"] or []
            if "courier" in words and str(self.home) in words[-1] and process.info["status"] != "zombie":
                found.append(process)
        return found

    def switch_off(self) -> None:
        """SIGKILL all that runs for this data folder, as a dead battery does."""
        if self._looker is not None:
            self._looker.kill()
            self._looker.communicate()
            self._looker = None
        for process in self._started:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self._started.clear()
        for courier in self.couriers():
            with contextlib.suppress(psutil.Error):
                courier.kill()
                courier.wait(10)


def complete(last: int, events: list[Event]) -> bool:
    """Whether the events tell of every step up to ``last``, rewound only where an attempt says so."""
    position = 0
    for event in events:
        if isinstance(event, AttemptEvent):
            if event.step > position:
                return False
            position = event.step
        elif isinstance(event, StepEvent):
            if event.step != position + 1:
                return False
            position = event.step
    return position == last
