"""Applies plans to caption files, and undoes them, whatever happens in between.

Before the first file is touched, a journal with every file's bytes before and after is on disk; then each
file is replaced atomically. So a process that is killed leaves each caption either old or new, and undoing
works all the same: a file that says what the edit wrote gets back its own bytes, one that still says what it
said is right already, and one that somebody changed since is left alone and reported.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.datasets.edits import Plan
from backend.datasets.errors import DatasetError, reason
from backend.files import atomic_file, read_json, write_json
from backend.home import home
from backend.trainer.captions import CaptionError, decode_caption

_JOURNAL, _DONE, _UNDONE = "journal.json", "done", "undone"
_KEEP = 50  # edits that can be undone

Progress = Callable[[int, int], None]


class JournalError(DatasetError):
    """An edit cannot be applied or undone; the message says why, and that it can still be undone.

    Attributes:
        edit: Id of an edit of which some captions were written; undo takes it. Empty if there is none.
    """

    def __init__(self, message: str, edit: str = "") -> None:
        super().__init__(message)
        self.edit = edit


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of applying or undoing an edit.

    Attributes:
        id: Names the edit; undo takes it.
        title: The edit in a few words.
        changed: Files that were written.
        conflicts: Files that were left alone because somebody else changed them.
    """

    id: str
    title: str
    changed: tuple[Path, ...]
    conflicts: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """An edit that can be undone.

    Attributes:
        id: Names it; the newest sorts last.
        title: It in a few words.
        paths: The captions that it changes.
        finished: Whether it was applied to the end; False after a crash.
    """

    id: str
    title: str
    paths: tuple[Path, ...]
    finished: bool


class Journal:
    """The edits of this user, newest last.

    Args:
        root: Where journals live; the data folder's place for them if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or home() / "datasets" / "edits"

    def apply(self, plan: Plan, progress: Progress | None = None) -> Applied:
        """Write what a plan says. Files that no longer say what the plan was made from are left alone.

        Args:
            plan: The plan.
            progress: Told how many files are done, and of how many.

        Raises:
            JournalError: The journal or a caption cannot be written; what was done can be undone.
        """
        steps: list[tuple[Path, bytes | None, bytes]] = []
        conflicts: list[Path] = []
        for change in plan.changes:
            try:
                raw = _read(change.path)
                text = None if raw is None else decode_caption(raw)
                after = change.after.encode("utf-8")
            except (OSError, CaptionError, UnicodeEncodeError):
                conflicts.append(change.path)
                continue
            if text == change.before:
                steps.append((change.path, raw, after))
            else:
                conflicts.append(change.path)
        identity = f"{time.time_ns():020d}-{uuid.uuid4().hex[:6]}"
        if not steps:
            return Applied(identity, plan.title, (), tuple(conflicts))
        folder = self._root / identity
        self._write_journal(folder, plan.title, steps)
        for count, (path, _, after) in enumerate(steps):
            try:
                with atomic_file(path) as file:
                    file.write(after)
            except OSError as error:
                words = f"the caption {path} cannot be written: {reason(error)}"
                if not count:
                    shutil.rmtree(folder, ignore_errors=True)  # else it would pass for cut short
                    raise JournalError(f"{words}; nothing was changed") from None
                raise JournalError(
                    f"{words}; {count} of {len(steps)} are done, and undo brings them back", identity
                ) from None
            if progress is not None:
                progress(count + 1, len(steps))
        _mark(folder, _DONE)
        self._prune()
        return Applied(identity, plan.title, tuple(path for path, _, _ in steps), tuple(conflicts))

    def last(self, folder: Path | None = None) -> Entry | None:
        """The newest edit that is not undone, of captions in ``folder`` if that is given."""
        for place in sorted(self._root.glob("*-*"), reverse=True):
            if (place / _UNDONE).exists():
                continue
            entry = _entry(place)
            if entry is None:
                continue
            if folder is None or any(path.is_relative_to(folder) for path in entry.paths):
                return entry
        return None

    def unfinished(self, folder: Path | None = None) -> list[Entry]:
        """Edits that a crash cut short, oldest first: some of their captions are old, some new."""
        found = []
        for place in sorted(self._root.glob("*-*")):
            entry = None if (place / _UNDONE).exists() or (place / _DONE).exists() else _entry(place)
            if entry and (folder is None or any(path.is_relative_to(folder) for path in entry.paths)):
                found.append(entry)
        return found

    def undo(self, identity: str, progress: Progress | None = None) -> Applied:
        """Give every caption of an edit back the bytes that it had.

        Raises:
            JournalError: There is no such edit, or a caption cannot be written; undo may be tried again.
        """
        return self._replay(identity, 2, 1, _UNDONE, progress)

    def finish(self, identity: str, progress: Progress | None = None) -> Applied:
        """Apply the rest of an edit that was cut short.

        Raises:
            JournalError: As :meth:`undo`.
        """
        return self._replay(identity, 1, 2, _DONE, progress)

    def _replay(self, identity: str, old: int, new: int, mark: str, progress: Progress | None) -> Applied:
        place = self._root / identity
        data = _load(place)
        if data is None:
            raise JournalError("that edit is not known any more, so it cannot be undone")
        changed: list[Path] = []
        conflicts: list[Path] = []
        steps = data["steps"]
        for count, step in enumerate(steps):
            path, wanted = Path(step[0]), _bytes(step[new])
            try:
                raw = _read(path)
                if raw == wanted:
                    pass
                elif raw != _bytes(step[old]):
                    conflicts.append(path)
                else:
                    _put(path, wanted)
                    changed.append(path)
            except OSError as error:
                raise JournalError(
                    f"the caption {path} cannot be written: {reason(error)}; try again"
                ) from None
            if progress is not None:
                progress(count + 1, len(steps))
        _mark(place, mark)
        return Applied(identity, data["title"], tuple(changed), tuple(conflicts))

    def _write_journal(self, folder: Path, title: str, steps: list[tuple[Path, bytes | None, bytes]]) -> None:
        record = {
            "version": 1,
            "title": title,
            "steps": [[str(path), _text(before), _text(after)] for path, before, after in steps],
        }
        try:
            folder.mkdir(parents=True)
            write_json(folder / _JOURNAL, record, private=True, escape=True)
        except OSError as error:
            raise JournalError(
                f"nothing was changed: undo needs a record in {self._root}, which fails ({reason(error)})"
            ) from None

    def _prune(self) -> None:
        places = sorted(self._root.glob("*-*"))
        for place in places[:-_KEEP]:
            shutil.rmtree(place, ignore_errors=True)


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as file:
        file.write(content)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode("ascii")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def _load(place: Path) -> dict[str, Any] | None:
    data = read_json(place / _JOURNAL)
    return data if isinstance(data, dict) and isinstance(data.get("steps"), list) else None


def _entry(place: Path) -> Entry | None:
    data = _load(place)
    if data is None:
        return None
    paths = tuple(Path(step[0]) for step in data["steps"])
    return Entry(place.name, str(data.get("title", "")), paths, (place / _DONE).exists())


def _mark(place: Path, name: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(place / name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.close(descriptor)
