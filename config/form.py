"""A config as a form: groups of fields with help, value and what the keys can do with them.

A field is a place in the text and nothing else: editing it is an edit of the text
(:mod:`config.editing`), so that the form and the text cannot differ.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from config.editing import INSIDE, Edited, EditError, Path, Tree, TreeError
from config.editing import edits as _edits
from config.editing import set_value as _set_value
from config.help import FieldHelp, all_fields, bounds_of, kinds_of
from config.problems import Problem
from config.schema import ProcessConfig
from config.schema.base import DTYPES
from config.source import parse_scalar
from config.walk import names_of, section_of

FieldKind = Literal["number", "integer", "enum", "bool", "path", "text", "texts", "numbers", "mapping"]

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
_POWERS = ("rank", "alpha", "lokr_factor")
_PIXELS = ("width", "height", "resolution")


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        path: Where its value stands, from the top of the file, in the spelling that the file uses.
        key: The same inside the process, such as ``train.lr`` or ``datasets.0.resolution``.
        label: Its last part.
        kind: How it is edited; ``texts`` is a list such as the prompts, ``mapping`` anything else.
        help: From the schema.
        value: The file's value as it stands there, or the default.
        is_set: Whether the file has the key.
        changed: Whether the value differs from the default.
        shared: Whether an anchor or alias is in the way, so that others change with it.
        required: Whether it must be given.
        nullable: Whether it may be empty.
        choices: The only values, if there are just these.
        minimum, maximum: Bounds, None without.
        problem: The first thing that ``check`` says about it.
        path_kind: What sort of path it is; None if it is none.
    """

    path: Path
    key: str
    label: str
    kind: FieldKind
    help: FieldHelp
    value: Any
    is_set: bool
    changed: bool
    shared: bool
    required: bool
    nullable: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    problem: str | None
    path_kind: str | None


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
    try:
        partial = model.__pydantic_validator__.validate_assignment(model.model_construct(), name, value)
    except Exception:  # a value that is wrong differs; a frozen model refuses assignment
        partial = None
    if partial is not None:
        return bool(getattr(partial, name, value) == default)
    try:
        from pydantic import TypeAdapter

        info = model.model_fields[name]
        checked = TypeAdapter(info.annotation).validate_python(value)
    except Exception:  # not valid: then it is not the default
        return False
    return bool(checked == default)


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


# -- changing ------------------------------------------------------------------------------------


def step(field: Field, direction: int, *, big: bool = False) -> Any:
    """The next value up (+1) or down (-1): numbers on the scale that suits them, enums and booleans cycle.

    Learning rates and the like go 1, 2, 5, 10; rank and alpha by powers of two; pixels by 64; shares by
    0.05; counts of steps by 50 below 1,000 and by 100 above, others by one. ``big`` is ten times as far.
    A value that has no scale stays.
    """
    value = field.value
    if field.kind == "bool":
        return not bool(value)
    if field.kind == "enum":
        current = str(_dtype_name(value)).lower() if value is not None else ""
        at = field.choices.index(current) if current in field.choices else -1 if direction > 0 else 0
        chosen = field.choices[(at + direction) % len(field.choices)]
        return {"true": True, "false": False}.get(chosen, chosen)
    if field.kind not in ("number", "integer") or isinstance(value, bool):
        return value
    if value is None:
        value = field.minimum or 0
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = field.help.default or 0
    moved = _moved(field, float(value), 1 if direction > 0 else -1, 10 if big else 1)
    return _bounded(field, moved)


def _moved(field: Field, value: float, sign: int, times: int) -> float:
    name = field.help.key.rpartition(".")[2]
    if name in _POWERS and value >= 1:
        power = math.log2(value)
        exact = math.floor(power) if sign < 0 else math.ceil(power)
        return float(2 ** max(0, exact + sign)) if exact == power else float(2**exact)
    if field.kind == "number" and (name == "lr" or 0 < abs(value) < 0.001):
        for _ in range(3 if times > 1 else 1):
            value = _one_two_five(value, sign)
        return value
    if field.help.unit == "pixels" or name in _PIXELS:
        size = 64 * (4 if times > 1 else 1)
        return (math.floor(value / size) + 1 if sign > 0 else math.ceil(value / size) - 1) * float(size)
    if field.help.unit == "steps":
        size = 10 if value < 100 else 50 if value < 1000 else 100
        if sign < 0 and value in (100, 1000):
            size = 10 if value == 100 else 50
        return value + sign * size * times
    if name == "ema_decay" and 0.5 <= value < 1:  # 0.9, 0.95, 0.98, 0.99, 0.995, ...
        return round(1 - _one_two_five(1 - value, -sign), 9)
    if field.kind == "number" and field.maximum is not None and field.maximum <= 1:
        size = 0.05 if value < 0.9 or times > 1 else 0.01
        return round(value + sign * size * (2 if times > 1 else 1), 6)
    if field.kind == "number":
        size = 0.1 if abs(value) < 1 or (sign < 0 and value == 1) else 0.5 if abs(value) < 10 else 1
        return round(value + sign * size * times, 6)
    return value + sign * times


def _one_two_five(value: float, sign: int) -> float:
    """The next of ..., 1e-4, 2e-4, 5e-4, 1e-3, ... above or below."""
    if value <= 0:
        return 1e-6
    power = math.floor(math.log10(value))
    ladder = [float(f"{digit}e{power + shift}") for shift in (-1, 0, 1) for digit in (1, 2, 5)]
    if sign > 0:
        return min(rung for rung in ladder if rung > value * (1 + 1e-9))
    return max(rung for rung in ladder if rung < value * (1 - 1e-9))


def _bounded(field: Field, value: float) -> Any:
    low, high = field.minimum, field.maximum
    range_ = field.help.range or ""
    if low is not None and value < low:
        value = low
    if low is not None and value == low and "more than" in range_:
        return field.value
    if high is not None and value > high:
        value = high
    if high is not None and value == high and "less than" in range_:
        return field.value
    return int(value) if field.kind == "integer" else float(value)


def parse_value(field: Field, typed: str) -> Any:
    """What a person typed into a field, as a value for the file.

    Raises:
        ValueError: It cannot be one; the sentence says why.
    """
    text = typed.strip()
    if not text:
        if field.nullable:
            return None
        if field.kind in ("text", "path") and not field.required:
            return ""
        raise ValueError(f"{field.label} needs a value")
    if field.kind in ("text", "path"):
        return text
    if field.kind == "bool":
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if text.lower() not in words:
            raise ValueError(f"{field.label} must be true or false")
        return words[text.lower()]
    if field.kind == "enum":
        if text.lower() in ("true", "false") and text.lower() in field.choices:
            return text.lower() == "true"
        value = text.lower()
        if value not in field.choices and not _valid_choice(field, text):
            near = difflib.get_close_matches(value, field.choices, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it is one of {', '.join(field.choices)}"
            raise ValueError(f"{text} is no {field.label}{hint}")
        return value
    if field.kind in ("number", "integer"):
        return _number(field, text)
    if field.kind == "texts":
        if text.startswith("["):
            listed = _yaml(field, text)
            return [str(item) for item in listed] if isinstance(listed, list) else [text]
        return [line.strip() for line in typed.splitlines() if line.strip()]
    if field.kind == "numbers":
        parsed = _yaml(
            field,
            text if text.startswith("[") else f"[{text.replace(' ', ',') if ',' not in text else text}]",
        )
        numbers = parsed if isinstance(parsed, list) else [parsed]
        if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            raise ValueError(f"{field.label} must be numbers, separated by commas")
        return numbers
    return _yaml(field, text)


def _valid_choice(field: Field, text: str) -> bool:
    """Whether a spelling that is not in the list is understood all the same, such as ``bf16``."""
    return _dtype_name(text) in field.choices


def _dtype_name(value: Any) -> Any:
    return DTYPES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _yaml(field: Field, text: str) -> Any:
    try:
        return parse_scalar(text)
    except ValueError as error:
        raise ValueError(f"{field.label}: {error}") from None


def _number(field: Field, text: str) -> int | float:
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise ValueError(f"{field.label} must be a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{field.label} must be a number")
    if field.kind == "integer" and value != int(value):
        raise ValueError(f"{field.label} must be a whole number")
    range_ = field.help.range or ""
    low, high = field.minimum, field.maximum
    if (low is not None and (value < low or (value == low and "more than" in range_))) or (
        high is not None and (value > high or (value == high and "less than" in range_))
    ):
        raise ValueError(f"{field.label} must be {range_}")
    return int(value) if field.kind == "integer" else value


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
