"""What each key means, from the schema alone: for ``explain``, the reference, the JSON Schema, the editor."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel

from config import compat
from config.schema import ProcessConfig, RunConfig
from config.walk import SECTIONS, names_of, section_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_WORDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "string": "text",
    "object": "mapping of keys",
    "any": "any value",
}
_PLURALS = {"integer": "whole numbers", "number": "numbers", "string": "texts"}
_FILE_KEYS = {
    "config.name": "name",
    "name": "name",
    "meta": "meta",
}


class UnknownKeyError(Exception):
    """There is no such key; the message says what was probably meant."""


@dataclass(frozen=True)
class Kind:
    """One of the types that a value may have.

    Attributes:
        base: A type of JSON: integer, number, boolean, string, object, array; or any, or section.
        choices: The only values, if there are just these.
        item: The type of an array's items.
    """

    base: str
    choices: tuple[str, ...] = ()
    item: Kind | None = None


@dataclass(frozen=True)
class FieldHelp:
    """All there is to say about a key.

    Attributes:
        key: Dotted path inside the process; ``datasets[].resolution`` for keys of a list's items.
        aliases: Other spellings of its last part.
        type: In plain words.
        unit: Such as pixels; None if it has none.
        range: Such as ``0 to 1``; None if nothing bounds it.
        default: The value without the key; None if it is empty or the key is required.
        required: Whether it must be given.
        choices: The only values, if there are just these.
        description: One sentence.
        fields: A section's keys.
    """

    key: str
    aliases: tuple[str, ...]
    type: str
    unit: str | None
    range: str | None
    default: Any
    required: bool
    choices: tuple[str, ...]
    description: str
    fields: tuple[str, ...] = ()

    @property
    def section(self) -> str:
        """The section that the key is in; empty for the process itself."""
        return self.key.rpartition(".")[0]

    @property
    def default_text(self) -> str:
        """The default as it would stand in a YAML file; empty if there is none."""
        if self.required or self.default is None or self.fields:
            return ""
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return (
            json.dumps(self.default, ensure_ascii=False)
            if not isinstance(self.default, str)
            else self.default
        )

    def record(self) -> dict[str, Any]:
        """The same as JSON-ready fields."""
        return asdict(self)


def kinds_of(annotation: Any) -> tuple[tuple[Kind, ...], bool]:
    """The types that an annotation allows, and whether it may be null."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds: list[Kind] = []
        nullable = False
        for inner in get_args(annotation):
            if inner is type(None):
                nullable = True
                continue
            more, also = kinds_of(inner)
            kinds += more
            nullable = nullable or also
        return tuple(kinds), nullable
    if origin is Literal:
        return (Kind("string", tuple(str(value) for value in get_args(annotation))),), False
    if origin is list:
        (item,), _ = kinds_of(get_args(annotation)[0])
        return (Kind("array", item=item),), False
    if origin is dict:
        return (Kind("object"),), False
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (Kind("section"),), False
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return (Kind(names.get(annotation, "any")),), False


def bounds_of(field: FieldInfo) -> dict[str, float]:
    """A field's bounds under JSON Schema's names: minimum, exclusiveMaximum, minItems ..."""
    bounds: dict[str, float] = {}
    for item in field.metadata:
        match item:
            case Ge():
                bounds["minimum"] = item.ge  # type: ignore[assignment]
            case Gt():
                bounds["exclusiveMinimum"] = item.gt  # type: ignore[assignment]
            case Le():
                bounds["maximum"] = item.le  # type: ignore[assignment]
            case Lt():
                bounds["exclusiveMaximum"] = item.lt  # type: ignore[assignment]
            case MinLen():
                bounds["minLength"] = item.min_length
    return bounds


def unit_of(field: FieldInfo) -> str | None:
    """A field's unit."""
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return str(unit) if unit else None


def default_of(field: FieldInfo) -> Any:
    """A field's default as plain data; None for a section and for a required field."""
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    return None if isinstance(value, BaseModel) else value


def _type_words(kinds: tuple[Kind, ...], field: FieldInfo) -> str:
    words: list[str] = []
    for kind in kinds:
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            words.append("list of sections" if is_list else "section")
        elif kind.base == "array" and kind.item is not None:
            words.append(f"list of {_PLURALS.get(kind.item.base, 'values')}")
        elif kind.choices:
            words.append("one of " + ", ".join(kind.choices) if len(kind.choices) > 1 else kind.choices[0])
        else:
            words.append(_WORDS[kind.base])
    return " or ".join(dict.fromkeys(words))


def _range_words(bounds: Mapping[str, float], kinds: tuple[Kind, ...]) -> str | None:
    if "minLength" in bounds:
        many = any(kind.base == "array" for kind in kinds)
        return f"at least {bounds['minLength']} {'entry' if many else 'character'}"
    low, above = bounds.get("minimum"), bounds.get("exclusiveMinimum")
    high, below = bounds.get("maximum"), bounds.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    parts = []
    if low is not None:
        parts.append(f"at least {low:g}")
    if above is not None:
        parts.append(f"more than {above:g}")
    if high is not None:
        parts.append(f"at most {high:g}")
    if below is not None:
        parts.append(f"less than {below:g}")
    if not parts and any(kind.base in ("integer", "number") for kind in kinds):
        return "any"
    return ", ".join(parts) or None


def _help(key: str, name: str, model: type[BaseModel]) -> FieldHelp:
    field = model.model_fields[name]
    kinds, _ = kinds_of(field.annotation)
    inner, is_list = section_of(field.annotation)
    below = f"{key}[]" if is_list else key
    return FieldHelp(
        key=key,
        aliases=tuple(
            spelling for spelling, real in names_of(model).items() if real == name and spelling != name
        ),
        type=_type_words(kinds, field),
        unit=unit_of(field),
        range=_range_words(bounds_of(field), kinds),
        default=default_of(field),
        required=field.is_required(),
        choices=tuple(choice for kind in kinds for choice in kind.choices),
        description=field.description or "",
        fields=tuple(f"{below}.{child}" for child in inner.model_fields) if inner is not None else (),
    )


def fields_of(section: str) -> Iterator[FieldHelp]:
    """The keys of a section, in the schema's order; ``""`` is the process itself.

    Raises:
        KeyError: There is no such section.
    """
    model = SECTIONS[section]
    for name in model.model_fields:
        yield _help(f"{section}.{name}" if section else name, name, model)


@cache
def all_fields() -> Mapping[str, FieldHelp]:
    """Every key of the process by its path, and ``name`` and ``meta`` of the file."""
    found = {name: _help(name, name, RunConfig) for name in ("name", "meta")}
    for section in SECTIONS:
        found.update({help_.key: help_ for help_ in fields_of(section)})
    return found


def explain(key: str) -> FieldHelp:
    """What a key means.

    Args:
        key: ``train.lr``, ``linear``, ``datasets[0].resolution``, ``config.name``, a section such as
            ``train``; any spelling that a config may use.

    Raises:
        UnknownKeyError: There is no such key, or several sections have it.
    """
    wanted = _plain(key)
    if wanted in _FILE_KEYS:
        return all_fields()[_FILE_KEYS[wanted]]
    if found := _by_path(wanted):
        return found
    last = wanted.rpartition(".")[2]
    same = [
        help_
        for help_ in all_fields().values()
        if last in (help_.key.rpartition(".")[2], *help_.aliases)
        and not help_.key.startswith("first_sample.")
    ]
    if "." not in wanted and len(same) == 1:
        return same[0]
    if "." not in wanted and len(same) > 1:
        keys = ", ".join(help_.key for help_ in same)
        raise UnknownKeyError(f"{key} is a key of several sections: {keys}")
    raise UnknownKeyError(_unknown(key, wanted, same))


def _plain(key: str) -> str:
    """A key without list positions and without the outer ``config.process[0]``."""
    bare = re.sub(r"\[\d*\]|\.\d+(?=\.|$)", "", key.strip().strip("."))
    return re.sub(r"^(config\.)?process(\.|$)", "", bare).lower()


def _by_path(wanted: str) -> FieldHelp | None:
    """The key at a path without list marks, in any spelling of each part."""
    if not wanted:
        fields = tuple(ProcessConfig.model_fields)
        return FieldHelp(
            "process", (), "section", None, None, None, True, (), "One training process.", fields
        )
    section, model = "", ProcessConfig
    parts = wanted.split(".")
    for index, part in enumerate(parts):
        name = names_of(model).get(part)
        if name is None:
            return None
        key = f"{section}.{name}" if section else name
        if index == len(parts) - 1:
            return all_fields()[key]
        inner, is_list = section_of(model.model_fields[name].annotation)
        if inner is None:
            return None
        section, model = f"{key}[]" if is_list else key, inner  # type: ignore[assignment]
    return None


def _unknown(key: str, wanted: str, same: list[FieldHelp]) -> str:
    section, _, last = wanted.rpartition(".")
    for path, names in compat.SECTIONS.items():
        if _plain(path) == section and last in names:
            return f"{key} {names[last] or 'is accepted and has no effect here'}"
    if not section and last in compat.PROCESS:
        return f"{key} {compat.PROCESS[last] or 'is accepted and has no effect here'}"
    for path, meant in compat.SYNONYMS.items():
        if last in meant and (not section or _plain(path) == section):
            return f"{key} is not a key; did you mean {meant[last]}?"
    if same:
        return f"{key} is not a key; did you mean {' or '.join(help_.key for help_ in same)}?"
    known = {_plain(path): path for path in all_fields()}
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.7)
    if not close:
        lasts = {path.rpartition(".")[2]: path for path in known}
        close = [lasts[name] for name in difflib.get_close_matches(last, lasts, n=1, cutoff=0.75)]
    if close:
        return f"{key} is not a key; did you mean {known[close[0]]}?"
    sections = ", ".join(name for name, help_ in all_fields().items() if help_.fields and "." not in name)
    return f"{key} is not a key; the sections are {sections}"
