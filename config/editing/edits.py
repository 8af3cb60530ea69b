"""Form edits: one value set, taken away, added or moved, and every other byte left as it was.

Each edit is proved before it is handed out: the new text is parsed, and its content must be the old content
with exactly the wanted change. What cannot be done that way is refused with a sentence, never half done.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from config.editing import scalars
from config.editing.errors import EditError, SharedValueError, shown
from config.editing.splices import (
    fill,
    insertion,
    item_insertion,
    item_move,
    removal,
    replacement,
)
from config.editing.tree import Edit, Path, Tree, TreeError, apply


@dataclass(frozen=True)
class Edited:
    """A text after an edit.

    Attributes:
        text: The new text.
        edits: What was changed, in ascending order; offsets are of the old text.
    """

    text: str
    edits: tuple[Edit, ...]


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
    new = apply(text, removal(tree, path))
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
    new = apply(text, item_insertion(tree, path, index, value, is_json))
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
    new = apply(text, item_move(tree, above, index, to))
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
        return apply(text, insertion(tree, path, value, is_json))
    if node.kind != "alias" and same(tree.value(path), value):
        return text
    if node.kind == "mapping" and isinstance(value, dict) and value and node.pairs:
        for key in [key for key in tree.value(path) if key not in value]:
            below = _tree(text, is_json)
            text = apply(text, removal(below, (*path, key)))
        for key, item in value.items():
            text = _assign(text, (*path, key), item, is_json)
        return text
    if node.kind == "sequence" and isinstance(value, list) and value and node.items:
        return _assign_list(text, path, tree.value(path), value, is_json)
    if node.is_null and _has_lines(value):
        return apply(text, fill(tree, path, node, value, is_json))
    return apply(text, replacement(tree, path, node, value, is_json))


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
        text = apply(text, item_insertion(tree, path, index, new[index], is_json))
    for _ in range(len(old) - len(new)):
        tree = _tree(text, is_json)
        text = apply(text, removal(tree, (*path, head + keep)))
    return text
