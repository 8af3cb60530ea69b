"""Which files of a config's data and models the trainer will read: these travel to Modal, nothing else.

The rules are those of ``backend.trainer`` (``dataset``, ``manifest``, ``masks``, ``hub``), so that a run
sees in its container exactly the pictures, captions and weights that it would have seen here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from backend.datasets.sidecar import SIDECAR
from backend.files import read_json
from backend.launchers.base import LaunchError
from backend.trainer.hub import PARTS
from config.checks import PICTURE_SUFFIXES

_WEIGHTS = ("*.json", "*.safetensors", "*.txt", "*.model")
_BARE = ("config.json", "diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.json")
_LORA_FILE = "pytorch_lora_weights.safetensors"

Place = tuple[str, ...]
"""Where something really is on this machine, links resolved: the names from the top down."""


class InputError(LaunchError):
    """Data or a model of the config cannot be taken along; the message is one sentence for people."""


def place_of(path: Path) -> Place:
    """The real place of a file's folder, and the file's own name in it."""
    return (*folder_place(path.parent), path.name)


def folder_place(folder: Path) -> Place:
    """The real place of a folder."""
    real = Path(os.path.realpath(folder))
    drive = re.sub(r"[^\w.-]+", "_", real.drive).strip("_")  # C: is a name like any other
    return (*((drive,) if drive else ()), *real.parts[1:])


@dataclass
class Tree:
    """A folder of which some files are wanted.

    Attributes:
        base: Its place; everything wanted is in it.
        files: What is wanted: place, and where to read it (or its content).
        links: Real path of every linked file, and the place where the link is.
        missing: Names of pictures that a manifest lists and that do not exist.
    """

    base: Place
    files: dict[Place, Path | bytes] = field(default_factory=dict)
    links: dict[str, Place] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


# -- pictures ------------------------------------------------------------------------------------


def picture_folder(folder: Path, caption_ext: str | None) -> Tree:
    """The pictures in a folder and below, with their captions.

    Hidden files and folders are left out and linked folders are not entered, as the trainer does.

    Args:
        folder: The folder.
        caption_ext: Extension of caption files, with its dot; None for masks, which have none.

    Raises:
        InputError: A folder cannot be read.
    """
    tree = Tree(folder_place(folder))
    top = Path(os.path.realpath(folder))
    for path, is_link in _pictures(top):
        place = (*tree.base, *path.relative_to(top).parts)
        tree.files[place] = path
        if is_link:
            tree.links[os.path.realpath(path)] = place
        if caption_ext is None:
            continue
        caption = path.with_name(path.stem + caption_ext)
        if caption.is_file():
            tree.files[(*place[:-1], caption.name)] = caption
        _take_sidecar(tree, path.parent, place[:-1])
    return tree


def _take_sidecar(tree: Tree, folder: Path, place: Place) -> None:
    """The crops and exclusions of the pictures in a folder, which the trainer honours, go with them."""
    target = (*place, SIDECAR)
    if target not in tree.files and (folder / SIDECAR).is_file():
        tree.files[target] = folder / SIDECAR


def _pictures(folder: Path) -> Iterator[tuple[Path, bool]]:
    below: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if not entry.is_symlink():
                        below.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES:
                    yield Path(entry.path), entry.is_symlink()
    except OSError as error:
        raise InputError(
            f"the folder {error.filename or folder} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    for name in below:
        yield from _pictures(folder / name)


def manifest(path: Path) -> Tree:
    """A JSON file that maps pictures to captions, and the pictures that it names.

    The pictures may be anywhere; names that would not lead to them in a container are rewritten.

    Raises:
        InputError: It cannot be read, is of another form, or names no picture that exists.
    """
    try:
        raw = path.read_bytes()
        data = json.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must map picture paths to captions")
    own = place_of(path)
    tree = Tree(own[:-1])
    renamed: dict[str, Any] = {}
    for name, caption in data.items():
        # As backend.trainer.manifest reads it.
        picture = path.parent / Path(name.replace("\\", "/") if ":" not in name else name)
        if not picture.is_file():
            tree.missing.append(name)
            renamed[name] = caption
            continue
        place = place_of(picture)
        tree.base = _shared(tree.base, place[:-1])
        tree.files[place] = picture
        _take_sidecar(tree, picture.parent, place[:-1])
        if picture.is_symlink():
            tree.links[os.path.realpath(picture)] = place
        renamed[_relative(place, own[:-1])] = caption
    if not tree.files:
        raise InputError(f"{path} names no picture that exists on this machine")
    same = list(renamed) == list(data)
    tree.files[own] = path if same else json.dumps(renamed, ensure_ascii=False, indent=1).encode("utf-8")
    return tree


def _shared(one: Place, other: Place) -> Place:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if length is None else length]


def _relative(place: Place, folder: Place) -> str:
    shared = len(_shared(place, folder))
    return "/".join((*(".." for _ in folder[shared:]), *place[shared:]))


def whole_folder(folder: Path) -> Tree:
    """Everything in a folder of unknown use but hidden files; links are followed.

    Raises:
        InputError: It cannot be read, or a link in it leads round in a circle.
    """
    tree = Tree(folder_place(folder))
    _all_files(Path(os.path.realpath(folder)), tree.base, tree, ())
    return tree


def _all_files(folder: Path, place: Place, tree: Tree, above: tuple[str, ...]) -> None:
    real = os.path.realpath(folder)
    if real in above:
        raise InputError(f"the link {folder} leads round in a circle; remove it")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            _all_files(Path(entry.path), (*place, entry.name), tree, (*above, real))
        else:
            tree.files[(*place, entry.name)] = Path(entry.path)


# -- models --------------------------------------------------------------------------------------


def model_folder(folder: Path, parts: Sequence[str]) -> tuple[Tree, bool]:
    """The weights and settings of some parts of a model in diffusers format.

    Returns:
        They, and whether the folder has only a transformer, so that the other parts come from elsewhere.

    Raises:
        InputError: The folder cannot be read or holds none of them.
    """
    tree = Tree(folder_place(folder))
    for part in parts:
        if (folder / part).is_dir():
            _weights(folder / part, (*tree.base, part), _WEIGHTS, tree)
    alone = "transformer" in parts and not any((folder / part).is_dir() for part in PARTS[1:])
    if not (folder / "transformer").is_dir() and alone:
        settings = read_json(folder / "config.json")
        if isinstance(settings, dict) and settings.get("_class_name") == "FluxTransformer2DModel":
            _weights(folder, tree.base, _BARE, tree)
    _weights(folder, tree.base, ("model_index.json",), tree)
    if not any(place[-1].endswith(".safetensors") for place in tree.files):
        raise InputError(f"{folder} holds no model in diffusers format: there are no .safetensors files")
    return tree, alone


def vae_folder(folder: Path) -> Tree:
    """An autoencoder's folder: ``folder/vae`` if that is one, else ``folder`` itself; ``base`` says which.

    Raises:
        InputError: Neither is one.
    """
    for place in (folder / "vae", folder):
        if (place / "config.json").is_file():
            tree = Tree(folder_place(place))
            _weights(place, tree.base, _WEIGHTS, tree)
            return tree
    raise InputError(f"{folder} is no autoencoder: it has no config.json")


def lora_file(path: Path) -> Path:
    """The file of a LoRA that is given as a file or as a folder with one.

    Raises:
        InputError: The folder has none, or more than one.
    """
    if path.is_file():
        return path
    if (path / _LORA_FILE).is_file():
        return path / _LORA_FILE
    found = sorted(path.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} .safetensors files; name one of them" if found else "no .safetensors file"
    raise InputError(f"{path} has {what}")


def _weights(folder: Path, place: Place, patterns: Sequence[str], tree: Tree) -> None:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.is_dir())
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
    for name in names:
        wanted = any(fnmatch(name, pattern) for pattern in patterns)
        if wanted and not name.startswith(".") and not fnmatch(name, "*.fp16.*"):
            tree.files[(*place, name)] = folder / name
