"""Comparing configs: by what they mean, by their lines, and merging what two people changed."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from config.editing.errors import EditError
from config.editing.splices import eol_of
from config.editing.tree import Tree, TreeError
from config.help import default_of
from config.schema import ProcessConfig
from config.walk import names_of, section_of

if TYPE_CHECKING:
    from pydantic import BaseModel

_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One key whose meaning differs.

    Attributes:
        key: Its path inside the process, such as ``train.lr``.
        kind: Whether it was added, taken away or changed. A key that stands for its default counts as absent.
        before, after: The values, the default where the key is absent.
    """

    key: str
    kind: Literal["added", "removed", "changed"]
    before: Any
    after: Any


def semantic_diff(before: str, after: str) -> list[Change]:
    """The keys whose meaning differs, in the order of the second text.

    Other spellings of a key or value (``rank``, ``linear``; ``bf16``, ``bfloat16``; ``1e-4``, ``0.0001``),
    comments, order and keys that hold their default make no difference.

    Raises:
        EditError: One of them cannot be parsed.
    """
    left, right = _meaning(before), _meaning(after)
    changes = []
    for key in [*right, *(key for key in left if key not in right)]:
        (was, was_default), (now, now_default) = (side.get(key, (_ABSENT, True)) for side in (left, right))
        if _equal(was, now):
            continue
        if was is _ABSENT or now is _ABSENT:
            known = now_default if was is _ABSENT else was_default
            if known is True:
                continue  # it holds the default
        kind: Literal["added", "removed", "changed"] = "changed"
        if was is _ABSENT or (was_default is True and now_default is not True):
            kind = "added"
        elif now is _ABSENT or (now_default is True and was_default is not True):
            kind = "removed"
        changes.append(Change(key, kind, _shown(was, key), _shown(now, key)))
    return changes


def _shown(value: Any, key: str) -> Any:
    if value is not _ABSENT:
        return value
    from config.help import all_fields

    bare = ".".join("[]" if part.isdecimal() else part for part in key.split(".")).replace(".[]", "[]")
    help_ = all_fields().get(bare)
    return help_.default if help_ is not None else None


def _equal(a: Any, b: Any) -> bool:
    if a is _ABSENT or b is _ABSENT:
        return a is b
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _meaning(text: str) -> dict[str, tuple[Any, bool]]:
    """Every key with its value and whether that is the default."""
    try:
        data = Tree.parse(text).data
    except TreeError as error:
        try:
            data = Tree.parse(text, True).data
        except TreeError:
            raise EditError(f"one of the files {error}") from None
    found: dict[str, tuple[Any, bool]] = {}
    config = data.get("config") if isinstance(data, dict) else None
    if isinstance(config, dict):
        if "name" in config:
            found["config.name"] = (config["name"], False)
        process = config.get("process")
        if isinstance(process, list) and process and isinstance(process[0], dict):
            found.update(_keys(process[0], ProcessConfig, ""))
    if isinstance(data, dict) and isinstance(data.get("meta"), dict):
        found.update({f"meta.{key}": (value, False) for key, value in data["meta"].items()})
    return found


def _keys(data: dict[str, Any], model: type[BaseModel], shown: str) -> Iterator[tuple[str, tuple[Any, bool]]]:
    names = names_of(model)
    for key, value in data.items():
        name = names.get(key)
        usual = (
            {"rank": "linear", "alpha": "linear_alpha"}.get(name or key, name or key)
            if shown == "network"
            else name or key
        )
        below = f"{shown}.{usual}" if shown else usual
        if name is None:
            yield below, (value, False)
            continue
        info = model.model_fields[name]
        inner, is_list = section_of(info.annotation)
        if inner is not None and is_list and isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    yield from _keys(item, inner, f"{below}.{index}")
        elif inner is not None and isinstance(value, dict):
            yield from _keys(value, inner, below)
        elif inner is None:
            real = checked(model, name, value)
            yield below, (real, bool(real == default_of(info)))


# What stands for required keys while one key alone is read.
_FILLERS: dict[str, Any] = {
    "patience": 1,
    "datasets": [{"folder_path": "x"}],
    "model": {"name_or_path": "x"},
}


def checked(model: type[BaseModel], name: str, value: Any) -> Any:
    """A value as the schema reads it, or itself if it is not valid."""
    others = {
        key: _FILLERS.get(key, "x")
        for key, info in model.model_fields.items()
        if info.is_required() and key != name
    }
    try:
        return getattr(model.model_validate({**others, name: value}), name)
    except ValueError:
        return value


# -- by lines ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DiffLine:
    """A line of a textual diff.

    Attributes:
        kind: Blank for the same in both, ``-``, ``+``, or ``?`` for lines left out.
        before_line, after_line: 1-based; None where it does not stand.
        text: Without its line break.
    """

    kind: Literal[" ", "-", "+", "?"]
    before_line: int | None
    after_line: int | None
    text: str


@dataclass(frozen=True)
class Row:
    """Two lines side by side; None where one side has none. Lines are 1-based."""

    kind: Literal["same", "changed", "removed", "added"]
    left: str | None
    right: str | None
    left_line: int | None
    right_line: int | None


def text_diff(before: str, after: str, *, context: int = 3) -> list[DiffLine]:
    """The lines that differ with some lines around them; empty if the texts are equal line by line."""
    left, right = before.splitlines(), after.splitlines()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    found: list[DiffLine] = []
    for group in matcher.get_grouped_opcodes(context):
        first = group[0]
        if first[1] > 0 or first[3] > 0:
            found.append(DiffLine("?", None, None, ""))
        for tag, a1, a2, b1, b2 in group:
            if tag == "equal":
                found += [DiffLine(" ", a1 + i + 1, b1 + i + 1, left[a1 + i]) for i in range(a2 - a1)]
                continue
            found += [DiffLine("-", i + 1, None, left[i]) for i in range(a1, a2)]
            found += [DiffLine("+", None, i + 1, right[i]) for i in range(b1, b2)]
    return found


def side_by_side(before: str, after: str) -> list[Row]:
    """All lines of both, what belongs together in one row."""
    left, right = before.splitlines(), after.splitlines()
    rows: list[Row] = []
    for tag, a1, a2, b1, b2 in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        for i in range(max(a2 - a1, b2 - b1)):
            a, b = a1 + i if a1 + i < a2 else None, b1 + i if b1 + i < b2 else None
            kind: Literal["same", "changed", "removed", "added"] = "same"
            if tag != "equal":
                kind = "changed" if a is not None and b is not None else "removed" if b is None else "added"
            rows.append(
                Row(
                    kind,
                    left[a] if a is not None else None,
                    right[b] if b is not None else None,
                    a + 1 if a is not None else None,
                    b + 1 if b is not None else None,
                )
            )
    return rows


@dataclass(frozen=True)
class Merged:
    """A merge of two texts.

    Attributes:
        text: With conflicts marked as git does.
        conflicts: How many there are.
    """

    text: str
    conflicts: int


def merge(base: str, mine: str, theirs: str) -> Merged:
    """Three-way merge by lines: what only one side changed is taken, what both changed alike too.

    What both changed differently stands between ``<<<<<<< mine``, ``=======`` and ``>>>>>>> on disk``.
    """
    if mine == theirs or theirs == base:
        return Merged(mine, 0)
    if mine == base:
        return Merged(theirs, 0)
    lines = [text.splitlines(keepends=True) for text in (base, mine, theirs)]
    stays = [_unchanged(lines[0], side) for side in lines[1:]]
    eol, out, conflicts = eol_of(mine), [], 0
    at = [0, 0, 0]
    anchors = [i for i in range(len(lines[0])) if i in stays[0] and i in stays[1]]
    for anchor in [*anchors, None]:
        ends = (
            [len(side) for side in lines] if anchor is None else [anchor, stays[0][anchor], stays[1][anchor]]
        )
        piece = [lines[i][at[i] : ends[i]] for i in range(3)]
        if piece[1] == piece[2] or piece[2] == piece[0]:
            out += piece[1]
        elif piece[1] == piece[0]:
            out += piece[2]
        else:
            conflicts += 1
            out += [f"<<<<<<< mine{eol}", *_ended(piece[1], eol), f"======={eol}"]
            out += [*_ended(piece[2], eol), f">>>>>>> on disk{eol}"]
        if anchor is not None:
            out.append(lines[1][ends[1]])
            at = [end + 1 for end in ends]
    return Merged("".join(out), conflicts)


def _unchanged(base: list[str], side: list[str]) -> dict[int, int]:
    """For each line of the base that stays, its number in the other."""
    matcher = difflib.SequenceMatcher(None, base, side, autojunk=False)
    return {block.a + i: block.b + i for block in matcher.get_matching_blocks() for i in range(block.size)}


def _ended(lines: list[str], eol: str) -> list[str]:
    if lines and not lines[-1].endswith("\n"):
        return [*lines[:-1], lines[-1] + eol]
    return lines
