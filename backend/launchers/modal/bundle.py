"""A run's inputs as they travel to Modal: a config for the container, and the files that it names.

Every folder or file that the config names becomes a *root*, which is stored on the volume under the hash
of its content. So data that is there already is never sent again, whichever run it was sent for, and
changing a picture never changes what an older run reads. Folders inside one another become one root, so
that one file stays one file: a held-out picture inside a data set must not be trained on.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.launchers.modal.collect import Collector, Draft
from backend.launchers.modal.hashes import FileError, FileHashes, FileState, Progress
from backend.launchers.modal.inputs import InputError
from backend.launchers.modal.names import can_be_said, printable
from backend.launchers.modal.rewriting import VOLUME
from config.problems import Problem
from config.schema import RunConfig

if TYPE_CHECKING:
    from config.load import LoadedConfig

DATA = ".fluxlora/data"
"""Folder of the volume that holds all roots."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_HASH_LENGTH = 40  # hex digits, 160 bits


@dataclass(frozen=True, slots=True)
class BundledFile:
    """A file of a root.

    Attributes:
        source: Where it is on this machine, or its content.
        path: Where it goes, relative to its root.
        bytes: Its size.
        sha256: Hex digest of its content.
        mark: The state of the source that was hashed; empty for content.
    """

    source: Path | bytes
    path: str
    bytes: int
    sha256: str
    mark: str = ""


@dataclass(frozen=True)
class Root:
    """Files that belong together, addressed by their content.

    Attributes:
        hash: What they are, names and contents.
        name: What a person calls it: the name of the folder or file.
        files: All of them, sorted by path.
    """

    hash: str
    name: str
    files: tuple[BundledFile, ...]

    @property
    def folder(self) -> str:
        """Its folder on the volume."""
        return f"{DATA}/{self.hash}"

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True)
class Variable:
    """An environment variable for the container.

    Attributes:
        name: Its name.
        reason: What it is for, a clause.
        required: Whether the run would fail, or lose something that was asked for, without it.
    """

    name: str
    reason: str
    required: bool


@dataclass(frozen=True)
class Bundle:
    """All that a run on Modal needs from this machine.

    Attributes:
        loaded: The config it was made from.
        data: The config's plain data for the container; ``log_dir`` is missing, see :meth:`config_text`.
        roots: Files to put on the volume.
        variables: Variables that the config refers to, and the tokens that the run will look for.
        hub: Models that come from the Hugging Face Hub, by their key (``model.name_or_path``).
        packages: What to install beside the ``train`` extra.
        problems: Warnings: what is different on Modal, and what looks wrong with the files.
    """

    loaded: LoadedConfig
    data: Mapping[str, Any]
    roots: tuple[Root, ...]
    variables: tuple[Variable, ...]
    hub: Mapping[str, str]
    packages: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def bytes(self) -> int:
        """Size of all inputs."""
        return sum(root.bytes for root in self.roots)

    def config_text(self, folder: str) -> str:
        """``config.yaml`` for the run in ``folder`` of the volume; it holds no tokens.

        TensorBoard records go into that folder.
        """
        data = copy.deepcopy(dict(self.data))
        if self.loaded.config.process.log_dir:
            data["config"]["process"][0]["log_dir"] = f"${{{VOLUME}}}/{folder}/tensorboard"
        head = f"# Run config for Modal, made from {' '.join(self.loaded.path.name.split())}\n"
        return head + replace(self.loaded, data=data).dump()


def make_bundle(
    loaded: LoadedConfig, progress: Progress | None = None, *, hashes: FileHashes | None = None
) -> Bundle:
    """Collect and hash what a run needs; the container's config finds it under ``${FLUXLORA_VOLUME}``.

    Blocks while files are read; call it in a thread. Files that were hashed before are not read again.

    Args:
        loaded: The checked config.
        progress: Told the bytes that are hashed, and all; an exception that it raises ends the work.
        hashes: Remembers hashes; the user's own if None.

    Raises:
        InputError: Something is missing, cannot be read, or has a name that cannot travel.
    """
    collected = Collector(loaded)
    collected.walk()
    files = [source for root in collected.roots for source in root.files.values() if isinstance(source, Path)]
    try:
        states = (hashes or FileHashes()).of(list(dict.fromkeys(files)), progress)
    except FileError as error:
        raise InputError(str(error)) from None
    roots = {id(draft): root_of(draft, states) for draft in collected.roots}
    for use in collected.uses:
        inside = f"{roots[id(use.root)].folder}/{use.path}"
        if not can_be_said(inside):
            shown = printable(use.path)
            raise InputError(f"{use.key.shown}: the name {shown} would be changed in a config; rename it")
        use.key.write(f"${{{VOLUME}}}/{inside}")
    data = collected.data
    return Bundle(
        loaded=loaded,
        data=data,
        roots=tuple({root.hash: root for root in roots.values()}.values()),
        variables=tuple(_variables(data, loaded.config, collected.hub)),
        hub=collected.hub,
        packages=_packages(loaded.config),
        problems=tuple(collected.problems),
    )


def root_of(draft: Draft, states: Mapping[Path, FileState]) -> Root:
    """The root of files whose states are known."""
    files = tuple(_file(path, draft.files[path], states) for path in sorted(draft.files))
    listing = json.dumps([[file.path, file.bytes, file.sha256] for file in files], ensure_ascii=True)
    digest = hashlib.sha256(b"fluxlora data 1\n" + listing.encode("ascii")).hexdigest()
    return Root(digest[:_HASH_LENGTH], draft.name, files)


def _file(path: str, source: Path | bytes, states: Mapping[Path, FileState]) -> BundledFile:
    if isinstance(source, bytes):
        return BundledFile(source, path, len(source), hashlib.sha256(source).hexdigest())
    state = states[source]
    return BundledFile(source, path, state.bytes, state.sha256, state.mark)


# -- what else the container needs ---------------------------------------------------------------


def _variables(data: Any, config: RunConfig, hub: Mapping[str, str]) -> Iterator[Variable]:
    process = config.process
    named = [name for name in dict.fromkeys(_references(data)) if name != VOLUME]
    for name in named:
        yield Variable(name, "the config refers to it", True)
    wanted: list[tuple[str, str, bool]] = []
    if process.save.push_to_hub:
        wanted.append(("HF_TOKEN", "save.push_to_hub uploads with it", True))
    elif hub:
        wanted.append(("HF_TOKEN", f"{next(iter(hub.values()))} may need it to be downloaded", False))
    if process.logging.use_wandb:
        online = os.environ.get("WANDB_MODE", "online") == "online"
        wanted.append(("WANDB_API_KEY", "logging.use_wandb logs in with it", online))
        wanted += [(name, "Weights & Biases reads it", False) for name in _WANDB_OPTIONS]
    for name, reason, required in wanted:
        if name not in named:
            yield Variable(name, reason, required)


_WANDB_OPTIONS = ("WANDB_MODE", "WANDB_ENTITY", "WANDB_BASE_URL")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _VARIABLE.findall(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _references(key)
            yield from _references(item)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _references(item)


def _packages(config: RunConfig) -> tuple[str, ...]:
    wandb = ("wandb",) if config.process.logging.use_wandb else ()
    return (*wandb, *(("tensorboard",) if config.process.log_dir else ()))
