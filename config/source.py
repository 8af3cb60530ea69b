"""YAML or JSON text into plain data, with the line and column of every key and value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from config.problems import Problem

_MAX_NODES = 200_000  # a config has hundreds; more means an alias bomb

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where something stands in the file, 1-based."""

    line: int
    column: int


@dataclass
class Document:
    """A parsed file.

    Attributes:
        data: Its content as plain Python values; None if it could not be parsed.
        keys: Place of each mapping key and list item, by path from the top.
        values: Place of each value.
        problems: Syntax errors, duplicate keys, unset variables.
    """

    data: Any = None
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """A safe loader that reads ``1e-4`` as a number, as YAML 1.2 and ai-toolkit do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?\.[0-9][0-9_]*[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def parse_scalar(text: str) -> Any:
    """A single YAML value, such as the right side of ``--set train.lr=1e-4``.

    Raises:
        ValueError: The text is no YAML value.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is not a YAML value") from error


def is_unquoted_text(value: str) -> bool:
    """Whether a scalar without quotes is text, not a number, truth value, date or null."""
    resolvers = _Loader.yaml_implicit_resolvers
    for _, pattern in (*resolvers.get(value[:1], ()), *resolvers.get(None, ())):
        if pattern.match(value):
            return False
    return True


def decode(raw: bytes) -> tuple[str, list[Problem]]:
    """Bytes of a config file as text; a byte-order mark is dropped."""
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return "", [Problem("error", "", "is not UTF-8 text; save it as UTF-8", line, None)]


def parse(text: str, *, is_json: bool = False, variables: Mapping[str, str] | None = None) -> Document:
    """Parse a config.

    ``variables`` replaces ``${NAME}`` inside values; with None the references stay as they are,
    which is how a config is stored (a token must never reach a run's folder).
    """
    document = Document()
    if is_json:
        # JSON may be indented by tabs, which YAML forbids; a raw tab inside a JSON string is illegal.
        text = text.replace("\t", " ")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            document.problems.append(Problem("error", "", "is empty"))
            return document
        if variables is not None:
            _substitute(node, variables, document.problems, set())
        _find_duplicates(node, document.problems, set())
        document.data = loader.construct_document(node)
        _place(node, document)
    except yaml.MarkedYAMLError as error:
        document.data = None
        document.problems.append(_syntax_problem(error, text))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        document.data = None
        document.problems.append(Problem("error", "", _one_line(f"is not valid YAML: {error}")))
    finally:
        loader.dispose()
    return document


def _one_line(message: str) -> str:
    return " ".join(message.split())


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    what = _one_line(error.problem or str(error))
    lines = text.split("\n")
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        what = "has a tab where YAML needs spaces"
        return Problem("error", "", what, mark.line + 1, mark.column + 1, code="tab")
    elif error.context:
        what = f"is not valid YAML: {what} ({_one_line(error.context)})"
    else:
        what = f"is not valid YAML: {what}"
    if mark is None:
        return Problem("error", "", what)
    return Problem("error", "", what, mark.line + 1, mark.column + 1)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _substitute(
    node: yaml.Node, variables: Mapping[str, str], problems: list[Problem], seen: set[int]
) -> None:
    """Replace ``${NAME}`` in scalars; an unquoted scalar is typed again afterwards."""
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(_children(node))
        if not isinstance(node, yaml.ScalarNode) or "${" not in node.value:
            continue
        mark = node.start_mark

        def replace(match: re.Match[str], mark: Any = mark) -> str:
            value = variables.get(match[1])
            if value is None:
                problems.append(
                    Problem(
                        "error",
                        "",
                        f"uses ${{{match[1]}}}, which is not set; set it in the environment or in .env",
                        mark.line + 1,
                        mark.column + 1,
                    )
                )
                return ""
            return value

        node.value = _VARIABLE.sub(replace, node.value)
        if node.style is None:
            node.tag = _tag_of(node.value)


def _tag_of(value: str) -> str:
    probe = _Loader("")
    try:
        return str(probe.resolve(yaml.ScalarNode, value, (True, False)))
    finally:
        probe.dispose()


def _find_duplicates(node: yaml.Node, problems: list[Problem], seen: set[int]) -> None:
    stack = [node]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack.extend(_children(node))
        if not isinstance(node, yaml.MappingNode):
            continue
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                problems.append(
                    Problem(
                        "warning",
                        str(key.value),
                        f"is given twice (first on line {first[key.value]}); this one counts",
                        line,
                        key.start_mark.column + 1,
                        code="duplicate",
                    )
                )
            first[key.value] = line


def _place(root: yaml.Node, document: Document) -> None:
    """Record where each path stands. Runs after construction, when merge keys are resolved."""
    stack: list[tuple[yaml.Node, Path]] = [(root, ())]
    count = 0
    while stack:
        node, path = stack.pop()
        count += 1
        if count > _MAX_NODES or len(path) > 64:
            document.data = None
            document.problems.append(
                Problem("error", "", "is nested too deeply or repeats aliases too often")
            )
            return
        document.values[path] = Place(node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
                below = (*path, name)
                document.keys[below] = Place(key.start_mark.line + 1, key.start_mark.column + 1)
                stack.append((value, below))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                below = (*path, index)
                document.keys[below] = Place(value.start_mark.line + 1, value.start_mark.column + 1)
                stack.append((value, below))
