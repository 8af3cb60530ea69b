"""The dataset folders that this user works with."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from backend.datasets.errors import DatasetError, reason
from backend.datasets.index import Index
from backend.files import atomic_file, read_json, write_json
from backend.home import home
from backend.trainer.pictures import EXTENSIONS

_MOST_RUNS = 200  # newest runs that are looked at for the last use of a folder
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


@dataclass(frozen=True, slots=True)
class RunUse:
    """A run, or a config that was not launched yet, that a dataset was used in.

    Attributes:
        id: Of the run; empty for a config.
        name: What it is called.
        created: When it was launched, or the config last changed: seconds since 1970.
        resolutions: What it trains the dataset at; none if the config does not say it properly.
        trigger: Its trigger word, or nothing.
    """

    id: str
    name: str
    created: float
    resolutions: tuple[int, ...] = ()
    trigger: str = ""


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
        for folder, resolutions, trigger in _uses_in(run.path / "config.yaml"):
            path = wanted.get(os.path.realpath(folder))
            if path is not None:
                found.setdefault(path, RunUse(run.id, run.name, run.created, resolutions, trigger))
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
        for folder, resolutions, trigger in _uses_in(config):
            path = wanted.get(os.path.realpath(folder))
            if path is not None and (path not in found or changed > found[path].created):
                found[path] = RunUse("", config.stem, changed, resolutions, trigger)
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
    return list(dict.fromkeys(Path(folder) for file in files for folder, *_ in _uses_in(file)))


def _uses_in(config: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Folder, resolutions and trigger word of each dataset in a config; nothing if it cannot be read.

    A relative folder is one beside the config.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        data = yaml.load(config.read_text(encoding="utf-8"), Loader=loader)
        process = data["config"]["process"][0]
        trigger = process.get("trigger_word")
        return [
            (
                os.path.join(config.parent, os.path.expanduser(entry["folder_path"])),
                _resolutions(entry.get("resolution")),
                trigger if type(trigger) is str else "",
            )
            for entry in process["datasets"]
            if isinstance(entry.get("folder_path"), str)
        ]
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        return []


def _resolutions(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(sorted(set(values))) if all(type(it) is int and 64 <= it <= 4096 for it in values) else ()


# -- paths that a terminal pastes ------------------------------------------------------------------

_QUOTED = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|((?:\\.|[^\s\\'\"])+)", re.DOTALL)


def parse_paths(text: str) -> list[Path]:
    """The paths in a text that was pasted or dropped on the terminal.

    Terminals write dropped files as ``file://`` addresses, in quotes, or with backslashes before spaces;
    file managers copy one a line. A line that is a path as it stands is taken as one, spaces included.
    """
    found: list[Path] = []
    for line in text.replace("\0", "").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):  # comments of text/uri-list
            continue
        whole = _path(line)
        if _exists(whole):
            found.append(whole)
            continue
        parts = [_unescaped(match) for match in _QUOTED.finditer(line)]
        paths = [_path(part) for part in parts if part]
        # Nothing of it is there: then it is one path with spaces that somebody mistyped.
        found += paths if len(paths) == 1 or any(map(_exists, paths)) or "://" in line else [whole]
    return list(dict.fromkeys(found))


def _unescaped(match: re.Match[str]) -> str:
    single, double, bare = match.groups()
    if single is not None:
        return single
    text = double if double is not None else bare
    if os.name == "nt" or re.match(r"[A-Za-z]:\\", text):
        return text  # there a backslash parts folders
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _path(text: str) -> Path:
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        name = unquote(parts.path)
        if re.match(r"/[A-Za-z]:[/\\]", name):
            name = name[1:]  # file:///C:/pictures
        return Path(name)
    return Path(os.path.expanduser(text))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def import_pictures(paths: Iterable[Path], folder: Path, caption_ext: str = ".txt") -> list[Path]:
    """Copy pictures and their captions into a dataset's folder; a name that is taken gets a number.

    Folders are copied with what they hold at their top.

    Returns:
        The copies of the pictures.

    Raises:
        LibraryError: One cannot be read, or the folder cannot be written.
    """
    copies: list[Path] = []
    for source in _pictures(paths):
        target = _free(folder, source)
        try:
            _copy(source, target)
            copies.append(target)
            caption = source.with_name(source.stem + caption_ext)
            if caption.is_file():
                _copy(caption, target.with_name(target.stem + caption_ext))
        except OSError as error:
            raise LibraryError(f"{source} cannot be copied to {folder}: {reason(error)}") from None
    return copies


def _pictures(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        yield from (file for file in inside if file.suffix.lower() in EXTENSIONS and file.is_file())


def _free(folder: Path, source: Path) -> Path:
    stems = {path.stem for path in folder.iterdir()} if folder.is_dir() else set()
    name, number = source.stem, 1
    while name in stems:
        number += 1
        name = f"{source.stem}-{number}"
    return folder / f"{name}{source.suffix}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, atomic_file(target) as out:
        shutil.copyfileobj(file, out)


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
