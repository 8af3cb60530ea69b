"""What the monitor says of the place where a run trains: the connection, whether one may leave, the cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.content import Content

from backend.cost import dollars
from tui.text import clip, duration, one_line, size

if TYPE_CHECKING:
    from backend.launchers.base import RunFacts

PATIENCE = 60.0
"""Seconds that a GPU is waited for before others are offered."""

_IN_BYTES = frozenset({"uploading", "downloading base model"})
_WAITING = "waiting for a GPU"


def progress_words(phase: str, done: int, total: int, seconds: float | None = None) -> str:
    """How far a phase is: ``uploading 1.2 MiB/4.0 MiB``, ``caching latents 3/12``, ``building image… 40s``.

    Args:
        phase: Its name.
        done: Units done.
        total: Units in all, 0 if unknown.
        seconds: How long it has taken; None where that is no news.
    """
    if total and phase in _IN_BYTES:
        return f"{phase} {size(done)}/{size(total)}"
    if total:
        return f"{phase} {done}/{total}"
    return f"{phase}…" if seconds is None else f"{phase}… {duration(seconds)}"


def is_waiting(phase: str | None) -> bool:
    """Whether the run waits for a GPU."""
    return phase == _WAITING


def cost_words(place: RunFacts, *, live: bool) -> list[str]:
    """So far, in the end, at the most; nothing where it costs nothing."""
    if place.dollars is None:
        return [f"up to {dollars(place.rate)}/h"] if live and place.rate else []
    if not live:
        return [f"cost {dollars(place.dollars)}"]
    words = [f"{dollars(place.dollars)} so far"]
    if place.projected is not None:
        words.append(f"about {dollars(place.projected)} in the end")
    if place.budget is not None:
        words.append(f"stops at {dollars(place.budget)}")
    return words


def place_line(place: RunFacts, *, live: bool, width: int) -> Content:
    """Whether this machine may be switched off, and the cost; empty for a run of this machine."""
    if not place.remote:
        return Content("")
    words: list[tuple[str, str]] = []
    if live:
        safe = ("yes", "$text-success") if place.safe_to_close else ("not yet", "$text-warning")
        words = [("safe to close: ", ""), safe]
    for text in cost_words(place, live=live):
        words += [(" · ", "")] if words else []
        words.append((text, ""))
    if not live and place.folder:
        words += [(" · ", "")] if words else []
        words.append((f"on Modal: {one_line(place.folder)}", "dim"))
    line = Content.assemble(*words)
    return line.truncate(width, ellipsis=True) if line.cell_length > width else line


def offline_line(place: RunFacts, width: int) -> Content:
    """The banner while Modal cannot be reached: it is the connection that is down, not the run."""
    since = f" since {time.strftime('%H:%M', time.localtime(place.link_since))}" if place.link_since else ""
    what = (
        "the run continues on Modal; reconnecting"
        if place.safe_to_close
        else "the launch goes on when Modal can be reached"
    )
    text = f"offline{since}: {what}"
    why = one_line(place.link_why)
    if why and len(text) + len(why) + 3 <= width:
        text = f"{text} ({why})"
    return Content.styled(clip(text, width), "bold $text-warning")
