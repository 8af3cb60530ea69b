from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from backend.launchers.modal import wire
from backend.launchers.modal.container.launch_file import Ref
from backend.launchers.modal.container.manifest import NAME as MANIFEST
from backend.launchers.modal.container.sdk import VolumeError
from backend.launchers.modal.container.supervisor import Settings, Supervisor
from backend.runs.folder import RunFolder

T = TypeVar("T")
TRAINER = "tests.backend.modal_container.scripted_trainer"


def wait_for(condition: Callable[[], T], what: str, seconds: float = 60) -> T:
    """Wait until ``condition()`` is truthy and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.01)
    return value


class FakeVolume:
    """A volume whose committed state is a copy; ``trouble`` is raised by commits while it is set."""

    def __init__(self, root: Path, committed: Path) -> None:
        self.root, self.committed = root, committed
        self.trouble: VolumeError | None = None
        self.commits: list[float] = []
        self.tries = 0
        self.delay = 0.0

    def commit(self) -> None:
        self.tries += 1
        time.sleep(self.delay)
        if self.trouble is not None:
            raise self.trouble
        for path in [p for p in self.root.rglob("*") if p.is_file() and not p.name.endswith(".tmp")]:
            target = self.committed / path.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(path, target.with_name(target.name + ".new"))
                target.with_name(target.name + ".new").replace(target)
            except FileNotFoundError:
                continue
        self.commits.append(time.monotonic())

    def reload(self) -> None:
        pass

    def names(self, folder: str) -> list[str]:
        place = self.committed / folder
        return [entry.name for entry in place.iterdir()] if place.is_dir() else []

    def read(self, path: str) -> bytes:
        return (self.committed / path).read_bytes()


class World:
    """A volume with one run, and containers that take it up."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "volume"
        self.folder = RunFolder(self.root / "fox")
        self.folder.create()
        self.folder.config.write_text("config: {name: fox}\n", encoding="utf-8")
        self.volume = FakeVolume(self.root, tmp_path / "committed")
        self.printed = tmp_path / "stdout"
        self.printed.touch()
        self.spawned: list[dict[str, Any]] = []
        self.supervisor: Supervisor | None = None
        self.settings: dict[str, Any] = {"trainer": TRAINER, "commit_interval": 0.5, "poll": 0.1}
        self.processes: list[subprocess.Popen[str]] = []
        self.launch()

    def launch(self, **changes: Any) -> None:
        """Write ``launch.json``."""
        launch = {"version": 1, "run_id": "r1", "launch": 1, "volume": "flux-lora-models", "created": 1.0}
        (self.folder.state / "launch.json").write_text(json.dumps(launch | changes), encoding="utf-8")

    def script(self, *actions: list[Any], boot: int | str = "*") -> None:
        """What the trainer does in a container, or in every one that has no script of its own."""
        path = self.folder.state / "script.json"
        script = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(script | {str(boot): actions}), encoding="utf-8")

    def ref(self, **changes: Any) -> dict[str, Any]:
        return {"folder": "fox", "run_id": "r1", "volume_id": None, **changes}

    def boot(self, **ref: Any) -> dict[str, Any]:
        """A container from its start to its end, in this process."""
        descriptor = os.open(self.printed, os.O_WRONLY | os.O_APPEND)
        try:
            self.supervisor = Supervisor(
                Ref.parse(self.ref(**ref)),
                settings=Settings(descriptor=descriptor, **self.settings),
                volume=self.volume,
                spawn=self._spawn,
            )
            return self.supervisor.run()
        finally:
            os.close(descriptor)

    def _spawn(self, function: str, argument: dict[str, Any]) -> str:
        self.spawned.append({"function": function, **argument})
        return f"fc-{len(self.spawned)}"

    def boot_beside(self, **ref: Any) -> Callable[[], dict[str, Any]]:
        """Start a container in a thread; returns what waits for its result."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(self.boot(**ref))
            except BaseException as error:
                results.append(error)

        thread = threading.Thread(target=run)
        thread.start()

        def result() -> dict[str, Any]:
            thread.join(120)
            assert results, "the container did not end"
            if isinstance(results[0], BaseException):
                raise results[0]
            return dict(results[0])

        return result

    def process(self, **settings: Any) -> subprocess.Popen[str]:
        """Start a container in a process of its own."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.backend.modal_container.container_process",
                json.dumps(self.ref()),
                json.dumps(self.settings | settings),
            ],
            stdout=self.printed.open("a"),
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"LORA_ROOT": str(self.root)},
        )
        self.processes.append(process)
        return process

    @staticmethod
    def said(process: subprocess.Popen[str]) -> dict[str, Any]:
        """What a container's process said at its end."""
        _, errors = process.communicate(timeout=120)
        assert errors.strip(), f"the process said nothing; exit code {process.returncode}"
        value = json.loads(errors.strip().splitlines()[-1])
        assert isinstance(value, dict)
        return value

    # what it left

    def lines(self) -> list[str]:
        return self.printed.read_text(encoding="utf-8").split("\n")[:-1]

    def events_printed(self) -> list[str]:
        parsed = (wire.parse(line) for line in self.lines())
        return [p.json for p in parsed if isinstance(p, wire.EventLine) and not p.sampler]

    def log_printed(self, boot: int) -> list[str]:
        """Text of the numbered lines of a container; fails if one is missing or double."""
        parsed = [p for line in self.lines() if isinstance(p := wire.parse(line), wire.LogLine)]
        mine = [p for p in parsed if p.boot == boot]
        assert [p.number for p in mine] == list(range(1, len(mine) + 1))
        return [p.text for p in mine]

    def log_kept(self, boot: int) -> list[str]:
        """The lines of a container in ``log.txt``, as the viewer cuts them out."""
        boots = {b["boot"]: b["log_offset"] for b in self.boots()}
        end = boots.get(boot + 1)
        data = self.folder.log.read_bytes()[boots[boot] : end]
        assert not data or data.endswith(b"\n")
        return data.decode("utf-8").split("\n")[:-1]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        lines = self.folder.events.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line]
        return [record for record in records if kind in (None, record["type"])]

    def boots(self) -> list[dict[str, Any]]:
        return list(json.loads((self.folder.state / "boots.json").read_text())["boots"])

    def manifest(self, root: Path | None = None) -> dict[str, dict[str, Any]]:
        document = json.loads(((root or self.root) / "fox" / MANIFEST).read_text())
        return {entry["path"]: entry for entry in document["files"]}

    def status(self, root: Path | None = None) -> dict[str, Any]:
        value = json.loads(((root or self.root) / "fox/status.json").read_text())
        assert isinstance(value, dict)
        return value

    def reached(self, step: int) -> bool:
        return (
            self.folder.events.exists() and f'"type":"step","step":{step},' in self.folder.events.read_text()
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(tmp_path)
    monkeypatch.setenv("LORA_ROOT", str(world.root))
    yield world
    for process in world.processes:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete diffusers folder of a tiny FLUX; shared by the workers of pytest-xdist."""
    from backend.trainer.tiny import build_tiny_flux

    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent
    return build_tiny_flux(root / "tiny-flux-for-runs")  # the trainer's own tests compare bits of theirs
