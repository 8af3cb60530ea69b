"""Crops and exclusions of pictures, kept beside them in ``.fluxlora.json``; the trainer honours them.

Each folder that holds pictures has a file of its own, so that it goes along when the folder is moved,
and whichever way a config names the pictures (a folder, a folder above, a manifest)::

    {"version": 1, "pictures": {"cat.jpg": {"excluded": true},
                                "dog.jpg": {"crop": {"left": 10, "top": 0, "width": 512, "height": 640}}}}

A crop is in pixels of the upright picture (after EXIF rotation). Keys that this version does not know are
kept when the file is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from backend.datasets.errors import DatasetError, reason
from backend.files import write_json
from backend.home import cache_dir

SIDECAR = ".fluxlora.json"
VERSION = 1
_PATIENCE = 10.0  # seconds for another program that writes the same sidecar; it takes milliseconds
_LARGEST = 16 * 2**20  # bytes; far more than 100,000 marked pictures need


class SidecarError(DatasetError):
    """A sidecar cannot be read or written; the message names it."""


class Box(NamedTuple):
    """A part of a picture, in pixels of the upright picture."""

    left: int
    top: int
    width: int
    height: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    def fits(self, width: int, height: int) -> bool:
        """Whether it lies inside a picture of ``width`` x ``height`` and has an area."""
        left, top, right, bottom = self.corners
        return 0 <= left < right <= width and 0 <= top < bottom <= height


@dataclass(frozen=True, slots=True)
class Marks:
    """What is noted about a picture.

    Attributes:
        excluded: Not trained on.
        crop: The only part of it that is trained on; None for all.
    """

    excluded: bool = False
    crop: Box | None = None


@dataclass(frozen=True)
class Sidecar:
    """The marks of one folder's pictures.

    Attributes:
        marks: By file name.
        problems: Entries that make no sense and are not used, a sentence each.
    """

    marks: Mapping[str, Marks] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


_lock = threading.Lock()  # read, change, replace: one after the other in this process


def read_sidecar(folder: Path) -> Sidecar:
    """The marks of the pictures in ``folder`` (not below); empty if there is no file.

    Raises:
        SidecarError: The file cannot be read, is damaged, or is of a newer version.
    """
    path = folder / SIDECAR
    data = _load(path)
    marks: dict[str, Marks] = {}
    problems: list[str] = []
    for name, entry in data.get("pictures", {}).items():
        mark = _marks(entry)
        if mark is None:
            problems.append(f"{path} says nothing sensible about {name!r}; that entry is not used")
        else:
            marks[name] = mark
    return Sidecar(marks, tuple(problems))


def marks_of(path: Path) -> Marks:
    """The marks of one picture.

    Raises:
        SidecarError: As :func:`read_sidecar`.
    """
    return read_sidecar(path.parent).marks.get(path.name, Marks())


def set_marks(path: Path, marks: Marks) -> Marks:
    """Note ``marks`` about one picture; returns what was noted before, which undoes it.

    Raises:
        SidecarError: The sidecar is of a newer version, or cannot be written.
    """
    return set_many({path: marks})[path]


def set_many(changes: Mapping[Path, Marks]) -> dict[Path, Marks]:
    """Note marks about many pictures, as :func:`change_many`.

    Raises:
        SidecarError: As :func:`change_many`.
    """

    def always(marks: Marks) -> Callable[[Marks], Marks]:
        return lambda before: marks

    return change_many({path: always(marks) for path, marks in changes.items()})


def change_many(changes: Mapping[Path, Callable[[Marks], Marks]]) -> dict[Path, Marks]:
    """Change marks of many pictures, each folder's file replaced once.

    What others wrote meanwhile, in this process or another one of this machine, is read first and kept.
    A damaged sidecar is set aside as ``.fluxlora.json.damaged``.

    Args:
        changes: By picture, its marks from those that the file has.

    Returns:
        The marks before; :func:`set_many` with them undoes the change.

    Raises:
        SidecarError: A sidecar is of a newer version, or cannot be written; folders done before stay done.
    """
    before: dict[Path, Marks] = {}
    folders: dict[Path, dict[str, Callable[[Marks], Marks]]] = {}
    for path, change in changes.items():
        folders.setdefault(path.parent, {})[path.name] = change
    for folder, named in folders.items():
        with _alone(folder):
            for name, old in _change(folder, named).items():
                before[folder / name] = old
    return before


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else on this machine writes the folder's sidecar meanwhile.

    The lock's file lies among the app's own: in the folder it would be one more thing to explain. Where there
    is no place for it, this process alone is kept in order.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:24]
    path = cache_dir() / "locks" / f"{name}.lock"
    with _lock, contextlib.ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path, timeout=_PATIENCE))
        except Timeout:
            raise SidecarError(f"{folder / SIDECAR} is being written by another program; try again") from None
        except OSError:
            pass
        yield


def _change(folder: Path, named: Mapping[str, Callable[[Marks], Marks]]) -> dict[str, Marks]:
    path = folder / SIDECAR
    try:
        data = _load(path)
    except _DamagedError:
        data = {}
        _set_aside(path)
    pictures: dict[str, Any] = dict(data.get("pictures", {}))
    before: dict[str, Marks] = {}
    for name, change in named.items():
        old = pictures.get(name)
        before[name] = _marks(old) or Marks() if old is not None else Marks()
        marks = change(before[name])
        entry = {key: value for key, value in old.items() if key not in ("excluded", "crop")} if isinstance(
            old, dict
        ) else {}  # fmt: skip
        if marks.excluded:
            entry["excluded"] = True
        if marks.crop is not None:
            entry["crop"] = dict(marks.crop._asdict())
        if entry:
            pictures[name] = entry
        else:
            pictures.pop(name, None)
    try:
        if pictures or len(data) > 2:
            pictures = dict(sorted(pictures.items()))
            write_json(path, data | {"version": VERSION, "pictures": pictures}, escape=True)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SidecarError(f"{path} cannot be written: {reason(error)}") from None
    return before


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(path.name + ".damaged"))
    except OSError as error:
        raise SidecarError(f"{path} is damaged and cannot be set aside: {reason(error)}") from None


class _DamagedError(SidecarError):
    """It is there, and no sidecar."""


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise _DamagedError(f"{path} is no list of crops and exclusions: it is too large; delete it")
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SidecarError(f"{path} cannot be read: {reason(error)}") from None
    except (ValueError, RecursionError):
        raise _DamagedError(
            f"{path} is damaged, so crops and exclusions are not known: mend or delete it"
        ) from None
    if not isinstance(data, dict) or not isinstance(data.get("pictures", {}), dict):
        raise _DamagedError(f"{path} is no list of crops and exclusions: mend or delete it")
    version = data.get("version", VERSION)
    if not isinstance(version, int):
        raise _DamagedError(f"{path} has no version number: mend or delete it")
    if version > VERSION:
        raise SidecarError(f"{path} was written by a newer version of the app; update this one")
    return data


def _marks(entry: Any) -> Marks | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("excluded", False), bool):
        return None
    crop = entry.get("crop")
    if crop is None:
        return Marks(entry.get("excluded", False))
    if not isinstance(crop, dict) or any(type(crop.get(key)) is not int for key in Box._fields):
        return None
    box = Box(**{key: crop[key] for key in Box._fields})
    if box.left < 0 or box.top < 0 or box.width < 1 or box.height < 1:
        return None
    return Marks(entry.get("excluded", False), box)
