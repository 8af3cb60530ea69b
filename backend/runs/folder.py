"""A run's folder: the one place that knows its layout."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from backend.files import read_json, write_json

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no 0/o, 1/i/l: ids are read aloud and retyped


def new_run_id() -> str:
    """A random id of eight letters and digits, the first a letter (40 bits)."""
    first = secrets.choice(_ALPHABET[:23])
    return first + "".join(secrets.choice(_ALPHABET) for _ in range(7))


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What does not change about a run, and how its launcher finds it again.

    Attributes:
        id: Unique id.
        name: ``config.name``: the prefix of the run's files.
        backend: Name of the launcher, ``local`` or ``modal``.
        steps: Updates of the whole run.
        created: Seconds since 1970.
        path: The run's folder.
        handle: The launcher's own facts, such as a pid and its start time.
        kind: What it does: ``train``, or ``caption`` (:mod:`backend.captioning`).
    """

    id: str
    name: str
    backend: str
    steps: int
    created: float = field(default_factory=time.time)
    path: Path
    handle: dict[str, Any] = field(default_factory=dict)
    kind: str = "train"

    def with_handle(self, **handle: Any) -> RunRecord:
        """The same run with another handle."""
        return replace(self, handle=handle)


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run's folder.

    ``config.yaml`` (resolved), ``events.jsonl``, ``log.txt``, ``checkpoints/``, ``samples/`` and
    ``state/`` (resume state, the record, control files).
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config; references to environment variables stay references."""
        return self.path / "config.yaml"

    @property
    def events(self) -> Path:
        """The events, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the trainer printed."""
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        """LoRA files."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Pictures."""
        return self.path / "samples"

    @property
    def state(self) -> Path:
        """What a resume needs, and the record."""
        return self.path / "state"

    @property
    def record_file(self) -> Path:
        """The run's :class:`RunRecord` as JSON."""
        return self.state / "run.json"

    @property
    def stop_file(self) -> Path:
        """Its presence asks the trainer to save and stop; :mod:`backend.runs.stop_request` reads why."""
        return self.state / "stop"

    @property
    def control(self) -> Path:
        """Commands to the running trainer, see :mod:`backend.runs.commands`."""
        return self.state / "control"

    @property
    def sampling(self) -> Path:
        """Weights and requests for a sampler outside the trainer, see :mod:`backend.trainer.handover`."""
        return self.state / "sampling"

    def create(self) -> None:
        """Make the folder and its sub-folders.

        Raises:
            OSError: They cannot be made.
        """
        for folder in (self.path, self.checkpoints, self.samples, self.state):
            folder.mkdir(parents=True, exist_ok=True)

    def write_record(self, record: RunRecord) -> None:
        """Save the record atomically."""
        fields = asdict(record)
        del fields["path"]  # the folder may be moved
        write_json(self.record_file, fields)

    def read_record(self) -> RunRecord | None:
        """The record, or None if this is no run's folder or the file is damaged."""
        fields = read_json(self.record_file)
        if not isinstance(fields, dict):
            return None
        try:
            return RunRecord(
                id=str(fields["id"]),
                name=str(fields["name"]),
                backend=str(fields["backend"]),
                steps=int(fields["steps"]),
                created=float(fields["created"]),
                handle=dict(fields.get("handle") or {}),
                kind=str(fields.get("kind") or "train"),  # records of older versions have none
                path=self.path,
            )
        except (KeyError, TypeError, ValueError):
            return None
