"""Which runs and configs a dataset is used in, and how it is trained there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backend.trainer.buckets import BucketKind
from backend.trainer.captions import choose_trigger

_MOST_RUNS = 200  # newest runs that are looked at for the last use of a folder


@dataclass(frozen=True, slots=True)
class RunUse:
    """A run, or a config that was not launched yet, that a dataset was used in.

    Attributes:
        id: Of the run; empty for a config.
        name: What it is called.
        created: When it was launched, or the config last changed: seconds since 1970.
        resolutions: What it trains the dataset at; none if the config does not say it properly.
        trigger: Its trigger word, or nothing.
        caption_ext: Extension of its caption files, with its dot.
        kind: Which shapes it is trained in: ``bucket_algorithm``, or ``square`` for ``buckets: false``.
        default_caption: Of pictures without one.
    """

    id: str
    name: str
    created: float
    resolutions: tuple[int, ...] = ()
    trigger: str = ""
    caption_ext: str = ".txt"
    kind: BucketKind = "new"
    default_caption: str | None = None


def last_used(paths: Iterable[Path], root: Path | None = None) -> dict[Path, RunUse]:
    """The newest run that each dataset was used in, of the last 200 runs; reads their configs."""
    from backend.runs.registry import Registry

    wanted = {os.path.realpath(path): path for path in paths}
    found: dict[Path, RunUse] = {}
    try:
        runs = sorted(Registry(root).all(), key=lambda run: run.created, reverse=True)[:_MOST_RUNS]
    except OSError:
        return found
    for run in runs:
        if len(found) == len(wanted):
            break
        for folder, use in _uses_in(run.path / "config.yaml", RunUse(run.id, run.name, run.created)):
            path = wanted.get(os.path.realpath(folder))
            if path is not None:
                found.setdefault(path, use)
    return found


def last_configs(paths: Iterable[Path], configs: Iterable[Path]) -> dict[Path, RunUse]:
    """The newest of some config files that each dataset is used in; reads them."""
    wanted = {os.path.realpath(path): path for path in paths}
    found: dict[Path, RunUse] = {}
    for config in configs:
        try:
            changed = config.stat().st_mtime
        except OSError:
            continue
        for folder, use in _uses_in(config, RunUse("", config.stem, changed)):
            path = wanted.get(os.path.realpath(folder))
            if path is not None and (path not in found or changed > found[path].created):
                found[path] = use
    return found


def named_folders(configs: Iterable[Path], root: Path | None = None) -> list[Path]:
    """The dataset folders that configs name, and those of the last 200 runs; reads all of them.

    Args:
        configs: Files of configs.
        root: The data folder; the user's if None.
    """
    from backend.runs.registry import Registry

    try:
        runs = sorted(Registry(root).all(), key=lambda run: run.created, reverse=True)[:_MOST_RUNS]
    except OSError:
        runs = []
    files = [*configs, *(run.path / "config.yaml" for run in runs)]
    nowhere = RunUse("", "", 0.0)
    return list(dict.fromkeys(Path(folder) for file in files for folder, _ in _uses_in(file, nowhere)))


def _uses_in(config: Path, where: RunUse) -> list[tuple[str, RunUse]]:
    """Each dataset's folder in a config and how it is trained; nothing if it cannot be read.

    Args:
        config: The file. A relative folder is one beside it.
        where: What is known of the run.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(config.read_text(encoding="utf-8"), Loader=loader)
        process = data["config"]["process"][0]
        trigger = _word(process.get("trigger_word"))
        return [
            (
                os.path.join(config.parent, os.path.expanduser(entry["folder_path"])),
                _use(entry, trigger, where),
            )
            for entry in process["datasets"]
            if isinstance(entry.get("folder_path"), str)
        ]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return []


def _use(entry: dict[str, Any], trigger: str, where: RunUse) -> RunUse:
    from config.schema.base import with_dot

    # A set that regularises is not of what the run's trigger word names.
    own = choose_trigger(_word(entry.get("trigger_word")), None if entry.get("is_reg") else trigger)
    extension = _word(entry.get("caption_ext")) or _word(entry.get("caption_type"))
    sdxl = _word(entry.get("bucket_algorithm")).lower() == "sdxl"
    return replace(
        where,
        resolutions=_resolutions(entry.get("resolution")),
        trigger=own or "",
        caption_ext=with_dot(extension) if extension else where.caption_ext,
        kind="square" if entry.get("buckets") is False else "sdxl" if sdxl else "new",
        default_caption=_word(entry.get("default_caption")) or None,
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _resolutions(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(sorted(set(values))) if all(type(it) is int and 64 <= it <= 4096 for it in values) else ()
