"""A config as a form: groups of fields with help, value and what the keys can do with them.

A field is a place in the text and nothing else: editing it is an edit of the text
(:mod:`config.editing`), so that the form and the text cannot differ.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from config.comparing import checked
from config.editing import INSIDE, Edited, EditError, Path, Tree, TreeError
from config.editing import edits as _edits
from config.editing import set_value as _set_value
from config.field import Field, FieldKind, parse_value, step
from config.help import all_fields, bounds_of, kinds_of
from config.problems import Problem
from config.schema import ProcessConfig
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

_TITLES = {
    "": "General",
    "network": "Network",
    "datasets": "Dataset",
    "train": "Train",
    "sample": "Sample",
    "save": "Save",
    "model": "Model",
    "modal": "Modal",
    "logging": "Logging",
    "first_sample": "First sample",
}
_ORDER = ("", "network", "datasets", "train", "sample", "save", "model", "modal", "logging", "first_sample")


@dataclass(frozen=True)
class Group:
    """Fields that belong together.

    Attributes:
        name: Such as ``network`` or ``datasets.0``; empty for the process's own.
        title: For people.
        path: Its section from the top.
        fields: In the schema's order.
    """

    name: str
    title: str
    path: Path
    fields: tuple[Field, ...]


def groups(text: str, *, is_json: bool = False, problems: Iterable[Problem] = ()) -> tuple[Group, ...]:
    """The form of a text.

    Args:
        text: The config.
        is_json: Whether it is JSON.
        problems: What ``check`` found, shown at the fields.

    Raises:
        EditError: The text cannot be parsed, so that there is no form; the sentence says where.
    """
    try:
        tree = Tree.parse(text, is_json)
    except TreeError as error:
        raise EditError(f"the file {error}; mend that first") from None
    said: dict[str, str] = {}
    for problem in problems:
        said.setdefault(problem.key, problem.message)
    process = tree.value(INSIDE)
    data = process if isinstance(process, dict) else {}
    found: list[Group] = []
    for name in _ORDER:
        if name == "":
            own = [_name_field(tree, said), *_fields(tree, data, INSIDE, ProcessConfig, "", said, False)]
            found.append(Group("", _TITLES[""], INSIDE, tuple(own)))
            continue
        inner, is_list = section_of(ProcessConfig.model_fields[name].annotation)
        assert inner is not None
        value = data.get(name)
        if is_list:
            items = value if isinstance(value, list) and value else [{}]
            for index, item in enumerate(items):
                title = _TITLES[name] + (f" {index + 1}" if len(items) > 1 else "")
                path = (*INSIDE, name, index)
                fields = _fields(tree, item, path, inner, f"{name}.{index}", said, True)
                found.append(Group(f"{name}.{index}", title, path, tuple(fields)))
        elif name != "first_sample" or value is not None:
            path = (*INSIDE, name)
            fields = _fields(tree, value, path, inner, name, said, True)
            found.append(Group(name, _TITLES[name], path, tuple(fields)))
    return tuple(found)


def _name_field(tree: Tree, said: dict[str, str]) -> Field:
    path = ("config", "name")
    value = tree.value(path)
    help_ = all_fields()["name"]
    return Field(
        path=path, key="config.name", label="name", kind="text", help=help_, value=value,
        is_set=value is not None, changed=value is not None, shared=tree.is_shared(path), required=True,
        nullable=False, choices=(), minimum=None, maximum=None, problem=said.get("config.name"),
        path_kind=None,
    )  # fmt: skip


def _fields(
    tree: Tree,
    data: Any,
    path: Path,
    model: type[BaseModel],
    shown: str,
    said: dict[str, str],
    deep: bool,
) -> Iterator[Field]:
    data = data if isinstance(data, dict) else {}
    spelled: dict[str, str] = {}
    names = names_of(model)
    for key in data:
        if key in names:
            spelled[names[key]] = key
    for name, info in model.model_fields.items():
        key = spelled.get(name, _usual(model, name))
        where = (*path, key)
        below = f"{shown}.{key}" if shown else key
        inner, is_list = section_of(info.annotation)
        if inner is not None and not is_list:
            if deep:
                yield from _fields(tree, data.get(key), where, inner, below, said, True)
            continue
        if inner is not None and not deep:
            continue
        schema_key = _schema_key(shown, name)
        help_ = all_fields()[schema_key]
        kinds, nullable = kinds_of(info.annotation)
        bounds = bounds_of(info)
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        path_kind = extra.get("path")
        value = data.get(key, help_.default)
        low = bounds.get("minimum", bounds.get("exclusiveMinimum"))
        high = bounds.get("maximum", bounds.get("exclusiveMaximum"))
        choices = tuple(choice for kind in kinds for choice in kind.choices)
        if any(kind.base == "boolean" for kind in kinds) and choices:
            choices = ("true", "false", *choices)
        yield Field(
            path=where,
            key=below,
            label=".".join(map(str, where[4:])) if len(where) > 5 and path[3] != "datasets" else key,
            kind=_kind(kinds, bool(path_kind), bool(choices)),
            help=help_,
            value=value,
            is_set=key in data,
            changed=key in data and not _means_same(model, name, value, help_.default),
            shared=tree.is_shared(where),
            required=help_.required,
            nullable=nullable,
            choices=choices,
            minimum=low,
            maximum=high,
            problem=said.get(below) or said.get(f"{shown}.{name}" if shown else name),
            path_kind=str(path_kind) if path_kind else None,
        )


def _usual(model: type[BaseModel], name: str) -> str:
    """The spelling in which a new key is written: ai-toolkit's, where it has another one."""
    return (
        {"rank": "linear", "alpha": "linear_alpha"}.get(name, name)
        if model.__name__ == "NetworkConfig"
        else name
    )


def _schema_key(shown: str, name: str) -> str:
    parts = [part for part in shown.split(".") if part]
    key = ""
    for part in parts:
        key = f"{key}[]" if part.isdecimal() else f"{key}.{part}" if key else part
    return f"{key}.{name}" if key else name


def _kind(kinds: Sequence[Any], is_path: bool, has_choices: bool) -> FieldKind:
    bases = [kind.base for kind in kinds]
    if is_path:
        return "path"
    if has_choices:
        return "enum"
    if bases == ["boolean"]:
        return "bool"
    if bases == ["integer"]:
        return "integer"
    if bases == ["number"]:
        return "number"
    if bases and bases[0] == "array":
        item = kinds[0].item.base if kinds[0].item else "any"
        return "texts" if item == "string" else "numbers" if item in ("integer", "number") else "mapping"
    if "string" in bases:
        return "text"
    return "mapping"


def _means_same(model: type[BaseModel], name: str, value: Any, default: Any) -> bool:
    """Whether a value means the default, in whatever spelling (``bf16``, ``1e-4``, ``512`` for ``[512]``)."""
    if _edits.same(value, default):
        return True
    return bool(checked(model, name, value) == default)


# -- finding -------------------------------------------------------------------------------------


def filter_fields(found: Iterable[Group], query: str) -> tuple[Field, ...]:
    """The fields that a typed text means, the nearest first: by key, by letters in order, by help."""
    wanted = query.strip().lower()
    fields = [field for group in found for field in group.fields]
    if not wanted:
        return tuple(fields)
    ranked: list[tuple[float, int, Field]] = []
    for index, field in enumerate(fields):
        if (score := _score(wanted, field)) is not None:
            ranked.append((score, index, field))
    return tuple(field for _, _, field in sorted(ranked, key=lambda entry: entry[:2]))


def _score(wanted: str, field: Field) -> float | None:
    key, names = field.key.lower(), [field.label.lower(), *(a.lower() for a in field.help.aliases)]
    names.append(field.help.key.rpartition(".")[2])
    if wanted in names:
        return 0
    if any(name.startswith(wanted) for name in names):
        return 1
    if wanted in key:
        return 2
    if all(word in key or word in field.help.description.lower() for word in wanted.split()):
        return 3
    at = -1
    for letter in wanted:
        at = key.find(letter, at + 1)
        if at < 0:
            near = difflib.SequenceMatcher(None, wanted, names[0]).ratio()
            return 6 - near if near > 0.75 else None
    return 4 + len(key) / 100


# -- changing ----------------------------------------------------------------------------------


def edit(text: str, field: Field, value: Any, *, is_json: bool = False, everywhere: bool = False) -> Edited:
    """Set a field; see :func:`config.editing.set_value`, also for what it raises."""
    return _set_value(text, field.path, value, is_json=is_json, everywhere=everywhere)


def reset_field(text: str, field: Field, *, is_json: bool = False) -> Edited:
    """Take a field's key out of the file, so that the default counts again.

    Raises:
        EditError: The field must be given, or it cannot be taken out; the sentence says why.
    """
    if field.required:
        raise EditError(f"{field.key} has no default: it must be given")
    return _edits.remove(text, field.path, is_json=is_json)


def add_dataset(text: str, folder: str, *, is_json: bool = False) -> Edited:
    """Another dataset, with the folder of its pictures.

    Raises:
        EditError: The text cannot be parsed, or has something else than a list there.
    """
    return _edits.add_item(text, (*INSIDE, "datasets"), {"folder_path": folder}, is_json=is_json)


__all__ = [
    "Field",
    "FieldKind",
    "Group",
    "add_dataset",
    "edit",
    "filter_fields",
    "groups",
    "parse_value",
    "reset_field",
    "step",
]
