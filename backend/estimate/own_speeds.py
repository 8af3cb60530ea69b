"""Speeds that were measured: by the user's own runs, and by ``fluxlora-tui bench`` on the very GPUs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.events import AttemptEvent, StepEvent, decode
from backend.files import read_json
from backend.home import home
from backend.runs.folder import RunFolder
from backend.runs.registry import Registry

FILE = "bench.json"
"""Results of ``fluxlora-tui bench`` in the data folder: a list of objects with ``gpu``, ``resolution``,
``batch``, ``compute``, ``checkpointing``, ``seconds_per_step`` and ``peak_bytes``."""

_RUNS = 30  # the newest runs that are looked at
_TAIL = 256 * 1024
_ENOUGH = 10  # steps that a run must have told


@dataclass(frozen=True)
class BenchResult:
    """One line of the benchmark.

    Attributes:
        gpu: Modal's name.
        resolution: Edge of a square picture in pixels.
        batch: Pictures a step.
        compute: ``bf16`` or ``fp8``.
        recompute: Whether activations were recomputed.
        seconds: Of a step.
        peak_bytes: Of GPU memory; None if it was not measured.
    """

    gpu: str
    resolution: int
    batch: int
    compute: str
    recompute: bool
    seconds: float
    peak_bytes: float | None


@dataclass(frozen=True)
class OwnRun:
    """What one finished run showed.

    Attributes:
        id: The run's.
        gpu: Modal's name.
        seconds: Median of its updates.
        expected: Seconds an update that the model foretells for its config on that GPU.
    """

    id: str
    gpu: str
    seconds: float
    expected: float


@dataclass(frozen=True)
class Speeds:
    """All that was measured; empty if nothing was."""

    bench: tuple[BenchResult, ...] = ()
    runs: tuple[OwnRun, ...] = ()
    problems: tuple[str, ...] = field(default=())


def known_speeds(registry: Registry | None = None, *, root: Path | None = None) -> Speeds:
    """Read what was measured. Reads files of up to 30 runs: call it in a thread.

    Args:
        registry: The runs; the user's if None.
        root: The data folder; the user's if None.
    """
    bench, problems = _bench((root or home()) / FILE)
    return Speeds(tuple(bench), tuple(_runs(registry or Registry(root))), tuple(problems))


def _bench(file: Path) -> tuple[list[BenchResult], list[str]]:
    data = read_json(file)
    if data is None:
        return [], [f"{file.name} is damaged and not used"] if file.is_file() else []
    if isinstance(data, dict):
        data = data.get("results", [])
    found = (
        [result for entry in data if (result := _result(entry)) is not None] if isinstance(data, list) else []
    )
    return found, []


def _result(entry: Any) -> BenchResult | None:
    """One entry, None if it is not of that form: another version may have written it."""
    from backend.estimate.speeds import SPEEDS, modal_name

    if not isinstance(entry, Mapping):
        return None
    try:
        name = str(entry["gpu"])
        gpu = name if name in SPEEDS else modal_name(name)
        seconds = float(entry["seconds_per_step"])
        resolution = int(entry["resolution"])
        batch = int(entry.get("batch", 1))
        peak = entry.get("peak_bytes")
        checkpointing = entry.get("checkpointing", True)
        result = BenchResult(
            gpu or "",
            resolution,
            batch,
            str(entry.get("compute", "bf16")),
            str(checkpointing).lower() not in ("false", "off", "none", "0"),
            seconds,
            float(peak) if peak else None,
        )
    except (KeyError, TypeError, ValueError):
        return None
    usable = gpu is not None and 0 < seconds < 3600 and resolution > 0 and batch > 0
    return result if usable else None


def _runs(registry: Registry) -> Iterator[OwnRun]:
    try:
        runs = registry.all()[:_RUNS]
    except OSError:
        return
    for run in runs:
        if run.status.ended and (own := _own(RunFolder(run.path), run.id)) is not None:
            yield own


def _own(folder: RunFolder, run_id: str) -> OwnRun | None:
    try:
        told = folder.events.stat()
    except OSError:
        return None
    return _read(folder.path, run_id, (told.st_size, told.st_mtime_ns))


@lru_cache(maxsize=2 * _RUNS)
def _read(path: Path, run_id: str, _mark: tuple[int, int]) -> OwnRun | None:
    """Reading a run takes milliseconds, and the editor asks after each pause in typing."""
    folder = RunFolder(path)
    from backend.estimate.speeds import modal_name
    from backend.estimate.timing import expected_step
    from config.load import check_config

    try:
        with folder.events.open("rb") as file:
            head = file.read(_TAIL)
            size = file.seek(0, 2)
            file.seek(max(len(head), size - _TAIL))
            tail = file.read()
    except OSError:
        return None
    events = [event for line in (head + b"\n" + tail).split(b"\n") if (event := _decoded(line)) is not None]
    devices = [event.device for event in events if isinstance(event, AttemptEvent) and event.device]
    seconds = [event.seconds for event in events if isinstance(event, StepEvent) and event.seconds > 0]
    gpu = modal_name(devices[-1]) if devices else None
    if gpu is None or len(seconds) < _ENOUGH:
        return None
    loaded, _ = check_config(folder.config, files=False, env={})
    if loaded is None:
        return None
    expected = expected_step(loaded.config, gpu)
    return OwnRun(run_id, gpu, statistics.median(seconds[_ENOUGH // 2 :]), expected)


def _decoded(line: bytes) -> Any:
    try:
        return decode(line) if line.strip() else None
    except ValueError:
        return None
