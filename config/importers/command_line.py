"""Options from a pasted command line or a script of sh, cmd or PowerShell. Nothing is executed."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import Any, Literal

from config.importers.options import ImportRefusedError

Dialect = Literal["sh", "cmd", "powershell"]

_BY_SUFFIX: dict[str, Dialect] = {
    ".sh": "sh",
    ".bash": "sh",
    ".bat": "cmd",
    ".cmd": "cmd",
    ".ps1": "powershell",
}
_ASSIGNMENTS: dict[Dialect, re.Pattern[str]] = {
    "sh": re.compile(r"^(?:export\s+)?([A-Za-z_]\w*)=(.*)$"),
    "cmd": re.compile(r'^@?set\s+"?([A-Za-z_]\w*)=([^"]*)"?$', re.IGNORECASE),
    "powershell": re.compile(r"^\$([A-Za-z_]\w*)\s*=\s*(.+)$"),
}
_TRAINER = re.compile(r"^[\w-]*(?:train|fine_tune)[\w-]*\.py$")
_OPTION = re.compile(r"^--?[A-Za-z]")


def dialect_of(text: str, suffix: str) -> Dialect:
    """The shell that a script is written for, by its line continuations, else by its suffix."""
    ends = [line.rstrip()[-1:] for line in text.splitlines()]
    counts: list[tuple[int, Dialect]] = [
        (ends.count("\\"), "sh"),
        (ends.count("^"), "cmd"),
        (ends.count("`"), "powershell"),
    ]
    most, dialect = max(counts, key=lambda pair: pair[0])
    if most:
        return dialect
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    return "cmd" if re.search(r"(?:^|[\s=\"])[A-Za-z]:\\", text) else "sh"


def trainer_options(text: str, suffix: str = "") -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The training script's name, its options, and those of ``accelerate launch`` before it.

    A flag without a value is True, one with several values a list, a repeated one has its last value.

    Raises:
        ImportRefusedError: A quote is not closed, or there is no training command or several.
    """
    dialect = dialect_of(text, suffix)
    found = [words for words in split_commands(text, dialect) if _script_at(words) is not None]
    if not found:
        raise ImportRefusedError(
            "has no training command: give the lines from 'accelerate launch' to the last --option"
        )
    if len(found) > 1:
        raise ImportRefusedError(
            f"has {len(found)} training commands; put the one to import into a file of its own"
        )
    words = found[0]
    at = _script_at(words)
    assert at is not None
    return _base_name(words[at]), _options(words[at + 1 :]), _options(words[:at])


def _base_name(word: str) -> str:
    return PureWindowsPath(word).name  # understands both slashes


def _script_at(words: list[str]) -> int | None:
    return next((i for i, word in enumerate(words) if _TRAINER.match(_base_name(word))), None)


def _options(words: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    key: str | None = None
    for word in words:
        if _OPTION.match(word):
            name, equals, value = word.lstrip("-").partition("=")
            key = name.replace("-", "_")
            options[key] = value if equals else True
        elif key is not None:
            before = options[key]
            if before is True:
                options[key] = word
            else:
                options[key] = [*(before if isinstance(before, list) else [before]), word]
    return options


def split_commands(text: str, dialect: Dialect) -> list[list[str]]:
    """The commands of a script as words, quotes removed and the script's own variables filled in.

    A variable that the script does not set becomes ``${NAME}``, which a config fills in from the
    environment.

    Raises:
        ImportRefusedError: A quote is not closed.
    """
    variables: dict[str, str] = {}
    commands: list[list[str]] = []
    for line in _logical_lines(text, dialect):
        assignment = _ASSIGNMENTS[dialect].match(line.strip())
        if assignment and not (dialect == "sh" and _has_more_words(assignment[2])):
            words = _words(assignment[2], dialect, variables)
            variables[assignment[1].lower() if dialect != "sh" else assignment[1]] = " ".join(
                " ".join(command) for command in words
            )
            continue
        commands += _words(line, dialect, variables)
    return commands


def _has_more_words(value: str) -> bool:
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "q", value.strip())
    return bool(re.search(r"\s", bare.split(" #")[0].strip()))


def _logical_lines(text: str, dialect: Dialect) -> list[str]:
    mark = {"sh": "\\", "cmd": "^", "powershell": "`"}[dialect]
    lines: list[str] = []
    joined = ""
    for line in text.splitlines():
        if _is_comment(line, dialect):
            continue
        stripped = line.rstrip()
        if stripped.endswith(mark):
            joined += stripped[: -len(mark)] + " "
            continue
        if lines and not joined and _OPTION.match(line.strip()):
            lines[-1] += " " + stripped  # the continuation mark was lost, as happens when pasting
            continue
        lines.append(joined + line)
        joined = ""
    return [*lines, joined] if joined.strip() else lines


def _is_comment(line: str, dialect: Dialect) -> bool:
    start = line.strip().lower()
    if dialect == "cmd":
        return start.startswith("::") or start.split(" ")[0] in ("rem", "@rem")
    return start.startswith("#")


def _words(line: str, dialect: Dialect, variables: dict[str, str]) -> list[list[str]]:
    """Split one logical line into commands and words."""
    commands: list[list[str]] = [[]]
    word: list[str] | None = None
    quote = ""
    quotes = '"' if dialect == "cmd" else "\"'"
    escape = {"sh": "\\", "cmd": "^", "powershell": "`"}[dialect]
    i = 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == quote:
                quote = ""
            elif (
                c == escape
                and dialect != "cmd"
                and quote == '"'
                and line[i + 1 : i + 2] in ('"', escape, "$", "`")
            ):
                i += 1
                _add(word, line[i])
            elif c in "$%" and quote != "'":
                value, i = _variable(line, i, dialect, variables)
                _add(word, value)
                continue
            else:
                _add(word, c)
        elif c in quotes:
            quote = c
            word = [] if word is None else word
        elif c == escape and i + 1 < len(line):
            i += 1
            word = [*(word or []), line[i]]
        elif c.isspace() or c in ";&|" or (c == "#" and word is None and dialect != "cmd"):
            if word is not None:
                commands[-1].append("".join(word))
                word = None
            if c == "#":
                break
            if not c.isspace():
                commands.append([])
        elif c in "$%":
            value, i = _variable(line, i, dialect, variables)
            word = [*(word or []), value]
            continue
        else:
            word = [*(word or []), c]
        i += 1
    if quote:
        raise ImportRefusedError(f"has a quote ({quote}) that is not closed, after: {line.strip()[:40]}")
    if word is not None:
        commands[-1].append("".join(word))
    return [command for command in commands if command]


def _add(word: list[str] | None, text: str) -> None:
    if word is not None:
        word.append(text)


_REFERENCES: dict[Dialect, re.Pattern[str]] = {
    "sh": re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))"),
    "cmd": re.compile(r"%(\w+)%()"),
    "powershell": re.compile(r"\$(?:\{(\w+)\}|(?:env:)?([A-Za-z_]\w*))", re.IGNORECASE),
}


def _variable(line: str, at: int, dialect: Dialect, variables: dict[str, str]) -> tuple[str, int]:
    match = _REFERENCES[dialect].match(line, at)
    if match is None:
        return line[at], at + 1
    name = match[1] or match[2]
    known = variables.get(name if dialect == "sh" else name.lower())
    return (known if known is not None else f"${{{name}}}"), match.end()
