"""Deleting pictures so that it can be undone: they are moved into a folder of the app's data."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.datasets.errors import DatasetError, reason
from backend.files import read_json, write_json
from backend.home import home

_RECORD = "moved.json"
_REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What was deleted together.

    Attributes:
        id: Name of it; the newest sorts last.
        paths: Where the files were.
    """

    id: str
    paths: tuple[Path, ...]


class TrashError(DatasetError):
    """Something cannot be deleted or brought back; the message says which.

    Attributes:
        done: What is in the trash all the same; None if nothing is.
    """

    def __init__(self, message: str, done: Ticket | None = None) -> None:
        super().__init__(message)
        self.done = done


class Trash:
    """The trash of this user. What is in it stays until :meth:`empty`.

    Args:
        root: Where it is; the data folder's place for it if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or home() / "datasets" / "trash"

    def delete(
        self, pictures: Iterable[Path], *, caption_ext: str | None = ".txt", replaced: bool = False
    ) -> Ticket:
        """Move pictures, and captions that would be left without one, into the trash.

        The list of moves is on disk before the first, so a crash between two files loses nothing.

        Args:
            pictures: What to move.
            caption_ext: Extension of captions that go along; none do if it is None.
            replaced: Whether something else takes their places.

        Raises:
            TrashError: A file cannot be moved; those before it are in the trash, and it has their ticket.
                Or none of them is there.
        """
        paths = _with_captions([path.absolute() for path in pictures], caption_ext)
        identity = f"{time.time_ns():020d}-{uuid.uuid4().hex[:6]}"
        folder = self._root / identity
        moves: list[dict[str, Any]] = [
            {"from": str(path), "as": f"{n:05}{path.suffix}"} for n, path in enumerate(paths)
        ]
        try:
            folder.mkdir(parents=True)
            write_json(
                folder / _RECORD, [move | {_REPLACED: replaced} for move in moves], private=True, escape=True
            )
        except OSError as error:
            raise TrashError(f"the trash {folder} cannot be used: {reason(error)}") from None
        moved: list[Path] = []
        for path, move in zip(paths, moves, strict=True):
            try:
                _move(path, folder / move["as"])
            except FileNotFoundError:
                continue  # gone already
            except OSError as error:
                words = f"{path} cannot be deleted: {reason(error)}"
                if moved:
                    raise TrashError(words, Ticket(identity, tuple(moved))) from None
                shutil.rmtree(folder, ignore_errors=True)
                raise TrashError(words) from None
            moved.append(path)
        if not moved:
            shutil.rmtree(folder, ignore_errors=True)
            raise TrashError(f"{paths[0]} is not there any more" if paths else "there is nothing to delete")
        return Ticket(identity, tuple(moved))

    def last(self, inside: Path | None = None, *, replaced: bool = True) -> Ticket | None:
        """What was deleted last and not brought back; None if there is nothing.

        Args:
            inside: Only from this folder and below.
            replaced: Also what was moved away for something else.
        """
        for folder in sorted(self._root.glob("*-*"), reverse=True):
            left = [path for path, name in _moves(folder, replaced) if os.path.lexists(folder / name)]
            if left and (inside is None or all(path.is_relative_to(inside) for path in left)):
                return Ticket(folder.name, tuple(left))
        return None

    def holds(self, ticket: str) -> bool:
        """Whether something of a ticket was not brought back yet."""
        return any(os.path.lexists(self._root / ticket / name) for _, name in _moves(self._root / ticket))

    def undo(self, ticket: str) -> list[Path]:
        """Bring files back to where they were; returns them.

        Raises:
            TrashError: A file has taken the place of one, or it cannot be moved; what was not brought back
                stays in the trash.
        """
        folder = self._root / ticket
        back: list[Path] = []
        taken: list[Path] = []
        for path, name in _moves(folder):
            if not os.path.lexists(folder / name):
                continue
            if os.path.lexists(path):
                taken.append(path)
                continue
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _move(folder / name, path)
            except OSError as error:
                raise TrashError(f"{path} cannot be brought back: {reason(error)}") from None
            back.append(path)
        if taken:
            raise TrashError(f"{taken[0]} exists again, so the deleted one stays in the trash ({folder})")
        shutil.rmtree(folder, ignore_errors=True)
        return back

    def empty(self) -> None:
        """Delete what is in the trash for good."""
        shutil.rmtree(self._root, ignore_errors=True)


def _with_captions(pictures: list[Path], caption_ext: str | None) -> list[Path]:
    paths = list(dict.fromkeys(pictures))
    if caption_ext is None:
        return paths
    leaving = set(paths)
    for path in list(paths):
        caption = path.with_name(path.stem + caption_ext)
        if caption in leaving or not caption.is_file():
            continue
        # Another picture of the same stem needs the caption still.
        if not any(other not in leaving for other in _twins(path, caption_ext)):
            leaving.add(caption)
            paths.append(caption)
    return paths


def _twins(path: Path, caption_ext: str) -> list[Path]:
    from backend.trainer.pictures import EXTENSIONS

    names = (path.with_name(path.stem + extension) for extension in EXTENSIONS if extension != caption_ext)
    return [other for other in names if other != path and other.exists()]


def _move(source: Path, target: Path) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system: copy whole, then let go of the source
        temporary = target.with_name(target.name + ".part")
        try:
            shutil.copy2(source, temporary, follow_symlinks=False)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        try:
            os.unlink(source)
        except OSError:  # a read-only folder: it stays there, so not here as well
            with contextlib.suppress(OSError):
                target.unlink()
            raise


def _moves(folder: Path, replaced: bool = True) -> list[tuple[Path, str]]:
    """Where files were, and what they are called in a ticket's folder; without what was replaced if asked."""
    moves = read_json(folder / _RECORD)
    if not isinstance(moves, list):
        return []
    return [
        (Path(move["from"]), move["as"])
        for move in moves
        if isinstance(move, dict) and isinstance(move.get("from"), str) and isinstance(move.get("as"), str)
        if replaced or not move.get(_REPLACED)
    ]
