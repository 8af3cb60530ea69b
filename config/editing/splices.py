"""The single steps of a form edit: where exactly a value is replaced, put in, taken out or moved.

They know the shapes that YAML may have and prove nothing; :mod:`config.editing.edits` does.
"""

from __future__ import annotations

import re
from typing import Any

from config.editing import scalars
from config.editing.errors import EditError, shown
from config.editing.tree import Edit, Node, Path, Tree, location

_INDENT = 2
_COMMENT_LINE = re.compile(r"( *)#[^\n]*(?:\n|$)")


def replacement(tree: Tree, path: Path, node: Node, value: Any, is_json: bool) -> list[Edit]:
    """Another value in the place of a node, in its style as far as that can hold it."""
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


def insertion(tree: Tree, path: Path, value: Any, is_json: bool) -> list[Edit]:
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
            return item_insertion(tree, above, step, value, is_json)
        if node.is_null and step == 0:
            return fill(tree, above, node, [value], is_json)
        raise EditError(f"there is no item {step} in {shown(above)}")
    if node.is_null:
        return fill(tree, above, node, {step: value}, is_json)
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


def fill(tree: Tree, path: Path, node: Node, value: Any, is_json: bool) -> list[Edit]:
    """A section that is there and empty gets its first key or item."""
    text, eol = tree.text, eol_of(tree.text)
    key = tree.key_span(path) if path and isinstance(path[-1], str) else None
    if key is None or is_json or _in_flow(tree, path) or node.anchor or not isinstance(value, dict | list):
        return replacement(tree, path, node, value, is_json)
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
    """Lines put after the one in which content ends, and after comments that are indented deeper."""
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


def item_insertion(tree: Tree, path: Path, index: int, value: Any, is_json: bool) -> list[Edit]:
    """A new item of a list, before item ``index`` or after the last."""
    found = tree.node(path)
    if found is None:
        raise EditError(f"{shown(path)} is no list")
    node, text = found.real, tree.text
    if node.is_null:
        return fill(tree, path, node, [value], is_json)
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


def removal(tree: Tree, path: Path) -> list[Edit]:
    """A key with its value, or an item, taken out; what it was the only one of becomes ``{}`` or ``[]``."""
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
    return [lines_away(tree.text, spans, index)]


def _out_of_brackets(text: str, node: Node, spans: list[tuple[int, int]], index: int) -> Edit:
    start, end = spans[index]
    if len(spans) == 1:
        inside = text[end : node.end - 1]
        return Edit(start, end + len(inside) if "#" not in inside else end, "")
    if index + 1 < len(spans):
        following = spans[index + 1][0]
        return Edit(start, following, "")
    return Edit(spans[index - 1][1], end, "")


def lines_away(text: str, spans: list[tuple[int, int]], index: int) -> Edit:
    """The lines of one of several keys or items taken out; comments between them stay."""
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


def item_move(tree: Tree, path: Path, index: int, to: int) -> list[Edit]:
    """An item put where another is; comments on its own line go with it, others stay."""
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
