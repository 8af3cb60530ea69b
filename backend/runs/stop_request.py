"""Why a run is asked to stop: the content of its ``state/stop``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from backend.files import write_json

Why = Literal["user", "preempted", "budget", "cancelled"]

BUDGET_USED_UP = "the budget of this run is used up; resume it with a larger one"
PREEMPTED = "preempted; goes on by itself in a new container"

_LENGTH = 500  # characters of a reason that are kept


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request to save and stop.

    Attributes:
        why: ``user``: somebody asked. ``preempted``: the machine is taken away, and the run goes on
            elsewhere by itself. ``budget``: it may cost no more. ``cancelled``: it was ended from outside
            the app.
        reason: A sentence for people; empty for the usual one.
    """

    why: Why = "user"
    reason: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the run goes on by itself."""
        return self.why == "preempted"

    @property
    def sentence(self) -> str:
        """What the run's last status says; empty if only where it stopped is worth saying."""
        usual = {
            "budget": BUDGET_USED_UP,
            "preempted": PREEMPTED,
            "cancelled": "cancelled from outside the app",
        }
        return self.reason or usual.get(self.why, "")


def write_stop(file: Path, request: StopRequest) -> None:
    """Ask the run whose stop file this is to save and stop.

    Raises:
        OSError: It cannot be written.
    """
    write_json(file, {"why": request.why, "reason": request.reason})


def read_stop(file: Path) -> StopRequest | None:
    """The request in a stop file; None without one. An empty or foreign file is a person's wish."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return StopRequest() if file.exists() else None
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return StopRequest()
    if not isinstance(fields, dict):
        return StopRequest()
    reasons: tuple[Why, ...] = get_args(Why)
    why: Why = next((known for known in reasons if known == fields.get("why")), "user")
    reason = fields.get("reason")
    return StopRequest(why, " ".join(reason.split())[:_LENGTH] if isinstance(reason, str) else "")
