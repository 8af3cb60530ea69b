"""What is wrong with a text that is being edited, and where to underline it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from config.editing import Tree, TreeError, offset_of
from config.editing.tree import location
from config.load import check_text
from config.problems import Problem


def diagnose(
    path: Path, text: str, *, files: bool = True, env: Mapping[str, str] | None = None
) -> list[Problem]:
    """All problems of a text, in its order. Takes time in proportion to it: call it in a thread.

    Args:
        path: Where the text will stand; its folder is what relative paths are looked for beside.
        text: The config.
        files: Whether the folders and files that it names must be here.
        env: Variables for ``${NAME}``; the environment and ``.env`` files if None.
    """
    return check_text(path, text, files=files, env=env)[1]


def span_of(text: str, problem: Problem, *, is_json: bool = False) -> tuple[int, int, int, int] | None:
    """The characters that a problem is about: line and column, to line and column, 0-based.

    The key for a key that nobody reads, the value for a value that is wrong. A problem without a
    place has none.
    """
    if problem.line is None:
        return None
    line, column = problem.line - 1, (problem.column or 1) - 1
    bom = 1 if line == 0 and text.startswith("\ufeff") else 0
    start = offset_of(text, line, column + bom)
    end = start
    try:
        tree = Tree.parse(text, is_json)
        found = tree.path_at(start)
        key, value = tree.key_span(found), tree.value_span(found)
        wants_value = problem.code in ("choice", "bound", "type") or (
            problem.severity == "error" and problem.code not in ("missing", "needs_list")
        )
        if wants_value and value is not None and value.end > value.start:
            start, end = value.start, value.end
        elif key is not None:
            start, end = key.start, key.end
    except TreeError:
        pass
    newline = text.find("\n", start)
    row_end = len(text) if newline < 0 else newline
    if not start < end <= row_end:
        end = start + len(text[start:row_end].rstrip()) or start
    return (*location(text, start), *location(text, max(end, min(start + 1, row_end))))
