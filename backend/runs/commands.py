"""What a running trainer is asked to do: one small file a command, in the run's ``state/control``.

A file is ``<milliseconds since 1970>-<id>.json`` with ``{"v": 1, "id", "kind", "steps", "at"}``. Whoever
sends a command writes its file in one step; the trainer looks there between updates, carries each command out
once, answers with a :class:`backend.events.CommandEvent` of the same id, and deletes the file. What cannot be
done yet waits; what can never be done is answered with ``ok: false`` and a sentence.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from backend.files import atomic_file

Kind = Literal["stop", "save", "sample", "extend"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_VERSION = 1
_NAME = re.compile(r"(\d{1,16})-([A-Za-z0-9]{1,40})\.json")
_ID = re.compile(r"[A-Za-z0-9]{1,40}")
_MAX_BYTES = 64 * 1024
_MAX_STEPS = 1_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Something that a running trainer is asked to do.

    Attributes:
        kind: ``stop`` saves and ends the run; ``save`` saves a checkpoint and the resume state now;
            ``sample`` draws a round of samples now; ``extend`` changes the total of updates.
        steps: The new total, of ``extend`` only.
        id: Names the command in its answer.
        at: When it was sent, seconds since 1970.

    Raises:
        ValueError: There is no such kind, the id is no plain word, or ``steps`` does not go with the kind.
    """

    kind: Kind
    steps: int | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    at: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no command {self.kind!r}; there are {', '.join(KINDS)}")
        if not _ID.fullmatch(self.id):
            raise ValueError("a command's id has 1 to 40 letters and digits")
        if self.kind == "extend":
            if type(self.steps) is not int or not 1 <= self.steps <= _MAX_STEPS:
                raise ValueError("extend needs the new total of steps, a whole number of at least 1")
        elif self.steps is not None:
            raise ValueError(f"{self.kind} takes no steps")

    @property
    def file_name(self) -> str:
        """Its file in ``state/control``: names sort in the order in which commands were sent."""
        return f"{max(0, int(self.at * 1000)):013d}-{self.id}.json"


@dataclass(frozen=True, slots=True)
class Letter:
    """A file in ``state/control``.

    Attributes:
        path: The file.
        id: The id in its name.
        kind: What it asks for, as far as that can be read; empty if not.
        command: The command; None if it is none that this version knows.
    """

    path: Path
    id: str
    kind: str
    command: Command | None


def encode(command: Command) -> bytes:
    """The content of a command's file."""
    return (json.dumps({"v": _VERSION, **asdict(command)}) + "\n").encode()


def decode(data: bytes | str) -> Command | None:
    """The command in a file's content; None if this version does not know it."""
    fields = _fields(data)
    if fields is None:
        return None
    steps = fields.get("steps")
    try:
        return Command(kind=fields["kind"], steps=steps, id=str(fields["id"]), at=float(fields["at"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _fields(data: bytes | str) -> dict[str, Any] | None:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def send(control: Path, command: Command) -> Path:
    """Put a command into the folder ``control``; returns its file, which is there whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    control.mkdir(parents=True, exist_ok=True)
    path = control / command.file_name
    with atomic_file(path) as file:
        file.write(encode(command))
    return path


def waiting(control: Path) -> list[Letter]:
    """The commands in ``control``, the oldest first; cheap when there are none."""
    try:
        with os.scandir(control) as entries:
            names = sorted(entry.name for entry in entries if _NAME.fullmatch(entry.name))
    except OSError:  # no folder: nobody has ever sent a command
        return []
    return [letter for name in names if (letter := _read(control / name)) is not None]


def _read(path: Path) -> Letter | None:
    """The letter in a file; None if it is gone meanwhile."""
    named = _NAME.fullmatch(path.name)
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    kind = (_fields(data) or {}).get("kind")
    command = decode(data)
    identity = command.id if command is not None else named[2] if named else ""
    return Letter(path, identity, kind[:40] if isinstance(kind, str) else "", command)
