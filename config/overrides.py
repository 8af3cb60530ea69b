"""``--set key.path=value``: changes on top of a config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from config.problems import Problem
from config.source import parse_scalar

_FROM_TOP = {"job", "config", "meta"}
_SEGMENT = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$|^[0-9]+$")


def split_override(text: str) -> tuple[tuple[str | int, ...], Any]:
    """``train.lr=1e-4`` as a path from the file's top and a value.

    A path that starts with ``job``, ``config`` or ``meta`` is taken from the top; any other inside the
    first process. List items are numbers: ``datasets.0.resolution`` or ``datasets[0].resolution``.

    Raises:
        ValueError: There is no ``=``, or the key or the value cannot be read; says which.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text}: needs the form key.path=value")
    parts = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")
    if not all(_SEGMENT.match(part) for part in parts):
        raise ValueError(f"--set {text}: {key.strip()!r} is not a key path such as train.steps")
    path: tuple[str | int, ...] = tuple(int(p) if p.isdecimal() else p for p in parts)
    if path[0] not in _FROM_TOP:
        path = ("config", "process", 0, *path)
    try:
        return path, parse_scalar(value)
    except ValueError as error:
        raise ValueError(f"--set {text}: {error}") from None


def apply_override(
    data: Any, path: tuple[str | int, ...], value: Any, aliases: Mapping[str, frozenset[str]]
) -> Problem | None:
    """Set ``value`` at ``path`` in ``data``, making mappings on the way.

    Args:
        data: The config as plain data; changed in place.
        path: From the top.
        value: The new value.
        aliases: For a key, the other spellings of it; they are removed beside it, so that
            ``--set network.rank=8`` wins over ``linear: 16`` in the file.

    Returns:
        The problem that prevented it, or None.
    """
    shown = ".".join(map(str, path[3:] if path[:3] == ("config", "process", 0) else path))
    here = data
    for step, following in pairwise(path):
        if isinstance(here, dict) and isinstance(step, str):
            inner = here.get(step)
            if inner is None:
                inner = here[step] = [] if isinstance(following, int) else {}
            here = inner
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            return Problem("error", shown, f"--set cannot reach it: there is no {step!r} in the config")
    last = path[-1]
    if isinstance(here, dict) and isinstance(last, str):
        for other in aliases.get(last, frozenset()):
            here.pop(other, None)
        here[last] = value
    elif isinstance(here, list) and isinstance(last, int) and last <= len(here):
        here[last : last + 1] = [value]
    else:
        return Problem("error", shown, f"--set cannot reach it: there is no {last!r} in the config")
    return None
