"""What is known of a run's life on Modal, written down before and after every step that can cost money."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from backend.files import read_json, write_json
from config.volumes import RUNS_VOLUME


class Stage(StrEnum):
    """How far a launch has come.

    ``preparing``: nothing exists on Modal but files. ``launching``: an app may exist, and may have a call.
    ``spawned``: the call exists; the laptop may be closed. ``ended``: the app is stopped; nothing can cost
    any more.
    """

    PREPARING = "preparing"
    LAUNCHING = "launching"
    SPAWNED = "spawned"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Journal:
    """A run's facts on Modal. It holds ids and choices, never a secret.

    Attributes:
        stage: How far the present launch has come.
        launch: Number of the present launch; a resume is another one.
        folder: The run's folder on the volume; empty until it is claimed.
        volume: Name of the volume for runs.
        base_volume: Name of the volume for base models; None if none is mounted.
        environment: Modal environment; None for the workspace's default.
        app_id: The app of the present launch.
        call_id: The function call that trains.
        function_id: Its function.
        prefetch_app_id: The app that downloads the base model, while one does.
        prefetch_call_id: Its call.
        gpu: GPUs asked for, in order.
        rate: Dollars an hour of the container at most; 0 if unknown.
        gpu_rates: The same for each GPU asked for.
        cpu: Its CPU cores.
        memory: Its memory in GiB.
        budget: Dollars; None without a limit.
        seconds: The most that the run may take from its first container on; None without a limit.
        bring_home: What is downloaded by itself.
        project: Folder of the config that was launched, whose ``.env`` may hold the tokens.
        earlier_apps: Apps of earlier launches, for their logs and costs.
        changed: When this was written, seconds since 1970.
        spawned: When the call was made.
    """

    stage: Stage = Stage.PREPARING
    launch: int = 1
    folder: str = ""
    volume: str = RUNS_VOLUME
    base_volume: str | None = None
    environment: str | None = None
    app_id: str | None = None
    call_id: str | None = None
    function_id: str | None = None
    prefetch_app_id: str | None = None
    prefetch_call_id: str | None = None
    gpu: tuple[str, ...] = ()
    rate: float = 0.0
    gpu_rates: dict[str, float] = field(default_factory=dict)
    cpu: float = 4.0
    memory: int = 32
    budget: float | None = None
    seconds: float | None = None
    bring_home: str = "samples"
    project: str | None = None
    earlier_apps: tuple[str, ...] = ()
    changed: float = field(default_factory=time.time)
    spawned: float | None = None

    def with_(self, **changes: Any) -> Journal:
        """A copy with some facts changed, and the time of now."""
        return replace(self, changed=time.time(), **changes)

    @property
    def safe_to_close(self) -> bool:
        """Whether the run goes on without this machine."""
        return self.stage is Stage.SPAWNED

    @property
    def may_cost(self) -> bool:
        """Whether something on Modal may be running for this run."""
        return self.stage in (Stage.LAUNCHING, Stage.SPAWNED) or self.prefetch_app_id is not None


def journal_file(run_folder: Path) -> Path:
    """Where a run's journal lies."""
    return run_folder / "state" / "modal.json"


def write_journal(run_folder: Path, journal: Journal) -> None:
    """Save the journal atomically, forced onto the disk.

    Raises:
        OSError: It cannot be written; nothing that costs may be started then.
    """
    fields = dataclasses.asdict(journal)
    fields["stage"] = str(journal.stage)
    write_json(journal_file(run_folder), {"version": 1, **fields})


def read_journal(run_folder: Path) -> Journal | None:
    """The journal of a run; None if it has none or it is damaged."""
    fields = read_json(journal_file(run_folder))
    if not isinstance(fields, dict):
        return None
    known = {f.name for f in dataclasses.fields(Journal)}
    values = {key: value for key, value in fields.items() if key in known}
    try:
        values["stage"] = Stage(values["stage"])
        for key in ("gpu", "earlier_apps"):
            values[key] = tuple(str(item) for item in values.get(key) or ())
        return Journal(**values)
    except (KeyError, TypeError, ValueError):
        return None
