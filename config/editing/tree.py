"""A config's text as a tree whose every node knows its place, aliases included.

PyYAML's ``compose`` gives an alias the place of its anchor, so the tree is built from the parser's events.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import yaml

from config.source import Path as Path
from config.source import is_unquoted_text, parse, parse_scalar

INSIDE: Path = ("config", "process", 0)
"""Where the keys of the training process stand."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_NODES = 200_000
_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t]*(?:(?:#[^\r\n]*)?\r?\n[ \t]*)*)+")
_BOM = "\ufeff"
_NONE: list[Any] = []  # what scalars share instead of two empty lists each; never changed


@dataclass(frozen=True)
class Span:
    """Characters ``start`` to ``end`` (not included) of a text."""

    start: int
    end: int


@dataclass(frozen=True)
class Edit:
    """Characters ``start`` to ``end`` of a text become ``text``."""

    start: int
    end: int
    text: str


class TreeError(Exception):
    """The text is no YAML or JSON.

    Attributes:
        line, column: 0-based; None if the parser does not say.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        self.line, self.column = line, column
        super().__init__(message)


@dataclass(slots=True, eq=False)
class Node:
    """A value or key.

    Attributes:
        kind: What it is.
        start: Where it begins, anchor and tag included.
        end: Where it ends; of a block collection, the end of what it holds.
        inner: Where it begins without anchor and tag.
        text: A scalar's text.
        style: A scalar's: None for unquoted, or one of ``' " | >``.
        flow: Whether a collection stands in brackets.
        anchor: Its name, or for an alias, the name it stands for.
        tag: An explicit tag.
        pairs: A mapping's keys and values.
        items: A sequence's items.
        target: What an alias stands for.
    """

    kind: Literal["scalar", "mapping", "sequence", "alias"]
    start: int
    end: int
    inner: int
    text: str = ""
    style: str | None = None
    flow: bool = False
    anchor: str | None = None
    tag: str | None = None
    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    target: Node | None = None

    @property
    def real(self) -> Node:
        """The node itself, or what an alias stands for."""
        return self.target if self.target is not None else self

    @property
    def is_null(self) -> bool:
        """Whether it is an empty or null scalar."""
        return self.kind == "scalar" and self.style is None and self.text in ("", "~", "null", "Null", "NULL")

    def child(self, step: str | int) -> Node | None:
        """The value under a key (the last of that name counts) or the item at an index."""
        node = self.real
        if isinstance(step, str):
            for key, value in reversed(node.pairs):
                if key.text == step:
                    return value
        elif node.kind == "sequence" and 0 <= step < len(node.items):
            return node.items[step]
        return None


class Tree:
    """A parsed text; make it by :meth:`parse`.

    Attributes:
        text: The text.
        root: Its top node.
    """

    def __init__(self, text: str, root: Node, plain: bool) -> None:
        self.text = text
        self.root = root
        self._plain = plain  # no merge keys or tags: data can be made from the nodes
        self._data: Any = None
        self._has_data = False

    @staticmethod
    def parse(text: str, is_json: bool = False) -> Tree:
        """The tree of a text; the last few are remembered. Takes some 20 ms for 5,000 lines.

        Raises:
            TreeError: It is no YAML or JSON, or is empty.
        """
        return _parse(text, is_json)

    @property
    def data(self) -> Any:
        """The content as plain values; a mapping's keys are texts as they stand there."""
        if not self._has_data:
            self._data = self._construct()
            self._has_data = True
        return self._data

    def _construct(self) -> Any:
        if self._plain:
            return construct(self.root)
        return _text_keys(parse(self.text).data)

    def node(self, path: Path) -> Node | None:
        """The node of a value, an alias as such; None if there is none."""
        node: Node | None = self.root
        for step in path:
            node = node.child(step) if node is not None else None
        return node

    def key_span(self, path: Path) -> Span | None:
        """Where a key stands; of a list's item, where its value does."""
        if not path:
            return None
        parent = self.node(path[:-1])
        if parent is None:
            return None
        if isinstance(path[-1], str):
            for key, _ in reversed(parent.real.pairs):
                if key.text == path[-1]:
                    return Span(key.start, key.end)
            return None
        return self.value_span(path)

    def value_span(self, path: Path) -> Span | None:
        """Where a value stands."""
        node = self.node(path)
        return None if node is None else Span(node.start, node.end)

    def value(self, path: Path) -> Any:
        """The value at a path, None if there is none."""
        here = self.data
        for step in path:
            if isinstance(here, dict) and isinstance(step, str):
                here = here.get(step)
            elif isinstance(here, list) and isinstance(step, int) and step < len(here):
                here = here[step]
            else:
                return None
        return here

    def path_at(self, offset: int) -> Path:
        """The deepest key or item that an offset is in; on a key, that key's path."""
        path: Path = ()
        node = self.root
        while True:
            step: str | int | None = None
            inner: Node | None = None
            for key, value in node.pairs:
                if key.start <= offset <= max(value.end, key.end):
                    step, inner = key.text, None if offset <= key.end else value
            for index, item in enumerate(node.items):
                if item.start <= offset <= item.end:
                    step, inner = index, item
            if step is None:
                return path
            path = (*path, step)
            if inner is None or inner.kind == "alias":
                return path
            node = inner

    def paths(self) -> list[Path]:
        """Every key and list item, in the file's order."""
        return [path for path, _ in walk(self.root)]

    def is_shared(self, path: Path) -> bool:
        """Whether changing the value in its place would change others: anchors and aliases."""
        node = self.root
        for index, step in enumerate(path):
            following = node.child(step)
            if following is None:
                return False
            last = index == len(path) - 1
            if following.anchor and not (last and following.kind == "alias"):
                return True
            node = following
        return False


@lru_cache(maxsize=6)
def _parse(text: str, is_json: bool) -> Tree:
    shift = 1 if text.startswith(_BOM) else 0
    body = text[shift:]
    loader = _Parser(body.replace("\t", " ") if is_json else body)
    builder = _Builder(loader, body, shift)
    # Thousands of nodes and no cycle among them: the collector would only walk them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        root = builder.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join((error.problem or str(error)).split())
        if mark is None:
            raise TreeError(f"is not valid YAML: {what}") from None
        raise TreeError(
            f"is not valid YAML in line {mark.line + 1}: {what}", mark.line, mark.column
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise TreeError(f"is not valid YAML: {' '.join(str(error).split())}") from None
    finally:
        if collecting:
            gc.enable()
        loader.dispose()
    return Tree(text, root, builder.plain)


class _Builder:
    """Nodes out of the parser's events."""

    def __init__(self, loader: Any, body: str, shift: int) -> None:
        self.loader, self.body, self.shift = loader, body, shift
        self.anchors: dict[str, Node] = {}
        self.plain = True
        self.count = 0

    def document(self) -> Node:
        event = self.loader.get_event()  # stream start
        event = self.loader.get_event()
        if not isinstance(event, yaml.DocumentStartEvent):
            raise TreeError("is empty")
        root = self.node(self.loader.get_event(), 0)
        self.loader.get_event()
        if isinstance(self.loader.get_event(), yaml.DocumentStartEvent):
            raise TreeError("holds several documents; a config is one")
        return root

    def node(self, event: Any, depth: int) -> Node:
        self.count += 1
        if self.count > _MAX_NODES or depth > 64:
            raise TreeError("is nested too deeply")
        start, end = event.start_mark.index + self.shift, event.end_mark.index + self.shift
        if isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(event.anchor or "")
            if target is None:
                line = event.start_mark.line  # type: ignore[union-attr]
                raise TreeError(f"uses *{event.anchor} in line {line + 1}, which is not defined", line, 0)
            return Node("alias", start, end, start, anchor=event.anchor, target=target)
        inner = start
        if event.anchor or event.tag:
            found = _PROPERTIES.match(self.body, start - self.shift)
            inner = found.end() + self.shift if found else start
        tag = event.tag
        if tag is not None and tag != "!":
            self.plain = False
        if isinstance(event, yaml.ScalarEvent):
            style = event.style or None
            if style in ("|", ">"):
                end = self._block_end(inner, end)
            elif inner > end:
                inner = end
            node = Node(
                "scalar", start, end, inner, event.value, style, False, event.anchor, tag, _NONE, _NONE
            )
            if event.anchor:
                self.anchors[event.anchor] = node
            return node
        flow = bool(event.flow_style)
        is_map = isinstance(event, yaml.MappingStartEvent)
        node = Node(
            "mapping" if is_map else "sequence", start, end, inner, flow=flow, anchor=event.anchor, tag=tag
        )
        if event.anchor:
            self.anchors[event.anchor] = node
        while True:
            inner_event: Any = self.loader.get_event()
            if isinstance(inner_event, yaml.CollectionEndEvent):
                break
            if is_map:
                key = self.node(inner_event, depth + 1)
                value = self.node(self.loader.get_event(), depth + 1)
                if key.text == "<<" and key.style is None:
                    self.plain = False
                node.pairs.append((key, value))
            else:
                node.items.append(self.node(inner_event, depth + 1))
        if flow:
            node.end = inner_event.end_mark.index + self.shift  # type: ignore[union-attr]
        elif node.pairs:
            node.end = max(node.pairs[-1][0].end, node.pairs[-1][1].end)
        elif node.items:
            node.end = node.items[-1].end
        return node

    def _block_end(self, inner: int, end: int) -> int:
        """The end of a block scalar without the blank lines after it, unless they are kept (``|+``)."""
        text = self.body[inner - self.shift : end - self.shift]
        head, newline, _ = text.partition("\n")
        if not newline or "+" in head.partition("#")[0]:
            return end
        return inner + len(text.rstrip(" \t\r\n"))


def construct(node: Node) -> Any:
    """Plain data of a node; aliases become copies."""
    node = node.real
    if node.kind == "mapping":
        return {key.real.text: construct(value) for key, value in node.pairs}
    if node.kind == "sequence":
        return [construct(item) for item in node.items]
    if node.style is not None or node.tag == "!":
        return node.text
    return _unquoted(node.text)


def _unquoted(text: str) -> Any:
    return text if is_unquoted_text(text) else _typed(text)


@lru_cache(maxsize=4096)
def _typed(text: str) -> Any:
    try:
        return parse_scalar(text)
    except ValueError:
        return text


def _text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_text_keys(item) for item in value]
    return value


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every node below ``node`` with its path; what an alias stands for is not walked again."""
    for key, value in node.pairs:
        below = (*path, key.text)
        yield below, value
        yield from walk(value, below)
    for index, item in enumerate(node.items):
        below = (*path, index)
        yield below, item
        yield from walk(item, below)


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after all edits; their offsets are of the text before."""
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def location(text: str, offset: int) -> tuple[int, int]:
    """Line and column of an offset, 0-based."""
    return text.count("\n", 0, offset), offset - (text.rfind("\n", 0, offset) + 1)


def offset_of(text: str, line: int, column: int) -> int:
    """The offset of a line and column, 0-based; beyond the text, its end."""
    start = 0
    for _ in range(line):
        newline = text.find("\n", start)
        if newline < 0:
            return len(text)
        start = newline + 1
    end = text.find("\n", start)
    return min(start + column, len(text) if end < 0 else end)
