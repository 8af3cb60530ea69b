"""The configs of a project's folder: what each trains, and making, copying, renaming and deleting them."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.files import atomic_file, read_json, write_json
from backend.home import home
from backend.runs.folder import RunFolder
from backend.runs.registry import Registry, RunSummary

SUFFIXES = (".yaml", ".yml", ".json", ".jsonc")
_DEPTH = 3  # folders below the project's in which configs are looked for
_MAX_BYTES = 8 << 20
_BAD_IN_NAMES = re.compile(r'[\x00-\x1f/\\:*?"<>|]')
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))}
)


class LibraryError(Exception):
    """It cannot be done; the message is one sentence, and nothing has changed."""


@dataclass(frozen=True)
class ConfigEntry:
    """A config as a list shows it.

    Attributes:
        path: Its file.
        name: ``config.name``; the file's name if that cannot be read.
        base_model: As in the file; empty if there is none.
        datasets: Folders of pictures, as in the file.
        steps: Updates; None if it does not say.
        modified: Seconds since 1970.
        last_run: The newest run of that name; None without one.
        problem: Why it cannot be read; None if it can.
    """

    path: Path
    name: str
    base_model: str = ""
    datasets: tuple[str, ...] = ()
    steps: int | None = None
    modified: float = 0.0
    last_run: RunSummary | None = None
    problem: str | None = None


class ConfigLibrary:
    """The configs in a folder and below. Every method reads or writes files: call it in a thread.

    Args:
        folder: The project's folder.
        registry: Where runs are looked up; None for no runs.
        trash: Where deleted configs go; ``trash`` in the data folder if None.
        also: More folders whose configs are listed.
    """

    def __init__(
        self,
        folder: Path,
        registry: Registry | None = None,
        trash: Path | None = None,
        also: Sequence[Path] = (),
    ) -> None:
        self.folder = folder
        self.also = tuple(other for other in also if not other.is_relative_to(folder))
        self.registry = registry
        self._trash = trash

    @property
    def trash_folder(self) -> Path:
        """Where deleted configs go."""
        return self._trash or home() / "trash"

    def entries(self) -> list[ConfigEntry]:
        """Every config, the last changed first. Files that are YAML or JSON and no config are left out."""
        runs: dict[str, RunSummary] = {}
        if self.registry is not None:
            try:
                for run in self.registry.all():
                    runs.setdefault(run.name, run)
            except OSError:
                runs = {}
        found = [entry for path in self._files() if (entry := read_entry(path, runs)) is not None]
        return sorted(found, key=lambda entry: (-entry.modified, str(entry.path)))

    def _files(self) -> Iterator[Path]:
        for top in (self.folder, *self.also):
            yield from self._files_in(top)

    def _files_in(self, top: Path) -> Iterator[Path]:
        for folder, folders, files in os.walk(top):
            depth = len(Path(folder).relative_to(top).parts)
            folders[:] = sorted(
                name
                for name in folders
                if depth < _DEPTH
                and not name.startswith(".")
                and name not in ("node_modules", "__pycache__", "runs", "checkpoints", "samples", "state")
            )
            for name in sorted(files):
                if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                    yield Path(folder) / name

    def new_from_preset(self, preset: str, name: str) -> Path:
        """A new config from a preset.

        Raises:
            LibraryError: There is no such preset, or the file cannot be made.
        """
        from config.presets import preset_text

        try:
            text = preset_text(preset)
        except KeyError:
            raise LibraryError(f"there is no preset {preset}") from None
        return self._new(name, ".yaml", text)

    def new_from_run(self, run: RunSummary, name: str) -> Path:
        """A new config from what an earlier run trained with: resolved, without comments or tokens.

        Raises:
            LibraryError: The run's config is gone, or the file cannot be made.
        """
        source = RunFolder(run.path).config
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise LibraryError(f"the config of run {run.id} cannot be read: {source}") from None
        return self._new(name, ".yaml", text)

    def duplicate(self, path: Path, name: str) -> Path:
        """A copy of a config with another name, beside it.

        Raises:
            LibraryError: It cannot be read, or the copy cannot be made.
        """
        return self._new(name, path.suffix, self._read(path), folder=path.parent)

    def rename(self, path: Path, name: str) -> Path:
        """Give a config's file and its ``config.name`` another name; runs keep theirs.

        Raises:
            LibraryError: The name is taken or no name, or the file cannot be written.
        """
        target = self._target(path.parent, name, path.suffix)
        if target == path:
            return path
        text = _named(self._read(path), name, path)
        self._write_new(target, text)
        try:
            path.unlink()
        except OSError as error:
            target.unlink(missing_ok=True)
            raise LibraryError(f"{path.name} cannot be renamed: {error.strerror or error}") from None
        return target

    def delete(self, path: Path) -> Path:
        """Move a config to the trash; returns its place there.

        Raises:
            LibraryError: It cannot be moved.
        """
        trash = self.trash_folder
        try:
            trash.mkdir(parents=True, exist_ok=True)
            place = trash / f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}-{path.name}"
            write_json(place.with_name(place.name + ".from"), {"path": str(path.absolute())})
            shutil.move(path, place)
        except OSError as error:
            raise LibraryError(
                f"{path.name} cannot be moved to the trash: {error.strerror or error}"
            ) from None
        return place

    def restore(self, trashed: Path) -> Path:
        """Bring a config back from the trash to where it was.

        Raises:
            LibraryError: Something is in its place, or nobody knows where it was.
        """
        note = trashed.with_name(trashed.name + ".from")
        data = read_json(note)
        if not isinstance(data, dict) or not isinstance(data.get("path"), str):
            raise LibraryError(f"nobody knows where {trashed.name} was")
        target = Path(data["path"])
        if target.exists():
            raise LibraryError(f"{target.name} is there again; rename it first")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(trashed, target)
            note.unlink(missing_ok=True)
        except OSError as error:
            raise LibraryError(f"{target.name} cannot be restored: {error.strerror or error}") from None
        return target

    def trash(self) -> list[Path]:
        """What is in the trash, the last deleted first."""
        try:
            found = [p for p in self.trash_folder.iterdir() if p.suffix != ".from"]
        except OSError:
            return []
        return sorted(found, key=lambda path: path.name, reverse=True)

    def _new(self, name: str, suffix: str, text: str, folder: Path | None = None) -> Path:
        target = self._target(folder or self.folder, name, suffix)
        self._write_new(target, _named(text, name, target))
        return target

    def _target(self, folder: Path, name: str, suffix: str) -> Path:
        bad = _BAD_IN_NAMES.search(name)
        if not name or bad or name.strip(" .") != name or name.lower() in _RESERVED or len(name) > 120:
            raise LibraryError(f"{name!r} cannot be a file's name; use letters, digits, dashes and dots")
        target = folder / f"{name}{suffix}"
        if target.exists():
            raise LibraryError(f"{target.name} is there already; choose another name")
        return target

    def _read(self, path: Path) -> str:
        try:
            return path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise LibraryError(f"{path.name} cannot be read: {said}") from None

    def _write_new(self, target: Path, text: str) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(target) as file:
                file.write(text.encode("utf-8"))
        except OSError as error:
            raise LibraryError(f"{target.name} cannot be written: {error.strerror or error}") from None


def _named(text: str, name: str, path: Path) -> str:
    """A config's text with another ``config.name``; as it is where that cannot be set."""
    from config.editing import EditError, set_value
    from config.load import is_json_file

    try:
        return set_value(text, ("config", "name"), name, is_json=is_json_file(path)).text
    except EditError:
        return text


def read_entry(path: Path, runs: dict[str, RunSummary]) -> ConfigEntry | None:
    """What a file is as a config; None if it is none.

    Args:
        path: The file.
        runs: The newest run by its name.
    """
    from config.load import is_json_file
    from config.source import decode, parse

    try:
        stat = path.stat()
        if stat.st_size > _MAX_BYTES:
            return None
        text, problems = decode(path.read_bytes())
    except OSError as error:
        return ConfigEntry(path, path.stem, problem=(error.strerror or str(error)).lower())
    looks = re.search(r"\bconfig\b", text) and re.search(r"\bprocess\b", text)
    if problems or not looks:
        return None
    document = parse(text, is_json=is_json_file(path))
    if document.data is None:
        first = document.problems[0] if document.problems else None
        said = first.describe(path.name) if first is not None else "cannot be parsed"
        return ConfigEntry(path, path.stem, modified=stat.st_mtime, problem=said)
    process = _get(document.data, "config", "process", 0)
    if not isinstance(process, dict):
        return None
    name = str(_get(document.data, "config", "name") or path.stem)
    datasets = process.get("datasets")
    folders = [
        str(item.get("folder_path") or item.get("dataset_path") or "")
        for item in (datasets if isinstance(datasets, list) else ())
        if isinstance(item, dict)
    ]
    steps = _get(process, "train", "steps")
    return ConfigEntry(
        path,
        name,
        str(_get(process, "model", "name_or_path") or ""),
        tuple(folder for folder in folders if folder),
        steps if isinstance(steps, int) and not isinstance(steps, bool) else None,
        stat.st_mtime,
        runs.get(name),
    )


def _get(value: Any, *path: str | int) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
