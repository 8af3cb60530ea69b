"""The JSON Schema of a config file, for editors (yaml-language-server) and other tools."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from config import compat
from config.help import Kind, bounds_of, default_of, kinds_of, unit_of
from config.schema import ProcessConfig, RunConfig, base, model, network
from config.walk import SECTIONS, names_of, section_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"}
# Other names of values, which the schema turns into its own before it looks at them.
_OTHER_NAMES = (*base.DTYPES, *model._QTYPES, *network._TYPES)


def file_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file: ``{job, config: {name, process: [...]}, meta}``.

    All spellings of keys are accepted, and the keys of ai-toolkit that have no effect here.
    """
    name = RunConfig.model_fields["name"].description or ""
    meta = RunConfig.model_fields["meta"].description or ""
    definitions = {model_.__name__: _section(path, model_) for path, model_ in SECTIONS.items()}
    definitions["Variable"] = {
        **_VARIABLE,
        "description": "${NAME} is filled in from the environment or .env.",
    }
    return {
        "$schema": _DIALECT,
        "title": "fluxlora-tui config",
        "description": "Training of a LoRA of FLUX.1, in ai-toolkit's format.",
        "type": "object",
        "properties": {
            "job": {"const": "extension", "description": "Kind of job; only training runs here."},
            "config": {
                "type": "object",
                "description": "The run.",
                "properties": {
                    "name": {"type": ["string", "number"], "minLength": 1, "description": name},
                    "process": {
                        "type": "array",
                        "minItems": 1,
                        "description": "The training process; only the first one runs.",
                        "items": {"$ref": f"#/$defs/{ProcessConfig.__name__}"},
                    },
                },
                "required": ["name", "process"],
                "additionalProperties": False,
            },
            "meta": {"type": ["object", "null"], "description": meta},
        },
        "required": ["config"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _section(path: str, model_: type[BaseModel]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    either: list[dict[str, Any]] = []
    for name, field in model_.model_fields.items():
        spellings = [spelling for spelling, real in names_of(model_).items() if real == name]
        schema = _property(model_, name, field)
        for spelling in spellings:
            also = "" if spelling == name else f" Another spelling of {name}."
            properties[spelling] = {**schema, "description": schema["description"] + also}
        if field.is_required() and len(spellings) == 1:
            required.append(name)
        elif field.is_required():
            either.append({"anyOf": [{"required": [spelling]} for spelling in spellings]})
    ignored = compat.SECTIONS.get(path, {}) if path else compat.PROCESS
    for key, sentence in ignored.items():
        properties.setdefault(key, {"description": f"Of ai-toolkit; {sentence or 'has no effect here'}."})
    result: dict[str, Any] = {
        "type": "object",
        "description": (model_.__doc__ or "").strip().partition("\n")[0],
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        result["required"] = required
    if either:
        result["allOf"] = either
    return result


def _property(model_: type[BaseModel], name: str, field: FieldInfo) -> dict[str, Any]:
    unit = unit_of(field)
    result: dict[str, Any] = {"description": (field.description or "") + (f" Unit: {unit}." if unit else "")}
    default = default_of(field)
    if default is not None and not field.is_required():
        result["default"] = default
    inner, is_list = section_of(field.annotation)
    if inner is not None:
        reference: dict[str, Any] = {"$ref": f"#/$defs/{inner.__name__}"}
        whole = {"type": "array", "items": reference, **_lengths(field)} if is_list else reference
        return {**result, "anyOf": [whole, {"type": "null"}]}
    kinds, nullable = kinds_of(field.annotation)
    choices = [_kind(kind, field) for kind in kinds]
    if any(kind.base in ("integer", "number", "boolean") for kind in kinds):
        choices.append({"$ref": "#/$defs/Variable"})
    for value, schema in ((None, {"type": "null"}), (False, {"const": False})):
        if (nullable and value is None) or (_accepts(model_, name, value) and not _covered(choices, value)):
            choices.append(schema)
    for kind in kinds:
        if (
            kind.base == "array"
            and kind.item
            and _accepts(model_, name, 512 if kind.item.base == "integer" else "x")
        ):
            choices.append(_kind(kind.item, None))
    return {**result, **choices[0]} if len(choices) == 1 else {**result, "anyOf": choices}


def _covered(choices: list[dict[str, Any]], value: Any) -> bool:
    return any(c.get("type") == ("null" if value is None else "boolean") or c == {} for c in choices)


def _lengths(field: FieldInfo) -> dict[str, Any]:
    minimum = bounds_of(field).get("minLength")
    return {"minItems": minimum} if minimum else {}


def _kind(kind: Kind, field: FieldInfo | None) -> dict[str, Any]:
    if kind.base == "any":
        return {}
    if kind.base == "array":
        assert kind.item is not None
        return {"type": "array", "items": _kind(kind.item, None), **(_lengths(field) if field else {})}
    if kind.choices:
        # Names in any case are accepted; the enum is what an editor offers.
        other = [name for name in _OTHER_NAMES if field is not None and _adapts(field, name)]
        names = list(dict.fromkeys((*kind.choices, *other)))
        any_case = "|".join(_any_case(name) for name in names)
        return {"anyOf": [{"enum": names}, {"type": "string", "pattern": f"^({any_case})$"}]}
    bounds = bounds_of(field) if field is not None else {}
    return {"type": kind.base, **{key: value for key, value in bounds.items() if _fits(key, kind.base)}}


def _fits(bound: str, kind: str) -> bool:
    return kind == "string" if bound == "minLength" else kind in ("integer", "number")


def _any_case(name: str) -> str:
    return "".join(f"[{c.upper()}{c}]" if c.isalpha() else re.escape(c) for c in name)


def _adapts(field: FieldInfo, value: str) -> bool:
    adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _accepts(model_: type[BaseModel], name: str, value: Any) -> bool:
    """Whether the section takes ``value`` for the field, whatever its validators do with it."""
    try:
        model_.model_validate({name: value})
    except ValidationError as error:
        spellings = names_of(model_)
        return all(spellings.get(str(detail["loc"][0])) != name for detail in error.errors())
    return True
