"""Fixes for what ``check`` finds, as edits of the text: one key press, and it is undone as one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from config.editing import INSIDE, Edit, Edited, EditError, Path, Tree, TreeError, apply, splices
from config.editing import edits as _edits
from config.editing.errors import shown
from config.help import all_fields
from config.overrides import split_override
from config.problems import Problem
from config.source import parse_scalar

# What a missing key is filled with: something true to edit, not something that trains by mistake.
_STARTERS: dict[str, object] = {
    "config.name": "my_lora",
    "datasets": [{"folder_path": "./pictures"}],
    "folder_path": "./pictures",
    "model": {"name_or_path": "black-forest-labs/FLUX.1-dev"},
    "name_or_path": "black-forest-labs/FLUX.1-dev",
    "patience": 5,
    "prompt": "[trigger]",
}


@dataclass(frozen=True)
class Fix:
    """A way to mend a problem.

    Attributes:
        title: What it does, such as ``Rename to lr``.
        edits: Edits of the text that the problem was found in.
    """

    title: str
    edits: tuple[Edit, ...]


def fixes_for(text: str, problem: Problem, *, is_json: bool = False) -> list[Fix]:
    """What would mend a problem, the likeliest first; none if only a person can know."""
    if problem.code == "tab" and problem.line is not None:
        return _tab(text, problem.line - 1)
    try:
        tree = Tree.parse(text, is_json)
    except TreeError:
        return []
    found: list[Fix] = []

    def offer(title: str, make: Callable[[], Edited]) -> None:
        with contextlib.suppress(EditError):
            edited = make()
            if edited.edits:
                found.append(Fix(title, edited.edits))

    path = _path_of(tree, problem)
    if path is None:
        return []
    name = str(path[-1])
    match problem.code:
        case "misspelt" | "misplaced" if problem.meant is not None:
            target = _target(path, problem)
            offer(*_move(text, tree, path, target, is_json))
            offer(f"Remove {name}", lambda: _edits.remove(text, path, is_json=is_json))
        case "unread" | "remove":
            offer(f"Remove {name}", lambda: _edits.remove(text, path, is_json=is_json))
        case "missing":
            starter = _STARTERS.get(problem.key, _STARTERS.get(problem.key.rpartition(".")[2]))
            where = _from_key(problem.key)
            if starter is not None:
                offer(f"Add {where[-1]}", lambda: _edits.set_value(text, where, starter, is_json=is_json))
        case "choice" | "bound":
            if problem.meant is not None:
                value = parse_scalar(problem.meant)
                offer(
                    f"Change to {problem.meant}", lambda: _edits.set_value(text, path, value, is_json=is_json)
                )
            offer(*_to_default(text, path, problem, is_json))
        case "empty" | "type":
            offer(*_to_default(text, path, problem, is_json))
        case "needs_list":
            offer("Put a dash before its first key", lambda: _into_list(text, tree, path, is_json))
        case "duplicate":
            offer(f"Remove the earlier {name}", lambda: _without_earlier(text, tree, path, is_json))
        case "set" if problem.meant:
            where, value = split_override(problem.meant)
            said = problem.meant.replace("=", ": ", 1)
            offer(f"Set {said}", lambda: _edits.set_value(text, where, value, is_json=is_json))
    return found


def fix_all(text: str, problems: Iterable[Problem], *, is_json: bool = False) -> Edited:
    """The first fix of every problem that still applies after those before it."""
    old = text
    for problem in sorted(problems, key=lambda p: p.line or 0, reverse=True):
        fixes = fixes_for(text, problem, is_json=is_json)
        if fixes and problem.code != "missing":
            text = apply(text, fixes[0].edits)
    return Edited(text, _edits.splice(old, text))


def _from_key(key: str) -> Path:
    parts: Path = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
    return parts if parts[0] in ("config", "meta", "job") else (*INSIDE, *parts)


def _path_of(tree: Tree, problem: Problem) -> Path | None:
    """Where the problem's key stands, in the file's spelling; for a missing one, where it would."""
    if problem.code == "duplicate" and problem.line is not None:
        for path in tree.paths():
            span = tree.key_span(path)
            if span and path[-1] == problem.key and tree.text.count("\n", 0, span.start) == problem.line - 1:
                return path
        return None
    if not problem.key:
        return None
    inside = _from_key(problem.key)
    top: Path = tuple(problem.key.split("."))
    for path in (inside, top):
        if tree.node(path) is not None:
            return path
    return inside if problem.code in ("missing", "set") else None


def _target(path: Path, problem: Problem) -> Path:
    meant = problem.meant or ""
    if problem.code == "misspelt":
        return (meant,) if len(path) == 1 else _from_key(meant)
    if meant.startswith("config"):
        return (*(INSIDE if "process" in meant else ("config",)), path[-1])
    return (*_from_key(meant), path[-1]) if meant else (*INSIDE, path[-1])


def _move(text: str, tree: Tree, path: Path, target: Path, is_json: bool) -> tuple[str, Callable[[], Edited]]:
    there = shown(target)
    if tree.node(target) is not None:
        return f"Remove {path[-1]}: {there} is there", lambda: _edits.remove(text, path, is_json=is_json)
    if target[:-1] == path[:-1]:
        return f"Rename to {target[-1]}", lambda: _edits.rename_key(
            text, path, str(target[-1]), is_json=is_json
        )

    def move() -> Edited:
        value = tree.value(path)
        without = _edits.remove(text, path, is_json=is_json).text
        moved = _edits.set_value(without, target, value, is_json=is_json).text
        return Edited(moved, _edits.splice(text, moved))

    return f"Move to {there}", move


def _to_default(text: str, path: Path, problem: Problem, is_json: bool) -> tuple[str, Callable[[], Edited]]:
    key = ".".join("[]" if part.isdecimal() else part for part in problem.key.split(".")).replace(".[]", "[]")
    help_ = all_fields().get(key)
    default = help_.default_text if help_ is not None else ""
    title = f"Remove it: the default is {default}" if default else "Remove it"

    def make() -> Edited:
        if help_ is not None and help_.required:
            raise EditError("it must be given")
        return _edits.remove(text, path, is_json=is_json)

    return title, make


def _into_list(text: str, tree: Tree, path: Path, is_json: bool) -> Edited:
    """A section as the one item of a list."""
    node = tree.node(path)
    if node is None or node.kind != "mapping" or not node.pairs:
        raise EditError("there is no section")
    if node.flow or is_json:
        return Edited(
            apply(text, changes := [Edit(node.inner, node.inner, "["), Edit(node.end, node.end, "]")]),
            tuple(changes),
        )
    first = node.pairs[0][0].start
    edits = [Edit(first, first, "- ")]
    at = text.find("\n", first) + 1
    while 0 < at < node.end:
        if text[at : at + 1] not in "\r\n":
            edits.append(Edit(at, at, "  "))
        at = text.find("\n", at) + 1
    new = apply(text, edits)
    with contextlib.suppress(TreeError):
        if _edits.same(Tree.parse(new).value(path), [tree.value(path)]):
            return Edited(new, tuple(edits))
    raise EditError("it cannot be made a list here")


def _without_earlier(text: str, tree: Tree, path: Path, is_json: bool) -> Edited:
    node = tree.node(path[:-1])
    names = [key.text for key, _ in node.real.pairs] if node is not None else []
    if node is None or node.real.flow or names.count(str(path[-1])) < 2:
        raise EditError("it is not given twice")
    spans = [(key.start, max(key.end, value.end)) for key, value in node.real.pairs]
    edit = splices.lines_away(text, spans, names.index(str(path[-1])))
    new = apply(text, [edit])
    with contextlib.suppress(TreeError):
        if _edits.same(Tree.parse(new, is_json).data, tree.data):
            return Edited(new, (edit,))
    raise EditError("it cannot be taken away here")


def _tab(text: str, line: int) -> list[Fix]:
    rows = text.split("\n")
    if line >= len(rows):
        return []
    row = rows[line]
    blank = row[: len(row) - len(row.lstrip(" \t"))]
    if "\t" not in blank:
        return []
    start = sum(len(r) + 1 for r in rows[:line])
    above = next((r for r in reversed(rows[:line]) if r.strip() and not r.lstrip().startswith("#")), "")
    indent = len(above) - len(above.lstrip(" ")) + (2 if above.rstrip().endswith(":") else 0)
    return [Fix("Indent with spaces", (Edit(start, start + len(blank), " " * indent),))]
