"""Where a place stands in a YAML text that need not be valid yet.

Told by indentation and open brackets, line by line, so that it works while a line is half typed. A config's
shape is regular enough for that; of what cannot be told nothing is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from config.editing.tree import Path

_KEY = re.compile(r"""(?P<quote>["']?)(?P<name>[^\s"'#{}\[\],:][^"'#{}\[\],:]*?)(?P=quote)\s*:(?=\s|$)""")
_ROW = re.compile(r"(?P<indent> *)(?P<dashes>(?:-[ ]+|-$)*)(?P<rest>.*)$")
_WORD = re.compile(r"[\w./+~-]*$")


@dataclass(frozen=True)
class Place:
    """Where a place is: the section around it, or the key whose value is being typed."""

    section: Path
    key: str | None
    typed: str
    quoted: bool
    siblings: frozenset[str]
    flow: bool


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


def place_at(text: str, line: int, column: int, is_list_of_values: Callable[[Path], bool]) -> Place | None:
    """Where a place (0-based) is; None inside a comment and where it cannot be told.

    Args:
        text: Of the file.
        line: Of the place.
        column: Of the place.
        is_list_of_values: Whether a path is a list of values rather than of sections.
    """
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
        if found["dashes"] and section and is_list_of_values(section[:-1]):
            return Place(
                section[:-2], str(section[-2]), typed, rest[:1] in "\"'" and bool(rest), frozenset(), False
            )
        return Place(section, None, typed, False, _siblings(rows, line, begin), False)
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
            return Place(
                (*path, *[b for b in inside if isinstance(b, str) and b not in names]),
                None,
                typed,
                quoted,
                frozenset(names),
                True,
            )
        return Place(
            (*path, *brackets[:-1]), str(brackets[-1]) if brackets else None, typed, quoted, frozenset(), True
        )
    if not value.startswith((" ", "\t")) and value:
        return None
    inner = value.strip().lstrip("[").lstrip()
    if "[" not in value and typed != inner.lstrip("\"'"):
        return None
    return Place(path[:-1], str(path[-1]), typed, quoted, frozenset(), "[" in value)


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
