"""The lines over the monitor: where the run stands, how fast it goes, when it will be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from textual.content import Content
from textual.widget import Widget

from tui.status import RESUMABLE, is_live, look
from tui.text import bar, clip, duration, number, one_line, pace, plural, size

if TYPE_CHECKING:
    from backend.runs.view import RunView
    from tui.services import RunRow

_SEPARATOR = " · "
_NAME_LEAST = 12  # cells that a name keeps, whatever else there is to say


class Fact(NamedTuple):
    """A few words of a line; the facts of the highest ``rank`` go first when it gets narrow."""

    text: Content
    rank: int = 0


def fact(text: str, rank: int = 0, style: str = "") -> Fact:
    """A fact of plain text."""
    return Fact(Content.styled(one_line(text), style), rank)


def join_facts(facts: Sequence[Fact], width: int) -> Content:
    """As many facts as fit into ``width`` cells, in their order."""
    kept = list(facts)
    while True:
        line = Content(_SEPARATOR).join(item.text for item in kept)
        droppable = [item for item in kept if item.rank]
        if line.cell_length <= width or not droppable:
            return line.truncate(width, ellipsis=True) if line.cell_length > width else line
        kept.remove(max(reversed(droppable), key=lambda item: item.rank))


@dataclass(frozen=True)
class RunFacts:
    """What the header shows.

    Attributes:
        row: The run in the table of runs.
        view: What its events add up to.
        status: Its status, corrected by what is known of its process.
        reason: The sentence that goes with it.
        now: Seconds since 1970.
        saved: The step that a resume would go on from; None if that is not known.
    """

    row: RunRow
    view: RunView
    status: str
    reason: str | None
    now: float
    saved: int | None = None

    @property
    def steps(self) -> int:
        """Updates of the whole run, 0 if unknown."""
        return self.view.steps or self.row.steps

    def first_line(self, width: int) -> Content:
        """Status and name; then where."""
        glyph, style = look(self.status)
        head = Content.styled(f"{glyph} {self.status}", f"bold {style}")
        where = [fact(self.row.id, 3, "dim"), fact(self.row.backend, 2, "dim")]
        if self.view.device:
            where.append(fact(self.view.device, 1, "dim"))
        room = width - head.cell_length - 2
        tail = join_facts(where, max(0, room - _NAME_LEAST - 2))
        name = Content.styled(clip(self.row.name, max(1, room - tail.cell_length - 2)), "bold")
        gap = width - head.cell_length - name.cell_length - tail.cell_length - 2
        return Content.assemble(head, "  ", name, " " * max(0, gap), tail)

    def progress_line(self, width: int) -> Content:
        """A bar and what it counts, with the time left."""
        view = self.view
        doing = view.phase if is_live(self.status) else None
        counts_steps = not doing or doing == "training" or view.step > 0
        if counts_steps:
            done, total = view.step, self.steps
            label = f"step {done}/{total}" if total else f"step {done}"
        else:
            done, total = view.phase_done, view.phase_total
            label = f"{doing} {done}/{total}" if total else f"{doing}…"
        facts = [fact(label)]
        if total:
            facts.append(fact(f"{100 * done // total} %", 3))
        if is_live(self.status):
            if counts_steps and doing and doing != "training":
                inner = f" {view.phase_done}/{view.phase_total}" if view.phase_total else ""
                facts.append(fact(f"{doing}{inner}", 1, "bold"))
            if view.eta is not None:
                facts.append(fact(f"{duration(view.eta)} left", 0, "bold"))
            if view.seconds_per_step:
                facts.append(fact(pace(view.seconds_per_step), 2))
        text = join_facts(facts, max(10, width - 12))
        filled, rest = bar(done / total if total else 0.0, width - text.cell_length - 2)
        return Content.assemble((filled, look(self.status).style), (rest, "dim"), "  ", text)

    def numbers_line(self, width: int) -> Content:
        """Loss and the like; for a run that stands still: why, and what to do."""
        view = self.view
        facts = []
        if view.loss is not None and view.lr is not None:
            smoothed = f" (smoothed {number(view.smoothed)})" if view.smoothed is not None else ""
            facts.append(fact(f"loss {number(view.loss)}{smoothed}"))
            if view.validation is not None:
                facts.append(fact(f"validation {number(view.validation.loss)}", 2))
            facts.append(fact(f"lr {view.lr:.3g}", 3))
            if view.grad_norm is not None:
                facts.append(fact(f"grad {number(view.grad_norm)}", 5))
            facts.append(fact(f"epoch {view.epoch}", 6))
            if view.memory:
                facts.append(fact(f"memory {size(view.memory)}", 2))
        end = self.now if is_live(self.status) else max(view.updated, self.row.updated)
        facts.append(fact(f"{duration(max(0.0, end - self.row.created))} elapsed", 1))
        if view.attempt > 1:
            facts.append(fact(f"attempt {view.attempt}", 7))
        if view.warnings:
            facts.append(fact(plural(len(view.warnings), "warning"), 4, "$text-warning"))
        return join_facts(facts, width)

    def last_line(self, width: int) -> Content:
        """Why a run stands and what to do, or the newest warning of one that goes."""
        if is_live(self.status):
            if self.view.warnings:
                return Content.styled(clip(f"! {self.view.warnings[-1].message}", width), "$text-warning")
            return Content(clip(self.view.phase_detail or self.reason or "", width))
        style = look(self.status).style
        reason = one_line(self.reason or "")
        if self.status in RESUMABLE:
            todo = "press r to resume" + (f" from step {self.saved}" if self.saved else "")
            reason = clip(reason, max(0, width - len(todo) - len(_SEPARATOR)))
            return join_facts([fact(text, 0, style) for text in (reason, todo) if text], width)
        final = next((c for c in reversed(self.view.checkpoints) if c.final), None)
        if final is not None:
            return Content.styled(clip(f"LoRA: {self.row.path / final.path}", width), style)
        return Content.styled(clip(reason, width), style)


class RunHeader(Widget):
    """Three or four lines of :class:`RunFacts`."""

    DEFAULT_CSS = """
    RunHeader { height: 3; padding: 0 2; }
    """

    def __init__(self) -> None:
        super().__init__(id="header")
        self._facts: RunFacts | None = None
        self._empty = ""

    def show_facts(self, facts: RunFacts) -> None:
        """Show a run."""
        self._facts = facts
        # The fourth line is there only when it says something: at 80x24 the panes need the room.
        height = 4 if facts.last_line(80) else 3
        if self.styles.height is None or self.styles.height.value != height:
            self.styles.height = height
        self.refresh()

    def show_nothing(self, text: str) -> None:
        """Say why there is no run."""
        self._facts, self._empty = None, one_line(text)
        self.refresh()

    def render(self) -> Content:
        """The lines that fit into the width."""
        facts, width = self._facts, self.content_size.width
        if facts is None:
            return Content(self._empty)
        return Content("\n").join(
            (
                facts.first_line(width),
                facts.progress_line(width),
                facts.numbers_line(width),
                facts.last_line(width),
            )
        )
