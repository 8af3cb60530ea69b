"""Problems found in a config, each with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

Severity = Literal["error", "warning", "info"]


class ProblemRecord(TypedDict):
    """A problem as ``check --json`` prints it."""

    severity: Severity
    key: str
    line: int | None
    column: int | None
    message: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a config.

    Attributes:
        severity: ``error`` prevents a launch; ``warning`` probably costs money or quality; ``info``
            tells what a key means here.
        key: Dotted path inside the process (``train.steps``) or from the top (``config.name``).
        message: What is wrong and what to do; reads on after the key.
        line: 1-based line in the file; None if the place is unknown, such as a ``--set`` value.
        column: 1-based column.
        code: What kind of problem it is, for :mod:`config.quickfix`: misspelt, misplaced, unread, missing,
            choice, bound, type, empty, needs_list, duplicate, tab, set or remove; empty for others.
        meant: What to put in its place: a key's path inside the process (misspelt), a section (misplaced),
            a value (choice, bound), or ``key=value`` (set).
    """

    severity: Severity
    key: str
    message: str
    line: int | None = None
    column: int | None = None
    code: str = ""
    meant: str | None = None

    def describe(self, file: str) -> str:
        """``file:line: key: message`` on one line, leaving out what is unknown."""
        place = file if self.line is None else f"{file}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"

    def record(self) -> ProblemRecord:
        """The problem as JSON-ready fields."""
        return {
            "severity": self.severity,
            "key": self.key,
            "line": self.line,
            "column": self.column,
            "message": self.message,
        }


class ConfigError(Exception):
    """A config cannot be used; carries every problem found, not only the first.

    Attributes:
        file: The config's path as the user gave it.
        problems: All problems, in the file's order.
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__("\n".join(p.describe(file) for p in self.problems if p.severity == "error"))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Problems sorted by place; those without one first, errors before warnings on one line."""
    rank = {"error": 0, "warning": 1, "info": 2}
    return sorted(problems, key=lambda p: (p.line or 0, rank[p.severity], p.column or 0, p.key))
