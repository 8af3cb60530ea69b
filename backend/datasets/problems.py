"""What is wrong with a dataset, as it is shown and printed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a problem matters: training fails or learns rubbish, likely a fault, good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a rule found.

    Attributes:
        file: Path relative to the dataset's folder with forward slashes; empty for the whole dataset.
        rule: Id of the rule.
        severity: How much it matters.
        message: What is wrong, as a clause about the file.
        fix: What mending it would do; None where there is no mending by itself.
    """

    file: str
    rule: str
    severity: Severity
    message: str
    fix: str | None = None

    def record(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return {
            "file": self.file,
            "rule": self.rule,
            "severity": str(self.severity),
            "message": self.message,
            "fix": self.fix,
        }
