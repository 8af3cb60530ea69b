"""Runs side by side: where their configs differ, and how their losses went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.events import Event
from backend.runs.folder import RunFolder
from backend.runs.stream import EventTail
from backend.runs.view import step_rows

MISSING = "–"  # noqa: RUF001 - a dash, as the tables have it


@dataclass(frozen=True, slots=True)
class Difference:
    """A key that the configs do not agree on; ``values`` are in the order of the runs."""

    key: str
    values: tuple[str, ...]


def flatten(config: Any, prefix: str = "") -> dict[str, str]:
    """A config as ``dotted.key`` to value; items of lists are ``key[0]``, empty ones stay."""
    if isinstance(config, Mapping) and config:
        flat: dict[str, str] = {}
        for key, value in config.items():
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
        return flat
    if isinstance(config, Sequence) and not isinstance(config, str | bytes) and config:
        flat = {}
        for place, value in enumerate(config):
            flat |= flatten(value, f"{prefix}[{place}]")
        return flat
    return {prefix: _plain(config)}


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(configs: Sequence[Mapping[str, str]]) -> list[Difference]:
    """The keys whose values are not the same in all flattened configs, in the order of the first."""
    keys = dict.fromkeys(key for config in configs for key in config)
    found = []
    for key in keys:
        values = tuple(config.get(key, MISSING) for config in configs)
        if len(set(values)) > 1:
            found.append(Difference(key, values))
    return found


def read_config(folder: Path) -> dict[str, str]:
    """The flattened config of the run in ``folder``.

    Raises:
        ValueError: It cannot be read; a sentence says why.
    """
    import yaml

    path = RunFolder(folder).config
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    return flatten(value) if isinstance(value, Mapping) else {}


def read_events(folder: Path) -> list[Event]:
    """All events of the run in ``folder``."""
    tail, events = EventTail(RunFolder(folder).events), list[Event]()
    while batch := tail.read():
        events += batch
    return events


def loss_curve(events: Sequence[Event]) -> tuple[list[float], list[float]]:
    """Steps and losses, each step once, as it was last trained."""
    rows = step_rows(events)
    return [float(row["step"]) for row in rows], [row["loss"] for row in rows]


def sweep_of(name: str, tags: Sequence[str] = ()) -> str:
    """The group that a run belongs to: its tag ``sweep:x``, else its name without a number at the end."""
    for tag in tags:
        if tag.startswith("sweep:") and tag != "sweep:":
            return tag.removeprefix("sweep:")
    stem = name.rstrip("0123456789").rstrip("-_ .")
    return stem or name
