"""Form edits: one value set, taken away, added or moved, and every other byte left as it was.

Each edit is proved before it is handed out: the new text is parsed, and its content must be the old content
with exactly the wanted change. What cannot be done that way is refused with a sentence, never half done.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from config.editing import scalars
from config.editing.tree import Edit, Node, Path, Tree, TreeError, apply, location

_INDENT = 2
_COMMENT_LINE = re.compile(r"( *)#[^\n]*(?:\n|$)")


@dataclass(frozen=True)
class Edited:
    """A text after an edit.

    Attributes:
        text: The new text.
        edits: What was changed, in ascending order; offsets are of the old text.
    """

    text: str
    edits: tuple[Edit, ...]


class EditError(Exception):
    """The edit cannot be made; the message is one sentence, and the text is as it was."""


class SharedValueError(EditError):
    """The value has an anchor or stands behind an alias: changing it there changes other keys too.

    Attributes:
        paths: Those other keys.
    """

    def __init__(self, path: Path, paths: list[Path]) -> None:
        self.paths = paths
        others = ", ".join(shown(other) for other in paths[:3]) + (" ..." if len(paths) > 3 else "")
        super().__init__(f"{shown(path)} is shared by an anchor: changing it also changes {others}")


def shown(path: Path) -> str:
    """A path for people, without what every config has around the process."""
    inside = path[3:] if path[:3] == ("config", "process", 0) and len(path) > 3 else path
    return ".".join(map(str, inside))


def set_value(
    text: str, path: Path, value: Any, *, is_json: bool = False, everywhere: bool = False
) -> Edited:
    """Set the value at a path; missing keys and sections are made.

    The value keeps the quotes that it had, a list its brackets or dashes, and of lists and sections only
    what differs is written. A value that is an alias is replaced by the new value; what a merge key (``<<``)
    brings in is overridden in place.

    Args:
        text: The file.
        path: From the top.
        value: Plain data.
        is_json: Whether the file is JSON.
        everywhere: Change a value that has an anchor although others change with it.

    Raises:
        SharedValueError: Others would change with it.
        EditError: The text cannot be parsed, or the path cannot be reached.
    """
    value = _plain(value)
    tree = _tree(text, is_json)
    expected = _with(tree.data, path, value)
    new = _assign(text, path, value, is_json)
    return _checked(tree, new, expected, path, value, is_json, everywhere)


def remove(text: str, path: Path, *, is_json: bool = False) -> Edited:
    """Take a key with its value, or a list's item, out of the file: the default counts again.

    A path that is not there changes nothing.

    Raises:
        SharedValueError: Others would change with it.
        EditError: The text cannot be parsed, or others refer to what would go.
    """
    tree = _tree(text, is_json)
    node = tree.node(path)
    if not path or node is None:
        return Edited(text, ())
    new = apply(text, _removal(tree, path))
    return _checked(tree, new, _without(tree.data, path), path, None, is_json, everywhere=False)


reset = remove


def add_item(text: str, path: Path, value: Any, index: int | None = None, *, is_json: bool = False) -> Edited:
    """Put an item into the list at ``path``, before item ``index`` or at the end; a missing list is made.

    Raises:
        SharedValueError: Others would change with it.
        EditError: The text cannot be parsed, or there is something else than a list.
    """
    value = _plain(value)
    tree = _tree(text, is_json)
    items = tree.value(path)
    if items is None:
        return set_value(text, path, [value], is_json=is_json)
    if not isinstance(items, list):
        raise EditError(f"{shown(path)} is no list")
    index = len(items) if index is None else max(0, min(index, len(items)))
    new = apply(text, _item_insertion(tree, path, index, value, is_json))
    wanted = [*items[:index], value, *items[index:]]
    return _checked(tree, new, _with(tree.data, path, wanted), path, wanted, is_json, everywhere=False)


def move_item(text: str, path: Path, to: int, *, is_json: bool = False) -> Edited:
    """Move a list's item to position ``to``.

    Raises:
        SharedValueError: Others would change with it.
        EditError: The text cannot be parsed, or there is no such item or position.
    """
    tree = _tree(text, is_json)
    above, index = path[:-1], path[-1]
    items = tree.value(above)
    if not isinstance(items, list) or not isinstance(index, int) or not 0 <= index < len(items):
        raise EditError(f"{shown(path)} is no item of a list")
    to = max(0, min(to, len(items) - 1))
    if to == index:
        return Edited(text, ())
    wanted = list(items)
    wanted.insert(to, wanted.pop(index))
    new = apply(text, _item_move(tree, above, index, to))
    return _checked(tree, new, _with(tree.data, above, wanted), above, wanted, is_json, everywhere=False)


def rename_key(text: str, path: Path, new: str, *, is_json: bool = False) -> Edited:
    """Give a key another name; value and place stay.

    Raises:
        EditError: The text cannot be parsed, there is no such key, or the new name is taken.
    """
    tree = _tree(text, is_json)
    span = tree.key_span(path)
    if span is None or not path or not isinstance(path[-1], str):
        raise EditError(f"there is no key {shown(path)}")
    above = tree.value(path[:-1])
    if isinstance(above, dict) and new in above:
        raise EditError(f"{new} is there already")
    quotes = text[span.start] if text[span.start] in "'\"" else None
    key = scalars.write(new, style=quotes, is_json=is_json)
    wanted = {(new if k == path[-1] else k): v for k, v in above.items()}
    changed = apply(text, [Edit(span.start, span.end, key)])
    expected = _with(tree.data, path[:-1], wanted)
    return _checked(tree, changed, expected, path[:-1], wanted, is_json, everywhere=False)


# -- proof ---------------------------------------------------------------------------------------


def _tree(text: str, is_json: bool) -> Tree:
    try:
        return Tree.parse(text, is_json)
    except TreeError as error:
        raise EditError(f"the file {error}; mend that first") from None


def _checked(
    tree: Tree, new: str, expected: Any, path: Path, value: Any, is_json: bool, everywhere: bool
) -> Edited:
    """The edit, if the new text means what it should."""
    try:
        after = Tree.parse(new, is_json)
    except TreeError:
        raise EditError(
            f"{shown(path)} cannot be changed here without touching what stands around it"
        ) from None
    if not same(after.data, expected):
        others = [other for other in _differences(after.data, expected) if other[: len(path)] != path]
        reached = same(after.value(path), value)
        if not (reached and tree.is_shared(path)):
            raise EditError(f"{shown(path)} cannot be changed here without changing other keys")
        if not everywhere:
            raise SharedValueError(path, others)
    return Edited(new, splice(tree.text, new))


def splice(old: str, new: str) -> tuple[Edit, ...]:
    """The one edit that makes ``new`` of ``old``; none if they are equal."""
    if old == new:
        return ()
    limit = min(len(old), len(new))
    start = _common(old, new, limit)
    end = _common(old[::-1], new[::-1], limit - start)
    return (Edit(start, len(old) - end, new[start : len(new) - end]),)


def _common(a: str, b: str, limit: int) -> int:
    """How many characters at the start are the same, by halving."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal in type too, so that 1, 1.0 and true differ."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return bool(a == b)


def _differences(a: Any, b: Any, path: Path = ()) -> list[Path]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in _differences(a[key], b[key], (*path, key))]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [found for i in range(len(a)) for found in _differences(a[i], b[i], (*path, i))]
    return [] if same(a, b) else [path]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _with(data: Any, path: Path, value: Any) -> Any:
    """A copy of ``data`` with ``value`` at ``path``; sections are made, lists grow by one at most."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        if data is not None and not isinstance(data, dict):
            raise EditError(f"there is no place for {step}: what is around it is no section")
        return {**(data or {}), step: _with((data or {}).get(step), rest, value)}
    if data is not None and not isinstance(data, list):
        raise EditError("there is no list to put an item into")
    items = list(data or [])
    if not 0 <= step <= len(items):
        raise EditError(f"there is no item {step} in the list")
    items[step : step + 1] = [_with(items[step] if step < len(items) else None, rest, value)]
    return items


def _without(data: Any, path: Path) -> Any:
    step, rest = path[0], path[1:]
    if isinstance(data, dict):
        if rest:
            return {**data, step: _without(data[step], rest)}
        return {key: value for key, value in data.items() if key != step}
    if rest:
        return [_without(item, rest) if index == step else item for index, item in enumerate(data)]
    return [item for index, item in enumerate(data) if index != step]


# -- setting -------------------------------------------------------------------------------------


def _assign(text: str, path: Path, value: Any, is_json: bool) -> str:
    """The text with the value set, in as many small steps as it takes."""
    tree = _tree(text, is_json)
    node = tree.node(path)
    if node is None:
        return apply(text, _insertion(tree, path, value, is_json))
    if node.kind != "alias" and same(tree.value(path), value):
        return text
    if node.kind == "mapping" and isinstance(value, dict) and value and node.pairs:
        for key in [key for key in tree.value(path) if key not in value]:
            below = _tree(text, is_json)
            text = apply(text, _removal(below, (*path, key)))
        for key, item in value.items():
            text = _assign(text, (*path, key), item, is_json)
        return text
    if node.kind == "sequence" and isinstance(value, list) and value and node.items:
        return _assign_list(text, path, tree.value(path), value, is_json)
    if node.is_null and _has_lines(value):
        return apply(text, _fill(tree, path, node, value, is_json))
    return apply(text, _replacement(tree, path, node, value, is_json))


def _has_lines(value: Any) -> bool:
    """Whether a new value is written on lines of its own: sections, and lists of texts or sections."""
    return bool(value) and (
        isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, str | dict) for v in value))
    )


def _assign_list(text: str, path: Path, old: list[Any], new: list[Any], is_json: bool) -> str:
    """A list whose equal beginning and end stay; what is between is set, added or taken away."""
    head = 0
    while head < min(len(old), len(new)) and same(old[head], new[head]):
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and same(old[-1 - tail], new[-1 - tail]):
        tail += 1
    keep = min(len(old), len(new)) - head - tail
    for index in range(head, head + keep):
        text = _assign(text, (*path, index), new[index], is_json)
    for index in range(head + keep, len(new) - tail):
        tree = _tree(text, is_json)
        text = apply(text, _item_insertion(tree, path, index, new[index], is_json))
    for _ in range(len(old) - len(new)):
        tree = _tree(text, is_json)
        text = apply(text, _removal(tree, (*path, head + keep)))
    return text


def _replacement(tree: Tree, path: Path, node: Node, value: Any, is_json: bool) -> list[Edit]:
    text = tree.text
    flow = _in_flow(tree, path)
    if node.kind == "scalar" and node.style in ("|", ">"):
        return [Edit(node.inner, node.end, _in_block(tree, node, value, path))]
    style = node.style if node.kind == "scalar" else _items_style(node)
    try:
        written = scalars.write(value, style=style, flow=flow or node.flow, is_json=is_json)
    except ValueError as error:
        raise EditError(str(error)) from None
    start = node.inner
    if node.tag is not None and node.kind != "alias":
        start = node.start
        written = (f"&{node.anchor} " if node.anchor else "") + written
    if node.kind in ("mapping", "sequence") and not node.flow:
        return _block_to_line(tree, path, node, written)
    if start > 0 and text[start - 1] not in " \t\n[{(" and not (is_json and text[start - 1] == ","):
        written = " " + written
    return [Edit(start, node.end, written)]


def _block_to_line(tree: Tree, path: Path, node: Node, written: str) -> list[Edit]:
    """A section or list with lines of its own becomes one value beside its key."""
    text = tree.text
    begin = _first_dash(tree, node) if node.kind == "sequence" else node.pairs[0][0].start
    if path and isinstance(path[-1], str) and (key := tree.key_span(path)) is not None:
        between = text[key.end : begin]
        if not between.strip(" \t\r\n:"):
            return [Edit(key.end, node.end, f": {written}")]
        own, column = location(text, begin)[1], location(text, key.start)[1]
        if own <= column:
            written = " " * (column + _INDENT - own) + written
    return [Edit(begin, _line_content_end(text, node), written)]


def _line_content_end(text: str, node: Node) -> int:
    end = node.end
    while end > 0 and text[end - 1] in "\r\n":
        end -= 1
    return end


def _items_style(node: Node) -> str | None:
    first = node.items[0] if node.items else None
    return first.style if first is not None and first.style in ("'", '"') else None


def _in_block(tree: Tree, node: Node, value: Any, path: Path) -> str:
    """What replaces a block scalar: another one where that can hold the text."""
    text = tree.text
    eol = eol_of(text)
    head = text[node.inner : node.end].partition("\n")[0].rstrip("\r")
    comment = re.search(r"[ \t]+#.*$", head)
    kept = comment[0] if comment else ""
    after = eol if text[node.inner : node.end].endswith("\n") else ""
    lines = text[node.inner : node.end].split("\n")[1:]
    first = next((line for line in lines if line.strip()), "")
    indent = len(first) - len(first.lstrip(" ")) or _key_column(tree, path) + _INDENT
    if isinstance(value, str) and value.strip() and value[0] not in " \t\n" and not value.endswith("\n\n"):
        body = value[:-1] if value.endswith("\n") else value
        if "\r" not in value and not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]", value):
            chomp = "" if value.endswith("\n") else "-"
            rows = eol.join(" " * indent + row if row else "" for row in body.split("\n"))
            return f"|{chomp}{kept}{eol}{rows}{after}"
    return scalars.write(value) + kept + after


def _key_column(tree: Tree, path: Path) -> int:
    span = tree.key_span(path)
    return location(tree.text, span.start)[1] if span else 0


def _in_flow(tree: Tree, path: Path) -> bool:
    return any((node := tree.node(path[:depth])) is not None and node.real.flow for depth in range(len(path)))


# -- inserting -----------------------------------------------------------------------------------


def eol_of(text: str) -> str:
    """The line ending that a text uses."""
    newline = text.find("\n")
    return "\r\n" if newline > 0 and text[newline - 1] == "\r" else "\n"


def _column(text: str, offset: int) -> int:
    line, column = location(text, offset)
    return column - 1 if line == 0 and text.startswith("\ufeff") else column


def _insertion(tree: Tree, path: Path, value: Any, is_json: bool) -> list[Edit]:
    """A value whose key is not there: put after the last key of the deepest section that is."""
    depth = len(path) - 1
    while depth > 0 and tree.node(path[:depth]) is None:
        depth -= 1
    for step in reversed(path[depth + 1 :]):
        value = {step: value} if isinstance(step, str) else [value]
    above, step = path[:depth], path[depth]
    found = tree.node(above)
    assert found is not None
    node = found.real
    if isinstance(step, int):
        if node.kind == "sequence" and step == len(node.items):
            return _item_insertion(tree, above, step, value, is_json)
        if node.is_null and step == 0:
            return _fill(tree, above, node, [value], is_json)
        raise EditError(f"there is no item {step} in {shown(above)}")
    if node.is_null:
        return _fill(tree, above, node, {step: value}, is_json)
    if node.kind != "mapping":
        raise EditError(f"{shown(above)} is no section, so that it cannot hold {step}")
    if node.flow:
        quoted = is_json or (bool(node.pairs) and node.pairs[0][0].style == '"')
        key = scalars.double_quoted(step) if quoted else step
        pair = f"{key}: {_written(value, is_json)}"
        last = max(node.pairs[-1][1].end, node.pairs[-1][0].end) if node.pairs else None
        first = node.pairs[0][0].start if node.pairs else None
        return [_into_brackets(tree.text, node, first, last, pair)]
    indent = _column(tree.text, node.pairs[0][0].start)
    lines = scalars.block_lines(step, value, indent, eol_of(tree.text))
    return [_new_lines(tree.text, node.end, lines, indent)]


def _written(value: Any, is_json: bool) -> str:
    try:
        return scalars.write(value, flow=True, is_json=is_json)
    except ValueError as error:
        raise EditError(str(error)) from None


def _fill(tree: Tree, path: Path, node: Node, value: Any, is_json: bool) -> list[Edit]:
    """A section that is there and empty gets its first key or item."""
    text, eol = tree.text, eol_of(tree.text)
    key = tree.key_span(path) if path and isinstance(path[-1], str) else None
    if key is None or is_json or _in_flow(tree, path) or node.anchor or not isinstance(value, dict | list):
        return _replacement(tree, path, node, value, is_json)
    column = _column(text, key.start)
    if isinstance(value, dict):
        lines = eol.join(scalars.block_lines(k, v, column + _INDENT, eol) for k, v in value.items())
    else:
        lines = eol.join(scalars.block_lines(None, v, column + _INDENT, eol) for v in value)
    edits = [_new_lines(text, max(node.end, key.end), lines)]
    if node.end > node.start:
        gap = node.start - len(text[: node.start]) + len(text[: node.start].rstrip(" \t"))
        edits.insert(0, Edit(gap, node.end, ""))
    return edits


def _new_lines(text: str, content_end: int, lines: str, indent: int = 1 << 30) -> Edit:
    """Lines put after the one in which ``content_end`` stands, and after comments that are indented deeper."""
    eol = eol_of(text)
    at = _line_end(text, content_end)
    while (found := _COMMENT_LINE.match(text, at)) and len(found[1]) > indent:
        at = found.end()
    if at == len(text) and not text.endswith("\n"):
        return Edit(at, at, eol + lines)
    return Edit(at, at, lines + eol)


def _into_brackets(text: str, node: Node, first: int | None, last: int | None, new: str) -> Edit:
    """A pair or item at the end of ``{...}`` or ``[...]``, on a line of its own where the others are."""
    if first is None or last is None:
        return Edit(node.inner + 1, node.inner + 1, new)
    between = text[node.inner : first]
    separator = " "
    if "\n" in between:
        separator = eol_of(text) + between[between.rfind("\n") + 1 :]
    rest = text[last : node.end - 1]
    comma = len(rest) - len(rest.lstrip())
    if rest[comma : comma + 1] == ",":
        at = last + comma + 1
        return Edit(at, at, separator + new)
    return Edit(last, last, "," + separator + new)


def _item_insertion(tree: Tree, path: Path, index: int, value: Any, is_json: bool) -> list[Edit]:
    found = tree.node(path)
    if found is None:
        raise EditError(f"{shown(path)} is no list")
    node, text = found.real, tree.text
    if node.is_null:
        return _fill(tree, path, node, [value], is_json)
    if node.kind != "sequence":
        raise EditError(f"{shown(path)} is no list")
    if node.flow:
        style = _items_style(node)
        new = scalars.write(value, style=style, flow=True, is_json=is_json)
        if index < len(node.items):
            at = node.items[index].start
            return [Edit(at, at, new + ", ")]
        first = node.items[0].start if node.items else None
        last = node.items[-1].end if node.items else None
        return [_into_brackets(text, node, first, last, new)]
    dash = _first_dash(tree, node)
    column, eol = _column(text, dash), eol_of(text)
    style = _items_style(node)
    if isinstance(value, str) and style:
        lines = " " * column + "- " + scalars.write(value, style=style)
    else:
        lines = scalars.block_lines(None, value, column, eol)
    if index >= len(node.items):
        return [_new_lines(text, node.end, lines)]
    start = _line_start(text, _dash(tree, node, index))
    if text[start : _dash(tree, node, index)].strip("\ufeff ") or text.startswith("\ufeff", start):
        raise EditError(f"an item cannot be put before {shown((*path, index))} here")
    return [Edit(start, start, lines + eol)]


# -- taking away and moving ----------------------------------------------------------------------


def _line_start(text: str, offset: int) -> int:
    return text.rfind("\n", 0, offset) + 1


def _line_end(text: str, offset: int) -> int:
    """The offset after the line break of the line in which content ends at ``offset``."""
    if offset > 0 and text[offset - 1] == "\n":
        return offset
    newline = text.find("\n", offset)
    return len(text) if newline < 0 else newline + 1


def _first_dash(tree: Tree, node: Node) -> int:
    return _dash(tree, node, 0)


def _dash(tree: Tree, node: Node, index: int) -> int:
    """Where the dash of a block list's item stands: the first thing after the item before it."""
    text = tree.text
    at = node.inner if index == 0 else node.items[index - 1].end
    while at < len(text):
        if text[at] == "#":
            at = text.find("\n", at)
        elif text[at] == "-":
            return at
        at += 1
    raise EditError("the list's dashes cannot be found")


def _removal(tree: Tree, path: Path) -> list[Edit]:
    found = tree.node(path[:-1])
    assert found is not None
    node, step = found.real, path[-1]
    if node.kind == "sequence" and isinstance(step, int):
        spans = [(item.start, item.end) for item in node.items]
        index = step
    else:
        spans = [(key.start, max(key.end, value.end)) for key, value in node.pairs]
        names = [key.text for key, _ in node.pairs]
        if step not in names:
            raise EditError(f"{shown(path)} comes from a merge and cannot be taken away here")
        index = len(names) - 1 - names[::-1].index(str(step))
    if node.flow:
        return [_out_of_brackets(tree.text, node, spans, index)]
    if len(spans) == 1:
        return _block_to_line(tree, path[:-1], node, "[]" if node.kind == "sequence" else "{}")
    if node.kind == "sequence":
        spans = [(_dash(tree, node, i), end) for i, (_, end) in enumerate(spans)]
    return [_lines_away(tree.text, spans, index)]


def _out_of_brackets(text: str, node: Node, spans: list[tuple[int, int]], index: int) -> Edit:
    start, end = spans[index]
    if len(spans) == 1:
        inside = text[end : node.end - 1]
        return Edit(start, end + len(inside) if "#" not in inside else end, "")
    if index + 1 < len(spans):
        following = spans[index + 1][0]
        return Edit(start, following, "")
    return Edit(spans[index - 1][1], end, "")


def _lines_away(text: str, spans: list[tuple[int, int]], index: int) -> Edit:
    start, end = spans[index]
    begin = _line_start(text, start)
    if text[begin:start].strip("\ufeff "):
        # On the line of a dash: the next key takes its place, unless comments stand between.
        following = spans[index + 1][0]
        line_end = _line_end(text, end)
        if "#" in text[line_end:following]:
            breaks = len(text[:line_end]) - len(text[:line_end].rstrip("\r\n"))
            return Edit(len(text[:start].rstrip(" ")), line_end - breaks, "")
        return Edit(start, following, "")
    if text.startswith("\ufeff", begin):
        begin += 1
    finish = _line_end(text, end)
    if finish == len(text) and not text.endswith("\n") and begin > 0:
        begin -= 2 if text[begin - 2 : begin] == "\r\n" else 1
    return Edit(begin, finish, "")


def _item_move(tree: Tree, path: Path, index: int, to: int) -> list[Edit]:
    found = tree.node(path)
    assert found is not None
    node, text = found.real, tree.text
    low, high = min(index, to), max(index, to)
    if node.flow:
        order = list(range(len(node.items)))
        order.insert(to, order.pop(index))
        return [
            Edit(
                node.items[slot].start,
                node.items[slot].end,
                text[node.items[order[slot]].start : node.items[order[slot]].end],
            )
            for slot in range(low, high + 1)
        ]
    starts = [_line_start(text, _dash(tree, node, slot)) for slot in range(len(node.items))]
    dashes = [_dash(tree, node, slot) for slot in range(len(node.items))]
    if any(text[starts[slot] : dashes[slot]].strip(" ") for slot in range(low, high + 1)):
        raise EditError(f"the items of {shown(path)} cannot be moved here")
    eol = eol_of(text)
    chunk = text[starts[index] : _line_end(text, node.items[index].end)]
    end = starts[index] + len(chunk)
    if to < index:
        if chunk.endswith("\n"):
            return [Edit(starts[to], starts[to], chunk), Edit(starts[index], end, "")]
        before = starts[index] - len(eol)
        return [Edit(starts[to], starts[to], chunk + eol), Edit(before, end, "")]
    at = _line_end(text, node.items[to].end)
    if at == len(text) and not text.endswith("\n"):
        return [Edit(starts[index], end, ""), Edit(at, at, eol + chunk.rstrip("\r\n"))]
    return [Edit(starts[index], end, ""), Edit(at, at, chunk)]
