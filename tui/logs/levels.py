"""Words in a log line that say how serious it is, or what the trainer has begun."""

from __future__ import annotations

import re
from enum import StrEnum


class Level(StrEnum):
    """How serious a word in the log, or a line, is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Larger is more serious."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Level)}

_WORD = re.compile(
    r"\b(?:(?P<error>ERROR|CRITICAL|FATAL|Traceback|[A-Z][A-Za-z]*(?:Error|Exception)(?=:))"
    r"|(?P<warning>WARN(?:ING)?|[A-Z][A-Za-z]*Warning(?=:)))\b"
    r"|\b(?P<error2>(?i:error|fatal)(?=:))|\b(?P<warning2>(?i:warn(?:ing)?)(?=:))"
)
_TIME = re.compile(
    r"\[?(?:\d{4}-\d\d-\d\d[ T])?(\d\d):(\d\d):(\d\d)(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?(?: +|$)"
)
_CALM = re.compile(r"(?:\[?[\d:T.,Z+ -]*\]?)?\b(?:(DEBUG|TRACE)|(INFO|NOTICE))\b")
PHASES = (
    "checking",
    "uploading",
    "downloading base model",
    "building image",
    "waiting for a GPU",
    "starting container",
    "loading",
    "caching latents",
    "caching text",
    "compiling",
    "training",
    "sampling",
    "saving",
    "captioning",
)
"""What a run does, one after the other; the values of :class:`backend.events.Phase`."""

_NAMES = "|".join(sorted(map(re.escape, PHASES), key=len, reverse=True))
_PHASE = re.compile(rf"(?:{_TIME.pattern})?(?:INFO +)?({_NAMES})(?=$|: | \()")
_STEP = re.compile(r"\bstep (\d+)\b|[|:] +(\d+)/\d+ \[\d+:\d\d")


def level_words(text: str) -> list[tuple[int, int, Level]]:
    """The level words of a line: start, end (in characters) and level.

    ``ERROR``, ``WARNING`` and their like in capitals, ``error:`` and ``warning:`` in any case, and
    the names of Python exceptions and warnings before a colon.
    """
    return [
        (match.start(), match.end(), Level((match.lastgroup or "error").rstrip("2")))
        for match in _WORD.finditer(text)
    ]


def level_of(text: str) -> Level | None:
    """The level of a line: what it begins with, or its most serious level word; None without any."""
    calm = _CALM.match(text)
    if calm is not None:
        return Level.DEBUG if calm[1] else Level.INFO
    return max((level for _, _, level in level_words(text)), key=lambda level: level.rank, default=None)


def phase_span(text: str) -> tuple[int, int] | None:
    """Where a line that tells of a phase's beginning names it, in characters."""
    match = _PHASE.match(text)
    return match.span(4) if match is not None else None


def time_of(text: str) -> int | None:
    """The time of day at a line's beginning, in seconds since midnight."""
    match = _TIME.match(text)
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]) if match is not None else None


def time_width(text: str) -> int:
    """How many characters the date and time at a line's beginning take, the space after them included."""
    match = _TIME.match(text)
    return match.end() if match is not None else 0


def step_of(text: str) -> int | None:
    """The training step that a line tells of: ``step 12``, or tqdm's ``| 12/800 [00:12``."""
    match = _STEP.search(text)
    return int(match[1] or match[2]) if match is not None else None
