"""What an editor of YAML knows of single lines: colours, indentation, comments, pairs.

A line is looked at on its own, so that a keystroke costs the same in a file of 10 and of 5,000 lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

INDENT = 2
_PAIRS = {"[": "]", "{": "}", '"': '"', "'": "'"}
_BLOCK = re.compile(r"(?:^|[\s:-])[|>][+-]?\d?[+-]?\s*(?:\s#.*)?$")
_LINE = re.compile(
    r"""(?P<space>\s+)
    |(?P<comment>(?:^|(?<=\s))\#.*)
    |(?P<mark>^(?:---|\.\.\.)(?=\s|$)|-(?=\s|$)|\?(?=\s|$))
    |(?P<key>(?:"(?:\\.|[^"\\])*"|'(?:''|[^'])*'|[^\s\#\[\]{},"'&*!|>%@`][^\#\[\]{},]*?)(?=\s*:(?:\s|$)))
    |(?P<string>"(?:\\.|[^"\\])*"?|'(?:''|[^'])*'?)
    |(?P<anchor>[&*!][^\s,\]}]*)
    |(?P<number>[-+]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?=\s*(?:$|[,\]}]|\s\#)))
    |(?P<word>(?:true|false|null|yes|no|on|off|~)(?=\s*(?:$|[,\]}]|\s\#)))
    |(?P<mark2>[\[\]{},:|>])
    |(?P<text>[^\s\#\[\]{},:]+|[\#:])""",
    re.VERBOSE | re.IGNORECASE,
)


class Token(NamedTuple):
    """A coloured part of a line; ``kind`` is key, string, number, word, anchor, mark or comment."""

    start: int
    end: int
    kind: str


@lru_cache(4096)
def tokens(line: str) -> tuple[Token, ...]:
    """The parts of a line that have a colour of their own."""
    found = []
    for match in _LINE.finditer(line[:2000]):
        kind = (match.lastgroup or "").rstrip("2")
        if kind not in ("space", "text"):
            found.append(Token(match.start(), match.end(), kind))
    return tuple(found)


def indent_of(line: str) -> int:
    """The number of blanks that a line begins with."""
    return len(line) - len(line.lstrip(" "))


def opens_block(line: str) -> bool:
    """Whether a line ends with ``|`` or ``>``: the deeper lines below it are text."""
    return bool(_BLOCK.search(line)) and not line.lstrip().startswith("#")


def is_block_text(lines: Sequence[str], index: int, look: int = 60) -> bool:
    """Whether a line is inside a block of text; ``look`` lines above it are looked at."""
    own = lines[index]
    if not own.strip():
        return False
    depth = indent_of(own)
    for above in range(index - 1, max(-1, index - 1 - look), -1):
        line = lines[above]
        if line.strip() and indent_of(line) < depth:
            if opens_block(line):
                return True
            depth = indent_of(line)
            if depth == 0:
                return False
    return False


def indent_after(before: str) -> str:
    """The blanks with which the next line begins.

    Args:
        before: The line up to the cursor.
    """
    depth = indent_of(before)
    content = before.strip()
    plain = content.partition(" #")[0].rstrip()
    if plain.startswith("#") or not plain:
        return " " * depth
    if plain.startswith("- "):
        inner = plain[2:].lstrip()
        after_dash = depth + len(plain) - len(inner)
        if inner.endswith(":"):
            return " " * (after_dash + INDENT)
        is_mapping = any(token.kind == "key" for token in tokens(plain))
        return " " * (after_dash if is_mapping else depth)
    if plain.endswith(":") or opens_block(plain):
        return " " * (depth + INDENT)
    return " " * depth


def starts_item(before: str) -> bool:
    """Whether Enter behind ``before`` should begin another item of a list of plain values."""
    plain = before.strip()
    return plain.startswith("- ") and len(plain) > 2 and not any(t.kind == "key" for t in tokens(plain))


def toggle_comments(lines: Sequence[str]) -> list[str]:
    """The lines as comments; or, if all are comments, as they were before."""
    full = [line for line in lines if line.strip()]
    if full and all(line.lstrip().startswith("#") for line in full):
        return [re.sub(r"^(\s*)# ?", r"\1", line, count=1) for line in lines]
    depth = min((indent_of(line) for line in full), default=0)
    return [f"{line[:depth]}# {line[depth:]}" if line.strip() else line for line in lines]


def shift_lines(lines: Sequence[str], direction: int) -> list[str]:
    """The lines one step deeper (1) or less deep (-1)."""
    if direction > 0:
        return [" " * INDENT + line if line.strip() else line for line in lines]
    return [line[min(INDENT, indent_of(line)) :] for line in lines]


def closing(char: str, before: str, after: str) -> str:
    """What is to stand behind the cursor when ``char`` is typed; empty if nothing.

    Quotes and brackets are closed where a value begins, never inside a word, a string or a comment.
    """
    if char not in _PAIRS or (after and after[0] not in " ,]}"):
        return ""
    if any(token.kind in ("comment", "string") and token.end >= len(before) for token in tokens(before)):
        return ""
    if char in "\"'" and before and before[-1] not in " [{,:":
        return ""
    return _PAIRS[char]


def types_over(char: str, after: str) -> bool:
    """Whether ``char`` is there already, behind the cursor, as the end of a pair."""
    return bool(after) and char == after[0] and char in "]}\"'"


def empty_pair(before: str, after: str) -> bool:
    """Whether the cursor is between a quote or bracket and its end."""
    return bool(before) and bool(after) and _PAIRS.get(before[-1]) == after[0]
