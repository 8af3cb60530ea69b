"""What people paste from a web page, a chat or a terminal, as words. Nothing of it is ever executed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MOST = 8192  # characters; a token command has about 120


class PasteRefusedError(ValueError):
    """The pasted text is not used; the message says why and what to paste. It never repeats the text."""


class PasteIncompleteError(PasteRefusedError):
    """What was pasted is right so far; the rest is missing, as when only its first line has come."""


@dataclass(frozen=True)
class Word:
    """One word of a pasted text.

    Attributes:
        text: The word without its quotes.
        line: Number of its line, from 0; line continuations are joined before.
        starts_line: Whether it is the first of its line.
        after: The separator before it that ends a statement: ``;`` or ``&&``, or nothing.
    """

    text: str
    line: int
    starts_line: bool
    after: str = ""


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\-_]")
# Zero-width and direction marks, which web pages and chats leave in what is copied.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\u00ad]")
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\t\v\f]")
_QUOTES = str.maketrans(
    "\u201c\u201d\u201e\u201f\u00ab\u00bb\u2018\u2019\u201a\u201b\u2032", '""""""\'\'\'\'\''
)
_DASHES = re.compile("(?<!\\S)[\u2010-\u2015\u2212]{1,2}(?=[a-z])")  # "autocorrected" -- before an option
_DASH = re.compile("[\u2010-\u2012\u2212]")

_FENCE = re.compile(r"^\s*(?:```|~~~)\w*\s*$", re.MULTILINE)
_SIGNS = "$%#\u276f\u279c\u03bb\u203a\u00bb\u25b6"
_PROMPT = re.compile(
    rf"""
    \s*
    (?:\([\w.\- ]+\)\s*)?                                   # (venv)
    (?:
        PS(?:\s+[^<>|;&"'`]*)?>\s*                          # PS C:\Users\me>
      | [A-Za-z]:[\\/][^<>|;&"'`]*>\s*                      # C:\Users\me>
      | In\s\[\d*\]:\s*                                     # In [3]:
      | More\?\s+                                           # cmd asks for the rest of a line
      | >{{1,3}}\s*                                         # > and >> continue a line, >>> is Python
      | \u279c\s+\S+(?:\s+git:\(\S*\))?(?:\s+\u2717)?\s+    # oh-my-zsh
      | (?:\[[^\]\n]*\]|\S+@\S+(?:[ ][^\s;&|<>]+)?|[~/][^\s;&|<>]*)?[ ]?   # me@host ~/folder
        [{_SIGNS}](?:\s+|(?=(?:modal|export|hf)\b))
    )
    """,
    re.VERBOSE,
)
# A line of remarks; a root shell's prompt looks the same, so a command behind the # counts.
_COMMENT = re.compile(r"\s*#(?!.*(?:\bmodal\s+token\b|MODAL_TOKEN|\bhf\s+auth\b|\bHF_TOKEN\s*=))")
_BANG = re.compile(r"\s*!\s*(?=[\w./~])")  # a notebook's shell line


def clean(text: str) -> str:
    """``text`` without what terminals, web pages and word processors add to a copied command.

    Escape sequences and invisible characters go; quotes, dashes and blanks become the plain ones; prompts
    and Markdown fences are taken off; continued lines are joined.

    Raises:
        PasteRefusedError: It is empty, far too long, or holds control characters.
    """
    if len(text) > _MOST:
        raise PasteRefusedError("the pasted text is far too long; paste the token command alone")
    text = _INVISIBLE.sub("", _ESCAPES.sub("", text))
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    text = _SPACES.sub(" ", text).translate(_QUOTES)
    text = _DASH.sub("-", _DASHES.sub("--", text))
    if any((ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 for c in text):
        raise PasteRefusedError("the pasted text holds control characters; copy the command again")
    text = _without_markdown(_FENCE.sub("", text)).strip()
    if not text:
        raise PasteRefusedError("there is nothing in the pasted text")
    return _joined([_without_prompt(line) for line in text.split("\n") if not _COMMENT.match(line)])


def _without_markdown(text: str) -> str:
    """``text`` without a pair of backticks around all of it."""
    stripped = text.strip()
    inner = stripped.strip("`")
    around = stripped.startswith("`") and stripped.endswith("`")
    return inner if around and inner and "`" not in inner else text


def _without_prompt(line: str) -> str:
    for _ in range(2):  # a prompt of the shell and one of a notebook
        found = _PROMPT.match(line)
        if found is None:
            break
        line = line[found.end() :]
    bang = _BANG.match(line)
    return line[bang.end() :] if bang else line


def _joined(lines: list[str]) -> str:
    """The lines with those joined that end in a backslash (sh), a caret (cmd) or a backtick (PowerShell)."""
    result: list[str] = []
    going_on = False
    for line in lines:
        bare = line.rstrip()
        continues = bare.endswith(("\\", "^", "`"))
        part = bare[:-1].rstrip() if continues else bare
        if going_on:
            result[-1] = f"{result[-1]} {part.lstrip()}"
        else:
            result.append(part)
        going_on = continues
    return "\n".join(result)


_REASONS = {
    "|": "a pipe (|)",
    "<": "a redirection or placeholder (<)",
    ">": "a redirection or placeholder (>)",
    "`": "a command in backticks",
    "(": "parentheses",
    ")": "parentheses",
    "&": "an ampersand (&)",
    "*": "a wildcard (*)",
    "?": "a wildcard (?)",
    "{": "braces",
    "}": "braces",
}


def words(text: str) -> list[Word]:
    """The words of a cleaned text, with quotes taken off as shells do.

    Raises:
        PasteRefusedError: It holds what a shell would act on (pipes, redirections, substitutions, …), or a
            quote is not closed.
    """
    result: list[Word] = []
    after = ""
    for number, line in enumerate(text.split("\n")):
        first = True
        for kind, word in _split(line):
            if kind == "separator":
                after = word
                continue
            result.append(Word(word, number, first, after))
            after, first = "", False
    return result


def _split(line: str) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    current: list[str] | None = None
    place = 0
    while place < len(line):
        char = line[place]
        if char == " " or (char == "#" and current is None):
            if current is not None:
                parts.append(("word", "".join(current)))
                current = None
            if char == "#":  # a comment to the end of the line
                break
            place += 1
            continue
        if char == ";" or line.startswith("&&", place):
            if current is not None:
                parts.append(("word", "".join(current)))
                current = None
            mark = ";" if char == ";" else "&&"
            parts.append(("separator", mark))
            place += len(mark)
            continue
        current = [] if current is None else current
        if char in "\"'":
            place = _quoted(line, place, current)
        elif char == "$":
            raise PasteRefusedError(_refusal("a variable or substitution ($)"))
        elif char in _REASONS:
            raise PasteRefusedError(_refusal(_REASONS[char]))
        else:
            current.append(char)
            place += 1
    if current is not None:
        parts.append(("word", "".join(current)))
    return parts


def _quoted(line: str, start: int, into: list[str]) -> int:
    """Read a quoted part that begins at ``start``; returns the place behind it."""
    end = line.find(line[start], start + 1)
    if end < 0:
        raise PasteRefusedError("a quote in the pasted text is not closed; copy the whole command again")
    inner = line[start + 1 : end]
    if line[start] == '"' and ("$" in inner or "`" in inner):
        raise PasteRefusedError(_refusal("a variable or substitution"))
    into.append(inner)
    return end + 1


def _refusal(what: str) -> str:
    return f"the pasted text holds {what}, which a token command does not have; paste that command alone"
