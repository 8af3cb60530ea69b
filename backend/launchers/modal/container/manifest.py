"""``manifest.json``: which files of the run are complete, with their sizes and hashes.

It is written after the files, atomically: a file that it lists can be fetched whole.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.files import read_json, write_json
from backend.runs.folder import RunFolder

NAME = "manifest.json"
SAMPLES_NAME = "samples.manifest.json"
"""Of the pictures that the sampler's containers drew: they must not write the trainer's manifest."""

_STATE_FILES = ("resume.safetensors", "run.json", "seed.json", "control-done.json")
_SURE = 2.0  # seconds that clocks of two containers may differ


@dataclass(frozen=True)
class _Seen:
    size: int
    modified_ns: int
    inode: int
    sha256: str


class Manifest:
    """The manifest of a run's folder; every file is hashed once.

    What a manifest written by an earlier container says of a file that is older than it is believed.

    Args:
        folder: The run's folder.
        name: The manifest's file name.
    """

    def __init__(self, folder: RunFolder, name: str = NAME) -> None:
        self._folder = folder
        self._file = folder.path / name
        self._seen: dict[str, _Seen] = {}
        self._before, self._before_time = _read(self._file)

    def write(self, *, logs: bool = False, only_samples: bool = False) -> None:
        """List what is there now.

        Args:
            logs: List the log and the events too: nothing will be appended to them any more.
            only_samples: List nothing but pictures.

        Raises:
            OSError: The disk is full.
        """
        began = time.time()
        entries = []
        for path, kind in self._files(logs, only_samples):
            relative = path.relative_to(self._folder.path).as_posix()
            seen = self._look(path, relative)
            if seen is not None:
                entries.append({"path": relative, "bytes": seen.size, "sha256": seen.sha256, "kind": kind})
        write_json(self._file, {"version": 1, "updated": round(began, 3), "files": entries})

    def _files(self, logs: bool, only_samples: bool) -> Iterator[tuple[Path, str]]:
        for folder, kind in ((self._folder.checkpoints, "checkpoint"), (self._folder.samples, "sample")):
            if only_samples and kind != "sample":
                continue
            try:
                entries = sorted(folder.iterdir())
            except OSError:
                continue
            yield from ((entry, kind) for entry in entries if not entry.name.startswith("."))
        if only_samples:
            return
        yield self._folder.config, "config"
        for name in _STATE_FILES:
            yield self._folder.state / name, "state"
        if logs:
            yield self._folder.log, "log"
            yield self._folder.events, "log"

    def _look(self, path: Path, relative: str) -> _Seen | None:
        """The file's size and hash; None if it is gone, or changes right now."""
        try:
            with path.open("rb") as file:
                info = os.fstat(file.fileno())
                if not os.path.isfile(path):
                    return None
                facts = (info.st_size, info.st_mtime_ns, info.st_ino)
                known = self._seen.get(relative)
                if known is not None and (known.size, known.modified_ns, known.inode) == facts:
                    return known
                sha256 = self._believed(relative, info)
                if sha256 is None:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                after = path.stat()
        except OSError:
            return None
        if (after.st_size, after.st_mtime_ns, after.st_ino) != facts:
            return None
        seen = _Seen(*facts, sha256)
        self._seen[relative] = seen
        return seen

    def _believed(self, relative: str, info: os.stat_result) -> str | None:
        entry = self._before.get(relative)
        if entry is None or entry.get("bytes") != info.st_size:
            return None
        if info.st_mtime > self._before_time - _SURE:
            return None
        sha256 = entry.get("sha256")
        return sha256 if isinstance(sha256, str) and len(sha256) == 64 else None


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], float]:
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("files"), list):
        return {}, 0.0
    updated = document.get("updated")
    files = {str(e["path"]): e for e in document["files"] if isinstance(e, dict) and "path" in e}
    return files, float(updated) if isinstance(updated, int | float) else 0.0
