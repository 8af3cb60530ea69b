"""How a container's output carries events and numbered log lines; both sides use this module.

A line of standard output is one of

- ``@@{...}``: an event of the trainer, exactly as it stands in ``events.jsonl``;
- ``@@s{...}``: an event of the sampler container, as in ``state/sampler.jsonl``;
- ``[2.17] text``: line 17 of the log of container 2 of the run;
- anything else: Modal's own words, or those of Python before our code had its say.

Nothing but the standard library is behind it: this runs in the container before anything else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from backend.events import CONTAINER_STRIDE

EVENT, SAMPLER_EVENT = "@@{", "@@s{"

SEQ_STRIDE = CONTAINER_STRIDE
"""Container ``n`` of a run numbers its events from ``n * SEQ_STRIDE + 1`` on."""

MAX_LINE = 16_000
"""Characters of a log line that are kept; the rest of a longer one is cut."""

_LINE = re.compile(r"\[(\d{1,6})\.(\d{1,12})\] ?")


@dataclass(frozen=True)
class EventLine:
    """An event, as JSON text; ``sampler`` tells whose."""

    json: str
    sampler: bool = False


@dataclass(frozen=True)
class LogLine:
    """A line of the log of container ``boot``, counted from 1."""

    boot: int
    number: int
    text: str


@dataclass(frozen=True)
class ForeignLine:
    """A line that our code did not print."""

    text: str


def clean_line(raw: str) -> str:
    """A log line as it is kept: what a progress bar showed last, without its end, not too long."""
    text = raw.rstrip("\r\n")
    if "\r" in text:
        text = text.rsplit("\r", 1)[1]
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + "…"


def log_line(boot: int, number: int, text: str) -> str:
    """A cleaned log line as it is printed, with its newline."""
    return f"[{boot}.{number}] {text}\n"


def event_line(json_text: str, *, sampler: bool = False) -> str:
    """An event's JSON as it is printed, with its newline."""
    return f"@@{'s' if sampler else ''}{json_text.strip()}\n"


def parse(line: str) -> EventLine | LogLine | ForeignLine:
    """What a line of a container's output is; its newline may be there or not."""
    line = line.rstrip("\r\n")
    if line.startswith(EVENT):
        return EventLine(line[2:])
    if line.startswith(SAMPLER_EVENT):
        return EventLine(line[3:], sampler=True)
    if found := _LINE.match(line):
        return LogLine(int(found[1]), int(found[2]), line[found.end() :])
    return ForeignLine(line)
