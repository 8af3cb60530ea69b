"""The dataset folders that this user works with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.datasets.errors import DatasetError, reason
from backend.datasets.index import Index
from backend.files import read_json, write_json
from backend.home import home

_MOST_REMOVED = 500  # folders taken off the list that are remembered


class LibraryError(DatasetError):
    """The library cannot be changed; the message is one sentence for people."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A dataset of the library.

    Attributes:
        name: What the user calls it.
        path: Its folder.
        added: When it was added, seconds since 1970.
    """

    name: str
    path: Path
    added: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What the library says about a dataset.

    Attributes:
        exists: Whether its folder is there.
        pictures: How many pictures.
        captions: How many of them have a caption with text.
        bytes: Size of the pictures.
        excluded: How many are not trained on.
        scanned: Whether this comes from a scan; False if it was never opened.
    """

    exists: bool
    pictures: int = 0
    captions: int = 0
    bytes: int = 0
    excluded: int = 0
    scanned: bool = False


class Library:
    """The list of datasets, a file in the data folder that is replaced atomically.

    Args:
        root: The data folder; the user's if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or home()
        self._file = self._root / "datasets.json"

    def entries(self) -> list[Entry]:
        """All datasets, by name. A damaged list is empty."""
        data = read_json(self._file)
        found = data.get("datasets") if isinstance(data, dict) else None
        entries = [entry for record in found or [] if (entry := _entry(record)) is not None]
        return sorted(entries, key=lambda entry: (entry.name.casefold(), entry.path))

    def add(self, path: Path, name: str | None = None) -> Entry:
        """Add a folder; one that is there already is returned as it is.

        Raises:
            LibraryError: It is no folder, or the list cannot be written.
        """
        path = path.expanduser().absolute()
        try:
            is_folder = path.is_dir()
        except (OSError, ValueError):
            is_folder = False
        if not is_folder:
            what = "is not a folder" if os.path.lexists(str(path).replace("\0", "")) else "does not exist"
            raise LibraryError(f"{path} {what}")
        entries = self.entries()
        for entry in entries:
            if _same(entry.path, path):
                return entry
        entry = Entry(_free_name(name or path.name or str(path), entries), path, time.time())
        self._write([*entries, entry])
        return entry

    def learn(self, folders: Iterable[Path]) -> list[Entry]:
        """Add folders that somebody works with anyway, but for those that were taken off the list before.

        Args:
            folders: Those that configs and runs name; what is no folder is passed over.

        Returns:
            Those that were added.

        Raises:
            LibraryError: The list cannot be written.
        """
        entries = self.entries()
        known = {os.path.realpath(path) for path in (*(entry.path for entry in entries), *self._removed())}
        new: list[Entry] = []
        for folder in folders:
            real = os.path.realpath(folder)
            if real not in known and os.path.isdir(real):
                known.add(real)
                name = _free_name(folder.name or str(folder), [*entries, *new])
                new.append(Entry(name, folder.absolute(), time.time()))
        if new:
            self._write([*entries, *new])
        return new

    def remove(self, path: Path) -> None:
        """Take a folder off the list; its files stay, and it does not come back by itself.

        Raises:
            LibraryError: The list cannot be written.
        """
        removed = [*(it for it in self._removed() if it != path), path][-_MOST_REMOVED:]
        self._write([entry for entry in self.entries() if entry.path != path], removed)

    def _removed(self) -> list[Path]:
        data = read_json(self._file)
        found = data.get("removed") if isinstance(data, dict) else None
        return [Path(it) for it in found if isinstance(it, str)] if isinstance(found, list) else []

    def rename(self, path: Path, name: str) -> Entry:
        """Call a dataset something else; its folder keeps its name.

        Raises:
            LibraryError: The name is empty or taken, it is not on the list, or that cannot be written.
        """
        name = " ".join(name.split())
        if not name:
            raise LibraryError("a dataset needs a name")
        entries = self.entries()
        if any(entry.name == name and entry.path != path for entry in entries):
            raise LibraryError(f"another dataset is called {name!r} already")
        for position, entry in enumerate(entries):
            if entry.path == path:
                entries[position] = Entry(name, path, entry.added)
                self._write(entries)
                return entries[position]
        raise LibraryError(f"{path} is not in the library")

    def _write(self, entries: Iterable[Entry], removed: Iterable[Path] | None = None) -> None:
        entries = list(entries)
        if removed is None:
            listed = {entry.path for entry in entries}
            removed = [path for path in self._removed() if path not in listed]
        records = [{"name": entry.name, "path": str(entry.path), "added": entry.added} for entry in entries]
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            write_json(
                self._file, {"version": 1, "datasets": records, "removed": [str(path) for path in removed]}
            )
        except OSError as error:
            raise LibraryError(f"{self._file} cannot be written: {reason(error)}") from None
        except UnicodeEncodeError:
            raise LibraryError("the folder's name is not Unicode; rename it first") from None


def summary(path: Path, index: Index | None = None) -> Summary:
    """Counts of a dataset from its index: quick, and as of the last scan."""
    if not path.is_dir():
        return Summary(exists=False)
    items = (index or Index(path)).load()
    return Summary(
        exists=True,
        pictures=len(items),
        captions=sum(bool(item.caption and item.caption.strip()) for item in items),
        bytes=sum(item.bytes for item in items),
        excluded=sum(item.excluded for item in items),
        scanned=bool(items),
    )


def _entry(record: Any) -> Entry | None:
    if not isinstance(record, dict):
        return None
    name, path, added = record.get("name"), record.get("path"), record.get("added", 0.0)
    if not isinstance(name, str) or not isinstance(path, str) or not path:
        return None
    return Entry(name, Path(path), float(added) if isinstance(added, int | float) else 0.0)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _free_name(name: str, entries: Iterable[Entry]) -> str:
    name = " ".join(name.split())
    taken = {entry.name for entry in entries}
    if name not in taken:
        return name
    return next(f"{name} {n}" for n in range(2, len(taken) + 3) if f"{name} {n}" not in taken)
