"""Sweeps: a config in which a list stands where one value belongs means a run for each of its values.

``lr: [1e-4, 2e-4]`` makes two runs; with ``linear: [8, 16]`` beside it there are four. A key that takes a
list anyway (``resolution``, ``modal.gpu``) is swept by a list of lists.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from config.editing import INSIDE, Path, Tree, TreeError, set_value
from config.editing.errors import shown
from config.editing.scalars import write
from config.help import kinds_of
from config.schema import ProcessConfig
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

LIMIT = 64
"""Runs that a sweep may make at the most, unless more are asked for."""

_IN_NAMES = re.compile(r"[^A-Za-z0-9.+_-]+")
_NAME_LENGTH = 80


class SweepError(Exception):
    """The lists make no sweep; the message is one sentence."""


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Attributes:
        name: ``config.name`` with what is different about it, fit for a file's name.
        overrides: As for ``--set``, the name included.
        values: What is different about it, by key.
    """

    name: str
    overrides: tuple[str, ...]
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep.

    Attributes:
        axes: The values of each key that has several.
        runs: In the order of the lists, the last key changing fastest.
    """

    axes: Mapping[str, tuple[Any, ...]]
    runs: tuple[SweepRun, ...]


def find_sweep(text: str, *, is_json: bool = False, limit: int = LIMIT) -> Sweep | None:
    """The runs that a config makes; None if no key has several values, or the text cannot be parsed.

    Raises:
        SweepError: A list is empty or repeats a value, or there would be more than ``limit`` runs.
    """
    try:
        tree = Tree.parse(text, is_json)
    except TreeError:
        return None
    axes = {shown(path): values for path, values in _axes(tree)}
    if not axes:
        return None
    for key, values in axes.items():
        if not values:
            raise SweepError(f"{key} is an empty list; give at least one value")
        said = [write(value, flow=True) for value in values]
        if len(set(said)) < len(said):
            twice = next(word for word in said if said.count(word) > 1)
            raise SweepError(f"{key} has {twice} twice; each run of a sweep is different")
    count = prod(len(values) for values in axes.values())
    if count > limit:
        sizes = " x ".join(f"{len(values)} of {key}" for key, values in axes.items())
        raise SweepError(f"{sizes} make {count} runs, more than {limit}; shorten the lists")
    name = str(tree.value(("config", "name")) or "run")
    runs = [_run(name, dict(zip(axes, chosen, strict=True))) for chosen in itertools.product(*axes.values())]
    return Sweep({key: tuple(values) for key, values in axes.items()}, tuple(_distinct(runs)))


def collapse(text: str, *, is_json: bool = False) -> str:
    """The text with each swept key at its first value: what can be checked and estimated as one run.

    Raises:
        EditError: A list cannot be replaced there.
    """
    try:
        tree = Tree.parse(text, is_json)
    except TreeError:
        return text
    for path, values in list(_axes(tree)):
        if values:
            text = set_value(text, path, values[0], is_json=is_json, everywhere=True).text
    return text


def _run(name: str, values: dict[str, Any]) -> SweepRun:
    words = [f"{key.rpartition('.')[2]}{_word(value)}" for key, value in values.items()]
    full = "-".join([name, *words])
    overrides = [f"{key}={write(value, flow=True)}" for key, value in values.items()]
    return SweepRun(full, (*overrides, f"config.name={write(full, flow=True)}"), values)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "_".join(map(_word, value))
    return _IN_NAMES.sub("_", write(value).strip("\"'")).strip("_.")


def _distinct(runs: list[SweepRun]) -> Iterator[SweepRun]:
    """The same with names that are short enough and differ."""
    names = [run.name for run in runs]
    for index, run in enumerate(runs):
        if len(run.name) <= _NAME_LENGTH and names.count(run.name) == 1:
            yield run
            continue
        name = f"{run.name[: _NAME_LENGTH - 4].rstrip(' .-_')}-{index + 1}"
        yield SweepRun(name, (*run.overrides[:-1], f"config.name={write(name, flow=True)}"), run.values)


def _axes(tree: Tree) -> Iterator[tuple[Path, list[Any]]]:
    process = tree.value(INSIDE)
    if isinstance(process, dict):
        yield from _walk(process, INSIDE, ProcessConfig)


def _walk(data: dict[str, Any], path: Path, model: type[BaseModel]) -> Iterator[tuple[Path, list[Any]]]:
    names = names_of(model)
    for key, value in data.items():
        name = names.get(key)
        if name is None:
            continue
        info = model.model_fields[name]
        inner, is_list = section_of(info.annotation)
        below = (*path, key)
        if inner is not None:
            for step, item in enumerate(value) if is_list and isinstance(value, list) else [(None, value)]:
                if isinstance(item, dict):
                    yield from _walk(item, below if step is None else (*below, step), inner)
            continue
        if not isinstance(value, list):
            continue
        takes_lists = any(kind.base in ("array", "any", "object") for kind in kinds_of(info.annotation)[0])
        if not takes_lists or (value and all(isinstance(item, list) for item in value)):
            yield below, value
