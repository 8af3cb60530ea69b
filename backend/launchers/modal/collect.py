"""Walking a config's path-marked keys, and sorting what they name into roots."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.launchers.modal import inputs
from backend.launchers.modal.inputs import InputError, Place, Tree
from backend.launchers.modal.names import printable, safe_name, why_no_name
from backend.launchers.modal.rewriting import VOLUME
from backend.trainer.hub import EXTRAS, LORA_KEYS, PARTS, is_hub_id
from config.problems import Problem
from config.schema import DatasetConfig, ModelConfig
from config.schema.train import ValidationItem
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from config.load import LoadedConfig


@dataclass(frozen=True)
class Key:
    """A path-marked key of the config.

    Attributes:
        name: The field's name.
        shown: Its dotted path, for messages.
        kind: ``input``, ``model`` or ``output``.
        value: Its value, variables replaced.
        section: The section it is in.
        data: The plain data of that section.
        spellings: How the key is spelt there.
    """

    name: str
    shown: str
    kind: str
    value: str
    section: BaseModel
    data: dict[str, Any]
    spellings: tuple[str, ...]

    def write(self, value: str) -> None:
        """Give it another value."""
        for spelling in self.spellings:
            self.data[spelling] = value

    def drop(self) -> None:
        """Leave it out."""
        for spelling in self.spellings:
            del self.data[spelling]


@dataclass
class Draft:
    """A root whose files are not hashed yet.

    Attributes:
        name: Its first folder, or its file.
        base: The place of that folder; what is in the root has its place in there.
        files: By their paths in the root: where to read them, or their content.
    """

    name: str
    base: Place
    files: dict[str, Path | bytes]

    def path_of(self, place: Place) -> str:
        """Where something goes in the root."""
        return "/".join((self.name, *place[len(self.base) :]))

    def add(self, tree: Tree) -> None:
        """Take in what is wanted of a folder."""
        self.files.update({self.path_of(place): source for place, source in tree.files.items()})


@dataclass(frozen=True)
class Use:
    """A key of the config that names something in a root."""

    key: Key
    root: Draft
    path: str


class Collector:
    """Goes through a config once, see :meth:`walk`.

    Args:
        loaded: The checked config.

    Attributes:
        data: Its plain data, in which the keys of ``uses`` are to be written anew.
        roots: What travels.
        uses: Which key names what of it.
        hub: Models that come from the Hub, by key.
        problems: Warnings.
    """

    def __init__(self, loaded: LoadedConfig) -> None:
        self._config = loaded.config
        self.data: dict[str, Any] = copy.deepcopy(dict(loaded.data))
        self.data["config"]["process"] = self.data["config"]["process"][:1]  # only the first one runs
        self._process: dict[str, Any] = self.data["config"]["process"][0]
        self.roots: list[Draft] = []
        self.uses: list[Use] = []
        self.hub: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._trees: list[tuple[Key, Place, Tree]] = []
        self._items: list[Key] = []

    def walk(self) -> None:
        """Find everything.

        Raises:
            InputError: Something is missing, cannot be read, or has a name that cannot travel.
        """
        if self._process.pop("device", None) is not None:
            self._warn("device", "is left out: on Modal the container's GPU is used")
        for key in list(_keys(self._process, self._config.process)):
            try:
                self._take(key)
            except InputError as error:
                raise InputError(f"{key.shown}: {error}") from None
        self._plant()
        for key in self._items:
            self._place_item(key)
        for root in self.roots:
            self._check_names(root)

    def _warn(self, key: str, message: str) -> None:
        self.problems.append(Problem("warning", key, message))

    def _take(self, key: Key) -> None:
        section, path = key.section, Path(key.value).expanduser()
        if key.kind == "output":
            key.drop()
        elif isinstance(section, DatasetConfig) and key.name == "folder_path":
            self._dataset(key, section, path)
        elif isinstance(section, DatasetConfig):
            if not path.is_dir():
                raise InputError(f"there is no folder {path}")
            self._trees.append((key, inputs.folder_place(path), inputs.picture_folder(path, None)))
        elif isinstance(section, ValidationItem):
            self._items.append(key)
        elif isinstance(section, ModelConfig):
            self._model(key, section, path)
        elif path.is_dir():
            self._root(key, inputs.whole_folder(path))
        else:
            self._file(key, path)

    def _dataset(self, key: Key, dataset: DatasetConfig, path: Path) -> None:
        if path.is_dir():
            tree = inputs.picture_folder(path, dataset.caption_ext)
            if not tree.files:
                raise InputError(f"there are no pictures in {path}")
            self._trees.append((key, tree.base, tree))
            return
        tree = inputs.manifest(path)
        if tree.missing:
            first, more = tree.missing[0], len(tree.missing) - 1
            self._warn(key.shown, f"names {first}{f' and {more} more' * bool(more)}, which is not there")
        self._trees.append((key, inputs.place_of(path), tree))

    # Models

    def _model(self, key: Key, model: ModelConfig, path: Path) -> None:
        extras = model.extras_name_or_path
        alone = False
        if not path.exists():
            if not is_hub_id(key.value):
                raise InputError(f"there is no folder or file {path}")
            self.hub[key.shown] = key.value
        elif key.name in LORA_KEYS:
            self._file(key, inputs.lora_file(path))
        elif path.is_file():
            self._file(key, path)
            alone = True
        elif key.name == "vae_path":
            self._root(key, inputs.vae_folder(path))
        elif key.name == "extras_name_or_path":
            self._root(key, inputs.model_folder(path, PARTS[1:])[0])
        else:
            tree, alone = inputs.model_folder(path, PARTS[:1] if extras else PARTS)
            self._root(key, tree)
        if alone and key.name == "name_or_path" and not extras:
            self.hub["model.extras_name_or_path"] = EXTRAS

    # Roots

    def _file(self, key: Key, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        name = safe_name(path.name, "file" + path.suffix.lower())
        root = Draft(name, (), {name: path})
        self.roots.append(root)
        self.uses.append(Use(key, root, name))

    def _root(self, key: Key, tree: Tree) -> None:
        """A folder of its own, shared only with keys that name the very same folder."""
        root = self._draft(tree.base)
        root.add(tree)
        self.uses.append(Use(key, root, root.path_of(tree.base)))

    def _draft(self, base: Place) -> Draft:
        for root in self.roots:
            if root.base == base and base:
                return root
        root = Draft(safe_name(base[-1] if base else "", "data"), base, {})
        self.roots.append(root)
        return root

    def _plant(self) -> None:
        """Make the outermost folders of pictures roots, and put the others into them."""
        tops: list[Place] = []
        for base in sorted({tree.base for _, _, tree in self._trees}, key=len):
            if not any(_inside(base, top) for top in tops):
                tops.append(base)
        self._tops = {top: self._draft(top) for top in tops}
        for key, place, tree in self._trees:
            root = self._top_of(tree.base)
            assert root is not None
            root.add(tree)
            self.uses.append(Use(key, root, root.path_of(place)))

    def _top_of(self, place: Place) -> Draft | None:
        return next((root for top, root in self._tops.items() if _inside(place, top)), None)

    def _place_item(self, key: Key) -> None:
        """A held-out picture: where a data set has it, if one has it."""
        path = Path(key.value).expanduser()
        if not path.is_file():
            raise InputError(f"{key.shown}: there is no file {path}")
        real = path.resolve()
        linked = next((t.links[str(real)] for _, _, t in self._trees if str(real) in t.links), None)
        for place in (linked, inputs.place_of(path), inputs.place_of(real)):
            root = self._top_of(place) if place is not None else None
            if root is not None and place is not None:
                break
        else:
            place = inputs.place_of(path)
            root = self._draft(place[:-1])
        root.files.setdefault(root.path_of(place), path)
        self.uses.append(Use(key, root, root.path_of(place)))

    def _check_names(self, root: Draft) -> None:
        folded: dict[str, str] = {}
        clashes: list[tuple[str, str]] = []
        for path in root.files:
            if why := why_no_name(path):
                raise InputError(f"the file {printable(path)} cannot go to Modal: {why}; rename it")
            other = folded.setdefault(path.casefold(), path)
            if other != path:
                clashes.append((other, path))
        if clashes:
            one, other = clashes[0]
            more = f" (and {len(clashes) - 1} more such pairs)" if len(clashes) > 1 else ""
            self._warn(
                "", f"{one} and {other} differ only in upper and lower case{more}; on some disks they are one"
            )


def _keys(data: dict[str, Any], section: BaseModel, shown: str = "") -> Iterator[Key]:
    """The path-marked keys of a section and below that have a value; other spellings of one are one."""
    model = type(section)
    spellings: dict[str, list[str]] = {}
    for spelling in data:
        if name := names_of(model).get(str(spelling)):
            spellings.setdefault(name, []).append(spelling)
    for name, used in spellings.items():
        info, value = model.model_fields[name], getattr(section, name)
        below = f"{shown}.{name}" if shown else name
        inner, is_list = section_of(info.annotation)
        if inner is not None:
            raw = data[used[0]]
            if is_list and isinstance(raw, list):
                for index, (item, one) in enumerate(zip(raw, value, strict=True)):
                    yield from _keys(item, one, f"{below}.{index}")
            elif isinstance(raw, dict) and value is not None:
                yield from _keys(raw, value, below)
            continue
        extra = info.json_schema_extra
        kind = extra.get("path") if isinstance(extra, dict) else None
        there = any(f"${{{VOLUME}}}" in str(data[spelling]) for spelling in used)  # of a run found elsewhere
        if kind and isinstance(value, str) and value and not there:
            yield Key(name, below, str(kind), value, section, data, tuple(used))


def _inside(place: Place, folder: Place) -> bool:
    return place[: len(folder)] == folder
