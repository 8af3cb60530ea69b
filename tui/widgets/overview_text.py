"""What the overview says of a run, as lines of text; no terminal is needed to make them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from tui.runs.status import is_live, look
from tui.text import clip, duration, fit, number, one_line, pace, size

if TYPE_CHECKING:
    from backend.runs.insight import RunInsight
    from backend.runs.notes import Notes
    from backend.runs.timeline import Entry
    from tui.widgets.run_header import RunFacts

_LABEL = 10
_GLYPHS = {
    "status": ("●", ""),
    "phase": ("…", "dim"),
    "attempt": ("▶", "$text-primary"),
    "moved": ("⇄", "$text-warning"),
    "checkpoint": ("◆", "$text-success"),
    "samples": ("▣", ""),
    "asked": ("»", "$text-accent"),
    "warning": ("!", "$text-warning"),
    "error": ("✗", "$text-error"),
}
"""How what happened looks: a glyph and a colour."""


@dataclass(frozen=True)
class Overview:
    """A run at one moment.

    Attributes:
        facts: What the monitor's header knows.
        insight: What its events tell beside that.
        notes: What the user wrote on it.
    """

    facts: RunFacts
    insight: RunInsight
    notes: Notes


def overview_lines(overview: Overview, width: int) -> list[Content]:
    """The lines over the timeline, each at most ``width`` cells wide; what to do is never cut off."""
    room = max(10, width - _LABEL)
    found = []
    for line in _lines(overview):
        label, text = line[:_LABEL], line[_LABEL:]
        for part in text.wrap(room) or [text]:
            found.append(Content.assemble(label, part))
            label = Content(" " * _LABEL)
    return found


def _line(label: str, text: str, style: str = "") -> Content:
    return Content.assemble((fit(label, _LABEL), "dim"), (one_line(text), style))


def _lines(overview: Overview) -> Iterator[Content]:
    facts = overview.facts
    view, row = facts.view, facts.row
    glyph, style = look(facts.status)
    reason = f": {facts.reason}" if facts.reason else ""
    yield _line("Status", f"{glyph} {facts.status}{reason}", f"bold {style}")
    phase = view.phase if is_live(facts.status) else None
    if phase:
        count = f" {view.phase_done}/{view.phase_total}" if view.phase_total else ""
        yield _line("Phase", f"{phase}{count}")
    yield _line("Step", _steps(overview))
    yield _line("Time", _time(overview))
    device = view.device or (facts.place.where if facts.place is not None else row.backend)
    parts = [device]
    if view.gpu is not None and is_live(facts.status):
        parts.append(f"{100 * view.gpu:.0f} % busy")
    if view.memory:
        parts.append(f"{size(view.memory)} at the peak")
    yield _line("Device", " · ".join(parts))
    yield _line("Cost", _cost(facts))
    yield from _learning(overview)
    yield from _watchdog(facts)
    notes = overview.notes
    tags = " ".join(f"#{tag}" for tag in notes.tags)
    if tags or notes.archived:
        yield _line("Tags", " · ".join(part for part in (tags, "archived" * notes.archived) if part))
    yield _line("Note", notes.note or "none; press n to write one", "" if notes.note else "dim")


def _steps(overview: Overview) -> str:
    view, total = overview.facts.view, overview.facts.steps
    parts = [f"{view.step} of {total} ({100 * view.step // total} %)" if total else str(view.step)]
    if view.loss is not None:
        parts.append(f"loss {number(view.smoothed)}")
    if view.validation is not None:
        parts.append(f"validation {number(view.validation.loss)}")
    seconds = overview.insight.eta.seconds_per_step or view.seconds_per_step
    if seconds and is_live(overview.facts.status):
        parts.append(pace(seconds))
    return " · ".join(parts)


def _time(overview: Overview) -> str:
    facts = overview.facts
    if not is_live(facts.status):
        end = max(facts.view.updated, facts.row.updated)
        return f"took {duration(max(0.0, end - facts.row.created))}"
    elapsed = f"{duration(max(0.0, facts.now - facts.row.created))} elapsed"
    left = overview.insight.eta.left(facts.steps)
    if left is None:
        return f"{elapsed} · the time left is not known yet"
    done_at = time.strftime("%H:%M", time.localtime(facts.now + left.seconds))
    sure = f" ± {duration(left.plus_minus)}" if left.plus_minus >= 1 else ""
    return f"{elapsed} · {duration(left.seconds)}{sure} left · done at about {done_at}"


def _cost(facts: RunFacts) -> str:
    place = facts.place
    if place is None or place.dollars is None:
        return "nothing: it trains on this machine" if facts.row.backend == "local" else "not known yet"
    parts = [f"${place.dollars:,.2f} so far"]
    if place.projected is not None and is_live(facts.status):
        parts.append(f"about ${place.projected:,.2f} at the end")
    if place.rate is not None:
        parts.append(f"${place.rate:,.2f} an hour")
    parts.append("no limit" if place.budget is None else f"stops at ${place.budget:,.2f}")
    return " · ".join(parts)


def _learning(overview: Overview) -> Iterator[Content]:
    found = overview.insight.signals.found()
    if not found:
        yield _line("Learning", "nothing odd in its curves", "dim")
    for signal in found:
        style = "bold $text-error" if signal.is_urgent else "bold $text-warning"
        yield _line("Learning", f"! {signal.kind}: {signal.text}", style)
        yield _line("", signal.hint)


def _watchdog(facts: RunFacts) -> Iterator[Content]:
    from backend.runs.watchdog import alarms

    place = facts.place
    dollars, budget = (place.dollars, place.budget) if place is not None else (None, None)
    for alarm in alarms(facts.view, facts.status, facts.now, dollars=dollars, budget=budget):
        yield _line("Watchdog", f"! {alarm.kind}: {alarm.text}", "bold $text-error")
        yield _line("", alarm.hint)


def entry_line(entry: Entry) -> Content:
    """One line of the timeline."""
    glyph, style = _GLYPHS.get(entry.kind, ("·", ""))
    clock = time.strftime("%m-%d %H:%M:%S", time.localtime(entry.t))
    return Content.assemble(
        (clock, "dim"),
        (f"  {entry.step:>7}  ", "dim"),
        (f"{glyph} {fit(entry.kind, 10)} ", style),
        clip(entry.text, 400),
    )
