"""The list of a run's complete files on the volume, and the same for a folder that has no list."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from backend.launchers.base import LaunchError
from backend.launchers.modal.remote import MissingError, RemoteFile, RemoteVolume

NAME = "manifest.json"
SAMPLES_NAME = "samples.manifest.json"
KINDS = ("checkpoint", "sample", "log", "config", "state")

_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-f]{64}")
_FOLDS_CASE = sys.platform in ("win32", "darwin")


class TransferError(LaunchError):
    """Files cannot be brought home; the message is one sentence for people."""


@dataclass(frozen=True)
class ManifestFile:
    """A complete file of a run.

    Attributes:
        path: Relative to the run's folder, with forward slashes; never leads out of it.
        bytes: Its size.
        sha256: Hex digest of its content; empty where there is no manifest.
        kind: One of :data:`KINDS`, or empty.
        modified: Seconds since 1970; 0 where a manifest names the content anyway.
    """

    path: str
    bytes: int
    sha256: str
    kind: str
    modified: float = 0.0

    @property
    def version(self) -> str:
        """What tells this content of the file from another."""
        return self.sha256 or f"{self.bytes} bytes of {self.modified:.3f}"


@dataclass(frozen=True)
class Manifest:
    """A run's complete files, no path twice, and when the list was written (seconds since 1970)."""

    files: tuple[ManifestFile, ...] = ()
    updated: float = 0.0

    def get(self, path: str) -> ManifestFile | None:
        """The file of that path, if it is listed."""
        return next((file for file in self.files if file.path == path), None)

    def with_others(self, other: Manifest) -> Manifest:
        """This list and another one; where both have a path, the other's entry counts."""
        files = {file.path: file for file in (*self.files, *other.files)}
        return _checked(list(files.values()), max(self.updated, other.updated))

    @classmethod
    def load(cls, path: Path) -> Manifest | None:
        """The manifest in a local file; None if there is none that can be used."""
        try:
            return parse_manifest(path.read_bytes())
        except (OSError, TransferError):
            return None


async def read_manifest(volume: RemoteVolume, folder: str) -> Manifest:
    """The manifest of the run in a folder of the volume, with the pictures that sampler containers drew.

    Raises:
        MissingError: It has none: the run has not begun, or is none of ours.
        TransferError: It is damaged, or names a place outside the run's folder.
        RemoteError: Modal cannot be reached or refuses.
    """

    async def read(name: str) -> bytes | None:
        try:
            return await volume.read(f"{folder}/{name}")
        except MissingError:
            return None

    main, drawn = await asyncio.gather(read(NAME), read(SAMPLES_NAME))
    if main is None:
        raise MissingError(f"{folder} on the volume {volume.name} has no list of complete files (yet)")
    manifest = parse_manifest(main)
    return manifest if drawn is None else manifest.with_others(parse_manifest(drawn))


def parse_manifest(raw: bytes) -> Manifest:
    """A manifest from its file's content.

    Raises:
        TransferError: It is damaged, or names a place outside the run's folder.
    """
    try:
        data = json.loads(raw.decode("utf-8"))
        files = [_file(entry) for entry in data["files"]]
        updated = float(data.get("updated") or 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TransferError(f"the run's {NAME} is damaged; try again, or take the files without it") from None
    return _checked(files, updated)


def dump_manifest(manifest: Manifest) -> str:
    """The text that :func:`parse_manifest` reads."""
    files = [
        {"path": file.path, "bytes": file.bytes, "sha256": file.sha256, "kind": file.kind}
        for file in manifest.files
    ]
    return json.dumps({"version": 1, "updated": manifest.updated, "files": files}, indent=1) + "\n"


async def list_folder(volume: RemoteVolume, folder: str) -> Manifest:
    """All files of a folder that has no manifest, hidden ones left out. Their content cannot be checked.

    Raises:
        MissingError: There is no such folder.
        TransferError: It holds names that cannot be here.
        RemoteError: Modal cannot be reached or refuses.
    """
    entries = await volume.list(folder, recursive=True)
    top = PurePosixPath(folder)
    return _checked([_listed(entry, top) for entry in entries if _is_visible(entry, top)], 0.0)


def _file(entry: Any) -> ManifestFile:
    file = ManifestFile(
        path=str(entry["path"]),
        bytes=int(entry["bytes"]),
        sha256=str(entry["sha256"]).lower(),
        kind=str(entry.get("kind") or ""),
    )
    if file.bytes < 0 or not _HEX.fullmatch(file.sha256):
        raise ValueError
    return file


def _is_visible(entry: RemoteFile, top: PurePosixPath) -> bool:
    parts = PurePosixPath(entry.path).relative_to(top).parts
    return not entry.is_folder and not any(part.startswith(".") for part in parts)


def _listed(entry: RemoteFile, top: PurePosixPath) -> ManifestFile:
    path = PurePosixPath(entry.path).relative_to(top).as_posix()
    return ManifestFile(path, entry.bytes, "", kind_of(path), entry.modified)


def kind_of(path: str) -> str:
    """What a file of a run is, by its place and name."""
    first, suffix = path.partition("/")[0], PurePosixPath(path).suffix.lower()
    if first == "state":
        return "state"
    if suffix == ".safetensors":
        return "checkpoint"
    if suffix in _PICTURES:
        return "sample"
    if suffix in (".yaml", ".yml"):
        return "config"
    return "log" if suffix in (".jsonl", ".txt", ".log") else ""


def _checked(files: list[ManifestFile], updated: float) -> Manifest:
    found: dict[str, ManifestFile] = {}
    for file in files:
        if not is_safe(file.path):
            shown = "".join(c if c.isprintable() else "?" for c in file.path[:120])
            raise TransferError(f"the run names a file that cannot be here ({shown}); nothing was taken")
        found[file.path.casefold() if _FOLDS_CASE else file.path] = file
    if len(found) < len(files):
        raise TransferError("the run names two files that would be one here; nothing was taken")
    return Manifest(tuple(files), updated)


def is_safe(path: str) -> bool:
    """Whether a relative path stays in its folder and is a name on this machine."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path:
        return False
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        return False
    if os.name != "nt":
        return True
    return not any(
        _RESERVED.fullmatch(part) or part[-1] in ". " or any(c in '<>:"|?*' for c in part) for part in parts
    )
