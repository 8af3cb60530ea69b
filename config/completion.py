"""Completion and help at a place in a text that need not be valid yet: keys, and values of known sets.

What cannot be told of the place (:mod:`config.unfinished`) gets no candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from config.editing.tree import INSIDE, Path, offset_of
from config.help import FieldHelp, all_fields, kinds_of
from config.schema import ProcessConfig
from config.unfinished import Place, path_under, place_at
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

# Keys around the process, which no schema section holds.
_AROUND: Mapping[Path, Mapping[str, str]] = {
    (): {
        "job": "Kind of job; extension means training.",
        "config": "Name and training process.",
        "meta": "Written into the LoRA file's metadata.",
    },
    ("config",): {
        "name": "Name of the run and prefix of its files.",
        "process": "List of one training process.",
    },
}


@dataclass(frozen=True)
class Candidate:
    """One thing that may be put in.

    Attributes:
        text: What is listed.
        insert: What takes the place of what was typed.
        help: A sentence.
        detail: Type, unit and default in few words.
    """

    text: str
    insert: str
    help: str
    detail: str


@dataclass(frozen=True)
class Completions:
    """What fits at a place.

    Attributes:
        start, end: Offsets of what was typed so far.
        candidates: The likeliest first.
        kind: Whether keys or values are listed; empty if nothing is.
    """

    start: int
    end: int
    candidates: tuple[Candidate, ...] = ()
    kind: Literal["key", "value", ""] = ""


def complete(text: str, line: int, column: int) -> Completions:
    """What may stand at a place (0-based): keys of the section that are not there yet, or known values."""
    context = place_at(text, line, column, _is_list_of_values)
    at = offset_of(text, line, column)
    if context is None:
        return Completions(at, at)
    start = at - len(context.typed)
    if context.key is not None:
        values = tuple(_values(context))
        return Completions(start, at, _ranked(values, context.typed), "value" if values else "")
    row_rest = text[at : _row_end(text, at)]
    has_colon = bool(re.match(r"[\w]*\s*:", row_rest))
    keys = tuple(_keys(context, has_colon))
    return Completions(start, at, _ranked(keys, context.typed), "key" if keys else "")


def _row_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def help_at(text: str, line: int, column: int) -> FieldHelp | None:
    """What the key in a line means; None for keys that nobody reads."""
    path = path_under(text, line, column)
    while path:
        found = _help_of(path)
        if found is not None:
            return found
        if isinstance(path[-1], int):
            path = path[:-1]
        else:
            return None
    return None


# -- what fits -----------------------------------------------------------------------------------


def _model_at(section: Path) -> type[BaseModel] | None:
    if section[:3] != INSIDE:
        return None
    model: type[BaseModel] = ProcessConfig
    is_list = False
    for step in section[3:]:
        if isinstance(step, int):
            if not is_list:
                return None
            is_list = False
            continue
        name = names_of(model).get(step)
        if name is None:
            return None
        inner, is_list = section_of(model.model_fields[name].annotation)
        if inner is None:
            return None
        model = inner
    return model


def _help_of(path: Path) -> FieldHelp | None:
    if path == ("config", "name"):
        return all_fields()["name"]
    if path == ("meta",):
        return all_fields()["meta"]
    if path[:3] != INSIDE or len(path) < 4:
        return None
    model = _model_at(path[:-1])
    if model is None or not isinstance(path[-1], str):
        return None
    name = names_of(model).get(path[-1])
    return None if name is None else all_fields()[_schema_key(path[3:-1], name)]


def _schema_key(section: Path, name: str) -> str:
    key, model = "", ProcessConfig
    for step in section:
        if isinstance(step, int):
            key += "[]"
            continue
        real = names_of(model)[step]
        inner, _ = section_of(model.model_fields[real].annotation)
        key = f"{key}.{real}" if key else real
        if inner is not None:
            model = inner  # type: ignore[assignment]
    return f"{key}.{name}" if key else name


def _detail(help_: FieldHelp) -> str:
    parts = [help_.type if len(help_.type) <= 40 else "one of a set"]
    if help_.unit:
        parts.append(help_.unit)
    if help_.required:
        parts.append("required")
    elif help_.default_text:
        parts.append(f"default {help_.default_text}")
    return " · ".join(parts)


def _keys(context: Place, has_colon: bool) -> Iterator[Candidate]:
    section = context.section
    if section in _AROUND:
        for name, sentence in _AROUND[section].items():
            if name not in context.siblings or name == context.typed:
                yield Candidate(name, name if has_colon else f"{name}: ", sentence, "")
        return
    model = _model_at(section)
    if model is None or (section and not isinstance(section[-1], int) and _is_list(section)):
        return
    names = names_of(model)
    taken = {names[name] for name in context.siblings if name in names and name != context.typed}
    for name, info in model.model_fields.items():
        if name in taken:
            continue
        help_ = all_fields()[_schema_key(section[3:], name)]
        key = (
            {"rank": "linear", "alpha": "linear_alpha"}.get(name, name)
            if section[-1:] == ("network",)
            else name
        )
        inner, _ = section_of(info.annotation)
        ending = ":" if inner is not None and not context.flow else ": "
        yield Candidate(key, key if has_colon else key + ending, help_.description, _detail(help_))


def _is_list(section: Path) -> bool:
    above = _model_at(section[:-1])
    name = names_of(above).get(str(section[-1])) if above is not None else None
    return above is not None and name is not None and section_of(above.model_fields[name].annotation)[1]


def _is_list_of_values(section: Path) -> bool:
    """Whether a path is a list of values, such as ``modal.gpu``, rather than of sections."""
    help_ = _help_of(section)
    return help_ is not None and help_.type.startswith("list of") and not help_.fields


def _values(context: Place) -> Iterator[Candidate]:
    path = (*context.section, context.key or "")
    help_ = _help_of(path)
    if path == ("job",):
        yield Candidate("extension", "extension", "Training.", "")
    if help_ is None:
        return
    model = _model_at(context.section)
    name = help_.key.rpartition(".")[2]
    if model is None or name not in model.model_fields:
        return
    kinds, nullable = kinds_of(model.model_fields[name].annotation)
    default = help_.default_text
    seen: list[str] = []
    for kind in kinds:
        seen += kind.choices or (("true", "false") if kind.base == "boolean" else ())
    if name in ("gpu", "sampler_gpu"):
        from config.gpus import GPUS

        for gpu in GPUS.values():
            yield Candidate(gpu.name, gpu.name, help_.description, f"{gpu.memory} GiB")
        return
    if nullable and seen:
        seen.append("null")
    if not seen and default:
        seen.append(default)
    for value in seen:
        yield Candidate(value, value, help_.description, "default" if value == default else "")


def _ranked(found: tuple[Candidate, ...], typed: str) -> tuple[Candidate, ...]:
    """What begins with the typed letters, then what contains them, then what has them in order."""
    wanted = typed.lower()
    if not wanted:
        return found

    def rank(candidate: Candidate) -> int | None:
        text = candidate.text.lower()
        if text.startswith(wanted):
            return 0
        if wanted in text:
            return 1
        at = -1
        for letter in wanted:
            at = text.find(letter, at + 1)
            if at < 0:
                return None
        return 2

    ranked = [(r, index, c) for index, c in enumerate(found) if (r := rank(c)) is not None]
    return tuple(c for _, _, c in sorted(ranked, key=lambda entry: entry[:2]))
