"""How a run's status looks: a glyph, a word and a colour, so that none is needed alone."""

from __future__ import annotations

from typing import NamedTuple

# Plain strings, equal to backend.events.Status members: the first paint needs no backend.
ENDED = frozenset({"stopped", "finished", "failed", "interrupted"})
RESUMABLE = frozenset({"stopped", "failed", "interrupted"})


class StatusLook(NamedTuple):
    """A status on the screen; ``style`` is a Textual style string."""

    glyph: str
    style: str


_LOOKS = {
    "queued": StatusLook("○", "dim"),
    "starting": StatusLook("◌", "$text-primary"),
    "training": StatusLook("●", "$text-primary"),
    "captioning": StatusLook("●", "$text-primary"),
    "stopping": StatusLook("◍", "$text-warning"),
    "stopped": StatusLook("■", "$text-warning"),
    "finished": StatusLook("✓", "$text-success"),
    "failed": StatusLook("✗", "$text-error"),
    "interrupted": StatusLook("!", "$text-error"),
}
_UNKNOWN = StatusLook("?", "dim")


def look(status: str) -> StatusLook:
    """The look of ``status``; a neutral one for a status of a newer version."""
    return _LOOKS.get(status, _UNKNOWN)


def is_live(status: str) -> bool:
    """Whether the run goes on by itself."""
    return status not in ENDED
