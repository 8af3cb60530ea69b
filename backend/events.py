"""What a run says while it works: typed event records, one JSON object a line.

A line is ``{"v": 1, "seq": 12, "t": 1763906592.123, "type": "step", ...}``: the format's version,
a number that grows within the run (also over restarts), seconds since 1970, the type, and
the type's own fields. Readers skip types and fields they do not know, so an old app can follow a
newer trainer. Non-finite numbers travel as the strings ``"nan"``, ``"inf"`` and ``"-inf"``, since
JSON has none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

VERSION = 1

CONTAINER_STRIDE = 1_000_000
"""Container ``n`` of a run elsewhere numbers its events from ``n * CONTAINER_STRIDE + 1`` on: it cannot know
what the one before it said after the last commit. Runs on this machine leave no gaps."""


class Status(StrEnum):
    """The state of a run. ``interrupted``: its process is gone without having said why."""

    QUEUED = "queued"
    STARTING = "starting"
    TRAINING = "training"
    CAPTIONING = "captioning"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in (Status.STOPPED, Status.FINISHED, Status.FAILED, Status.INTERRUPTED)


class Phase(StrEnum):
    """What is being done for the run right now; those before ``loading`` are the launcher's."""

    CHECKING = "checking"
    UPLOADING = "uploading"
    DOWNLOADING = "downloading base model"
    BUILDING = "building image"
    WAITING = "waiting for a GPU"
    BOOTING = "starting container"
    LOADING = "loading"
    CACHING_LATENTS = "caching latents"
    CACHING_TEXT = "caching text"
    COMPILING = "compiling"
    TRAINING = "training"
    SAMPLING = "sampling"
    SAVING = "saving"
    CAPTIONING = "captioning"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base of all events.

    Attributes:
        seq: Position in the run, from 1; 0 until a writer has numbered it.
        t: Seconds since 1970.
    """

    TYPE: ClassVar[str] = ""

    seq: int = 0
    t: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusEvent(Event):
    """The run's status changed; ``reason`` is a sentence for people, where there is one."""

    TYPE: ClassVar[str] = "status"

    status: Status
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptEvent(Event):
    """A trainer process took the run up, for the first time or again.

    Attributes:
        attempt: 1 for the first process, 2 for the first resume, ...
        step: Updates already done: steps after this one will be reported again.
        steps: Updates of the whole run.
        device: Where it trains, e.g. ``cpu`` or ``NVIDIA H100 80GB HBM3``.
        versions: Library versions, e.g. ``{"torch": "2.13.0"}``.
    """

    TYPE: ClassVar[str] = "attempt"

    attempt: int
    step: int
    steps: int
    device: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEvent(Event):
    """Progress of a phase: ``done`` of ``total`` units (``total`` 0: not known)."""

    TYPE: ClassVar[str] = "phase"

    phase: str
    done: int = 0
    total: int = 0
    detail: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent(Event):
    """One optimizer update.

    Attributes:
        step: Updates done, this one included (1-based).
        loss: Loss of this update.
        smoothed: Debiased exponential moving average of the loss.
        lr: Learning rate used.
        grad_norm: Norm of the gradient before clipping; None when not measured.
        seconds: Wall time of the update.
        memory: Peak device memory (GPU) or resident memory (CPU) in bytes.
        epoch: Epochs of the data begun, from 1.
        gpu: Share of the last second in which the GPU computed, from 0 to 1; None when not measured.
    """

    TYPE: ClassVar[str] = "step"

    step: int
    loss: float
    smoothed: float
    lr: float
    grad_norm: float | None = None
    seconds: float = 0.0
    memory: int = 0
    epoch: int = 1
    gpu: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEvent(Event):
    """A picture was sampled; ``path`` is relative to the run folder, with forward slashes."""

    TYPE: ClassVar[str] = "sample"

    step: int
    index: int
    prompt: str
    seed: int
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewEvent(Event):
    """What a sample that is being drawn will look like, as far as can be told.

    Attributes:
        step: Updates done.
        index: Number of the prompt.
        prompt: Its text.
        seed: Its seed.
        path: The picture, relative to the run folder; it is gone when the sample is done.
        done: Denoising steps done.
        total: Denoising steps of the sample.
    """

    TYPE: ClassVar[str] = "preview"

    step: int
    index: int
    prompt: str
    seed: int
    path: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointEvent(Event):
    """A LoRA file is complete on disk; ``path`` is relative to the run folder.

    Attributes:
        step: Updates done.
        path: The file.
        bytes: Its size.
        final: Whether it is the finished run's.
        best: Whether it is the one with the lowest validation loss so far.
    """

    TYPE: ClassVar[str] = "checkpoint"

    step: int
    path: str
    bytes: int = 0
    final: bool = False
    best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationEvent(Event):
    """The loss on held-out pictures was taken, with the same noise as always.

    Attributes:
        step: Updates done.
        loss: Mean over pictures and noise levels.
        count: Pictures.
        best: Whether it is the lowest so far.
    """

    TYPE: ClassVar[str] = "validation"

    step: int
    loss: float
    count: int = 0
    best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent(Event):
    """Something is off and the run goes on; ``code`` is a stable short name."""

    TYPE: ClassVar[str] = "warning"

    message: str
    code: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorEvent(Event):
    """Why the run failed, in one sentence; ``code`` is a stable short name."""

    TYPE: ClassVar[str] = "error"

    message: str
    code: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandEvent(Event):
    """The trainer's answer to a command (see :mod:`backend.runs.commands`).

    Attributes:
        id: Which command.
        kind: What it asked for.
        ok: Whether it was done (``stop``: is being done).
        detail: What was done, or why it was not, as a sentence.
        steps: Updates of the whole run from now on, where the command changed that.
    """

    TYPE: ClassVar[str] = "command"

    id: str
    kind: str
    ok: bool
    detail: str = ""
    steps: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownEvent(Event):
    """An event of a type that this version does not know."""

    TYPE: ClassVar[str] = "unknown"

    type: str
    fields: dict[str, Any] = field(default_factory=dict)


_TYPES: dict[str, type[Event]] = {
    cls.TYPE: cls
    for cls in (
        StatusEvent,
        AttemptEvent,
        PhaseEvent,
        StepEvent,
        SampleEvent,
        PreviewEvent,
        CheckpointEvent,
        ValidationEvent,
        WarningEvent,
        ErrorEvent,
        CommandEvent,
    )
}
_FIELDS = {
    name: tuple(f.name for f in dataclasses.fields(cls) if f.name not in ("seq", "t"))
    for name, cls in _TYPES.items()
}
_FLOATS = {
    name: frozenset(f.name for f in dataclasses.fields(cls) if "float" in str(f.type))
    for name, cls in _TYPES.items()
}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def encode(event: Event) -> bytes:
    """The event as one line of UTF-8 JSON, its newline included."""
    name = event.TYPE
    record: dict[str, Any] = {"v": VERSION, "seq": event.seq, "t": round(event.t, 4), "type": name}
    if isinstance(event, UnknownEvent):
        record["type"] = event.type
        record.update(event.fields)
    else:
        for key in _FIELDS[name]:
            record[key] = _plain(getattr(event, key))
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes | str) -> Event | None:
    """The event in one line; None for a line that is no event (half-written, foreign, empty)."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        return None
    name = record["type"]
    cls = _TYPES.get(name)
    try:
        seq, t = int(record.get("seq", 0)), float(record.get("t", 0.0))
        if cls is not None:
            return _typed(cls, name, record, seq, t)
    except (KeyError, TypeError, ValueError):
        seq, t = 0, 0.0
    rest = {k: v for k, v in record.items() if k not in ("v", "seq", "t", "type")}
    return UnknownEvent(type=name, fields=rest, seq=seq, t=t)


def _typed(cls: type[Event], name: str, record: dict[str, Any], seq: int, t: float) -> Event:
    values: dict[str, Any] = {key: record[key] for key in _FIELDS[name] if key in record}
    for key in _FLOATS[name] & values.keys():
        if values[key] is not None:
            values[key] = float(values[key])
    if cls is StatusEvent:
        values["status"] = Status(values["status"])
    return cls(seq=seq, t=t, **values)
