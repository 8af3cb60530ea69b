"""A launcher that is called ``modal``, with a process of this machine instead of a container."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.events import PhaseEvent
from backend.launchers.base import LaunchRequest, RunFacts, RunFile
from backend.launchers.local import LocalLauncher
from backend.runs.folder import RunFolder, RunRecord
from backend.runs.registry import Registry
from backend.runs.service import RunService
from backend.runs.stream import EventWriter
from backend.runs.view import RunView

OBEYING = (sys.executable, str(Path(__file__).with_name("obeying_trainer.py")))


def pretend(run: Path, **facts: Any) -> None:
    """Change what the launcher knows of a run: ``safe_to_close``, ``online``, ``link_why``, …"""
    file = run / "state" / "pretend.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(known | facts), encoding="utf-8")
    beside.replace(file)


class PretendModal(LocalLauncher):
    """Its volume is the folder ``volume`` in the run's own."""

    name = "modal"

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, OBEYING)

    async def launch(self, request: LaunchRequest) -> RunRecord:
        record = await super().launch(request)
        pretend(record.path, folder=f"flux-lora-models/{record.name}", dollars=0.42, rate=4.3)
        return record

    def _start(self, folder: RunFolder, record: RunRecord, project: Path) -> RunRecord:
        with EventWriter(folder.events) as writer:
            for done in (0, 50, 100):
                writer.write(PhaseEvent(phase="uploading", done=done << 20, total=100 << 20))
            writer.write(PhaseEvent(phase="building image"))
        return super()._start(folder, record, project)

    def facts(self, run: RunRecord, view: RunView) -> RunFacts:
        file = run.path / "state" / "pretend.json"
        known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        safe = known.pop("safe_to_close", view.step >= 3)
        return RunFacts(where="Modal, H100", remote=True, safe_to_close=safe, **known)

    async def files(self, run: RunRecord) -> list[RunFile]:
        volume = run.path / "volume"
        found = [
            RunFile(path=path.relative_to(volume).as_posix(), bytes=path.stat().st_size, modified=0)
            for path in sorted(volume.rglob("*"))
            if path.is_file()
        ]
        return found

    async def download(
        self,
        run: RunRecord,
        files: Sequence[RunFile],
        destination: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        total, done, paths = sum(file.bytes for file in files), 0, []
        for file in files:
            target = destination / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.path / "volume" / file.path, target)
            done += file.bytes
            paths.append(target)
            if progress is not None:
                progress(done, total)
        return paths


@pytest.fixture
def pretend_modal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs on Modal are those of :class:`PretendModal` in this process."""
    real = RunService.launcher

    def launcher(self: RunService, run: Any) -> Any:
        name = run if isinstance(run, str) else run.backend
        if name == "modal" and "modal" not in self._launchers:
            self._launchers["modal"] = PretendModal(self.registry)
        return real(self, run)

    monkeypatch.setattr(RunService, "launcher", launcher)
