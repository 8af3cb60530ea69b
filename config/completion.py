"""Completion and help at a place in a text that need not be valid yet: keys, and values of known sets.

Where a line stands is told by indentation and open brackets, line by line, so that it works while a line is
half typed. A config's shape is regular enough for that; what cannot be told gets no candidates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from config.editing.tree import INSIDE, Path, offset_of
from config.help import FieldHelp, all_fields, kinds_of
from config.schema import ProcessConfig
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

_KEY = re.compile(r"""(?P<quote>["']?)(?P<name>[^\s"'#{}\[\],:][^"'#{}\[\],:]*?)(?P=quote)\s*:(?=\s|$)""")
_ROW = re.compile(r"(?P<indent> *)(?P<dashes>(?:-[ ]+|-$)*)(?P<rest>.*)$")
_WORD = re.compile(r"[\w./+~-]*$")
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


@dataclass(frozen=True)
class _Context:
    """Where a place is: the section around it, or the key whose value is being typed."""

    section: Path
    key: str | None
    typed: str
    quoted: bool
    siblings: frozenset[str]
    flow: bool


def complete(text: str, line: int, column: int) -> Completions:
    """What may stand at a place (0-based): keys of the section that are not there yet, or known values."""
    context = _context(text, line, column)
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


def path_under(text: str, line: int, column: int) -> Path:
    """The path of the key or item in a line, told by indentation; empty where there is none."""
    rows = text.split("\n")
    if line >= len(rows):
        return ()
    row = rows[line].rstrip("\r").removeprefix("\ufeff" if line == 0 else "")
    found = _ROW.match(row)
    assert found is not None
    rest = found["rest"]
    if not rest.strip() or rest.startswith("#"):
        return ()
    begin = len(found["indent"]) + len(found["dashes"])
    path = _parents(rows, line, begin)
    key = _KEY.match(rest)
    if key is None:
        return path
    path = (*path, key["name"].strip())
    value_at = begin + key.end()
    if column > value_at:
        path = (*path, *_flow_path(row[value_at:column]))
        inner = re.match(r"[\w]*", row[column:])
        if path and isinstance(path[-1], str) and inner is None:
            return path
    return path


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


# -- where a place is ----------------------------------------------------------------------------


def _row_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _without_comment(row: str) -> str:
    """A line up to its comment; a ``#`` inside quotes is none."""
    quote = ""
    for index, letter in enumerate(row):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (index == 0 or row[index - 1] in " [{,:"):
            quote = letter
        elif letter == "#" and (index == 0 or row[index - 1] in " \t"):
            return row[:index]
    return row


def _parents(rows: list[str], line: int, column: int) -> Path:
    """The section in which something at ``column`` of a line stands, found by walking up."""
    steps: list[str | int] = []
    limit, list_at = column, -1  # something to the left of limit is looked for; a list's dashes at list_at
    own = _ROW.match(rows[line].rstrip("\r"))
    if own is not None and own["dashes"] and column > len(own["indent"]):
        list_at = len(own["indent"])
        steps.append(_items_above(rows, line, list_at))
        limit = list_at + 1  # a list may stand at its key's own column
    passed = _passed(limit, list_at)
    for index in range(line - 1, -1, -1):
        if limit <= 0:
            break
        row = rows[index]
        if row.startswith(passed):
            continue  # deeper, or another of the list's items: told without a pattern, as there may be 5,000
        row = row.rstrip("\r").removeprefix("\ufeff" if index == 0 else "")
        content = row.lstrip(" ")
        indent = len(row) - len(content)
        if not content.strip() or content.lstrip().startswith("#"):
            continue
        found = _ROW.match(row)
        assert found is not None
        dashes = len(found["dashes"])
        begin = indent + dashes
        if dashes and indent == list_at:
            continue
        key = _KEY.match(found["rest"])
        if key is not None and begin < limit:
            steps.insert(0, key["name"].strip())
            limit, list_at = begin, -1
            passed = _passed(limit, list_at)
        if dashes and indent < limit <= begin:
            steps.insert(0, _items_above(rows, index, indent))
            limit, list_at = indent + 1, indent
            passed = _passed(limit, list_at)
    return tuple(steps)


def _passed(limit: int, list_at: int) -> tuple[str, ...]:
    """What lines begin with that hold nothing to the left of ``limit`` but dashes at ``list_at``."""
    deeper = " " * limit
    return (deeper,) if list_at < 0 else (deeper, " " * list_at + "- ")


def _items_above(rows: list[str], line: int, indent: int) -> int:
    """How many items of the same list stand above a line with a dash."""
    count = 0
    item, deeper = " " * indent + "- ", " " * (indent + 1)
    for index in range(line - 1, -1, -1):
        row = rows[index]
        if row.startswith(item):
            count += 1
            continue
        if row.startswith(deeper):
            continue
        row = row.rstrip("\r")
        if not row.strip() or row.lstrip().startswith("#"):
            continue
        own = len(row) - len(row.lstrip(" "))
        if own == indent and row.lstrip().startswith("- "):
            count += 1
        elif own <= indent:
            break
    return count


def _flow_path(before: str) -> Path:
    """The keys of brackets that are open at the end of a piece of a line."""
    stack: list[list[str | int | None]] = []
    quote, word = "", ""
    for letter in before:
        if quote:
            quote = "" if letter == quote else quote
            word += letter if quote else ""
        elif letter in "\"'" and not word.strip():
            quote, word = letter, ""
        elif letter in "{[":
            stack.append([letter, None if letter == "{" else 0])
            word = ""
        elif letter in "}]":
            if stack:
                stack.pop()
            word = ""
        elif letter == "," and stack:
            top = stack[-1]
            top[1] = top[1] + 1 if isinstance(top[1], int) else None
            word = ""
        elif letter == ":" and stack and stack[-1][0] == "{":
            stack[-1][1] = word.strip()
            word = ""
        else:
            word += letter
    return tuple(step[1] for step in stack if step[1] is not None)


def _context(text: str, line: int, column: int) -> _Context | None:
    rows = text.split("\n")
    if line >= len(rows):
        return None
    row = rows[line].rstrip("\r")
    before = row[:column]
    if _without_comment(before) != before:
        return None
    found = _ROW.match(before)
    assert found is not None
    rest = found["rest"]
    begin = len(found["indent"]) + len(found["dashes"])
    section = _parents(rows, line, begin if before.strip() else max(column, 1 if column else 0))
    key = _KEY.match(rest)
    if key is None and (brackets := _flow_path(rest)) == () and not re.search(r"[{\[]", rest):
        typed = _typed(rest)
        if rest.strip() and typed != rest.strip().lstrip("\"'"):
            return None
        if found["dashes"] and section and _is_list_of_values(section[:-1]):
            return _Context(
                section[:-2], str(section[-2]), typed, rest[:1] in "\"'" and bool(rest), frozenset(), False
            )
        return _Context(section, None, typed, False, _siblings(rows, line, begin), False)
    if key is None:
        return None
    value = rest[key.end() :]
    path = (*section, key["name"].strip())
    brackets = _flow_path(value)
    typed = _typed(value)
    quoted = bool(re.search(r"[\"'][\w./+~-]*$", value))
    open_map = value.count("{") > value.count("}")
    if open_map:
        last = re.split(r"[{,]", value)[-1]
        if ":" not in last:
            inside = (
                brackets[:-1]
                if brackets
                and re.search(r"[{,]\s*[\w]*$", value)
                and value.rstrip().endswith(tuple(map(str, brackets[-1:])))
                else brackets
            )
            names = re.findall(r"[{,]\s*[\"']?([\w]+)[\"']?\s*:", value)
            return _Context(
                (*path, *[b for b in inside if isinstance(b, str) and b not in names]),
                None,
                typed,
                quoted,
                frozenset(names),
                True,
            )
        return _Context(
            (*path, *brackets[:-1]), str(brackets[-1]) if brackets else None, typed, quoted, frozenset(), True
        )
    if not value.startswith((" ", "\t")) and value:
        return None
    inner = value.strip().lstrip("[").lstrip()
    if "[" not in value and typed != inner.lstrip("\"'"):
        return None
    return _Context(path[:-1], str(path[-1]), typed, quoted, frozenset(), "[" in value)


def _typed(piece: str) -> str:
    found = _WORD.search(piece)
    return found[0] if found else ""


def _siblings(rows: list[str], line: int, column: int) -> frozenset[str]:
    """Keys at the same column of the same section, above and below."""
    own = _ROW.match(rows[line].rstrip("\r"))
    if own is not None and own["dashes"]:
        # A new item: only what stands below belongs to it.
        return frozenset()
    names: set[str] = set()
    for step in (-1, 1):
        for index in range(line - 1, -1, -1) if step < 0 else range(line + 1, len(rows)):
            row = rows[index].rstrip("\r")
            content = row.lstrip(" ")
            indent = len(row) - len(content)
            if indent > column or not content.strip() or content.lstrip().startswith("#"):
                continue
            found = _ROW.match(row)
            assert found is not None
            begin = indent + len(found["dashes"])
            if begin < column or (step > 0 and indent < column):
                break
            if begin == column:
                if key := _KEY.match(found["rest"]):
                    names.add(key["name"].strip())
                if found["dashes"] and step < 0:
                    break  # the item begins here
    return frozenset(names)


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


def _keys(context: _Context, has_colon: bool) -> Iterator[Candidate]:
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


def _values(context: _Context) -> Iterator[Candidate]:
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
