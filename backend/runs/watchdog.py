"""Whether a run that says it is going on really is: no number, no step, no word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from backend.events import Phase, Status
from backend.runs.view import RunView

Kind = Literal["nan", "stall", "silence", "budget"]

_STALL_STEPS = 20  # usual steps without one: it hangs
_STALL_LEAST = 60.0  # seconds; a step of milliseconds may well be late
_SILENCE = 600.0  # seconds without any word
_PATIENT = frozenset({Phase.WAITING, Phase.BUILDING, Phase.DOWNLOADING, Phase.UPLOADING, Phase.COMPILING})
_BUDGET = 0.9  # of the budget


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that somebody should look at.

    Attributes:
        kind: Which.
        text: What is the matter, as a sentence.
        hint: What to do, as a sentence.
    """

    kind: Kind
    text: str
    hint: str


def alarms(
    view: RunView,
    status: str,
    now: float,
    *,
    dollars: float | None = None,
    budget: float | None = None,
) -> list[Alarm]:
    """What is the matter with a run now; nothing with one that has ended.

    Args:
        view: What its events add up to.
        status: Its status, corrected by what is known of its process.
        now: Seconds since 1970.
        dollars: What it has cost so far.
        budget: Dollars at which it is stopped.
    """
    if status in _ENDED:
        return []
    found = []
    if view.loss is not None and not math.isfinite(view.loss):
        found.append(
            Alarm("nan", f"The loss of step {view.step} is not a number.", "Stop it: it learns nothing more.")
        )
    quiet = now - view.updated if view.updated else 0.0
    if view.phase == Phase.TRAINING and view.seconds_per_step is not None:
        patience = max(_STALL_LEAST, _STALL_STEPS * view.seconds_per_step)
        if quiet > patience:
            found.append(
                Alarm(
                    "stall",
                    f"No step for {_minutes(quiet)}; one takes {view.seconds_per_step:.1f} s.",
                    "Look at the end of its log; stop it at once if it hangs, and resume it.",
                )
            )
    elif view.phase not in _PATIENT and quiet > _SILENCE:
        found.append(
            Alarm(
                "silence",
                f"It has said nothing for {_minutes(quiet)}.",
                "Look at the end of its log, and at the connection.",
            )
        )
    if dollars is not None and budget and dollars >= _BUDGET * budget:
        found.append(
            Alarm(
                "budget",
                f"${dollars:,.2f} of the budget of ${budget:,.2f} is spent.",
                "It saves and stops there; a larger budget can be set when it is resumed.",
            )
        )
    return found


_ENDED = frozenset(str(status) for status in Status if status.ended)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
