"""Words in a log line that say how serious it is."""

from __future__ import annotations

import re
from enum import StrEnum


class Level(StrEnum):
    """How serious a word in the log is."""

    WARNING = "warning"
    ERROR = "error"


_WORD = re.compile(
    r"\b(?:(?P<error>ERROR|CRITICAL|FATAL|Traceback|[A-Z][A-Za-z]*(?:Error|Exception)(?=:))"
    r"|(?P<warning>WARN(?:ING)?|[A-Z][A-Za-z]*Warning(?=:)))\b"
    r"|\b(?P<error2>(?i:error|fatal)(?=:))|\b(?P<warning2>(?i:warn(?:ing)?)(?=:))"
)


def level_words(text: str) -> list[tuple[int, int, Level]]:
    """The level words of a line: start, end (in characters) and level.

    ``ERROR``, ``WARNING`` and their like in capitals, ``error:`` and ``warning:`` in any case, and
    the names of Python exceptions and warnings before a colon.
    """
    return [
        (match.start(), match.end(), Level((match.lastgroup or "error").rstrip("2")))
        for match in _WORD.finditer(text)
    ]
