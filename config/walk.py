"""Walking the schema: sections, their keys and the keys' other spellings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import AliasChoices, BaseModel

from config.schema import ProcessConfig


@cache
def names_of(model: type[BaseModel]) -> dict[str, str]:
    """Every spelling of every key of a section, mapped to the field's name."""
    names: dict[str, str] = {}
    for name, field in model.model_fields.items():
        names[name] = name
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            names.update({choice: name for choice in alias.choices if isinstance(choice, str)})
        elif isinstance(alias, str):
            names[alias] = name
    return names


def section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """The section that a field's type stands for, and whether it is a list of such sections."""
    return _section_of(annotation)


@cache
def _section_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    is_list = get_origin(annotation) is list
    for inner in get_args(annotation):
        found, inner_is_list = section_of(inner)
        if found is not None:
            return found, is_list or inner_is_list
    return None, False


def sections(model: type[BaseModel] = ProcessConfig, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """All sections with their dotted paths; ``datasets[]`` stands for the items of a list."""
    yield path, model
    for name, field in model.model_fields.items():
        inner, is_list = section_of(field.annotation)
        if inner is not None:
            below = f"{path}.{name}" if path else name
            yield from sections(inner, below + "[]" if is_list else below)


SECTIONS = dict(sections())


@cache
def alias_groups() -> dict[str, frozenset[str]]:
    """For each spelling of a key, the other spellings (``rank`` and ``linear``)."""
    groups: dict[str, frozenset[str]] = {}
    for model in SECTIONS.values():
        by_field: dict[str, set[str]] = {}
        for spelling, name in names_of(model).items():
            by_field.setdefault(name, set()).add(spelling)
        for spellings in by_field.values():
            for spelling in spellings:
                groups[spelling] = frozenset(spellings - {spelling})
    return groups
