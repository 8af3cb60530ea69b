"""The lines over the monitor: where the run stands, how fast it goes, when it will be done, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from textual.content import Content
from textual.widget import Widget

from tui.runs.place import place_name, place_text
from tui.runs.status import RESUMABLE, is_live, look
from tui.text import bar, clip, duration, number, one_line, pace, plural, size
from tui.widgets.place_line import PATIENCE, is_waiting, offline_line, place_line, progress_words

if TYPE_CHECKING:
    from backend.launchers.base import RunFacts as PlaceFacts
    from backend.runs.view import RunView
    from tui.services import RunRow

_COUNTED = ("training", "captioning")  # phases whose units the bar counts
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
        place: What its launcher knows of the place where it trains; None until that was asked.
        phase_since: When the present phase began, seconds since 1970.
        asked: What the trainer was asked for and has not answered yet, as a sentence.
        other_gpus: GPUs that it does not wait for and could.
    """

    row: RunRow
    view: RunView
    status: str
    reason: str | None
    now: float
    saved: int | None = None
    place: PlaceFacts | None = None
    phase_since: float | None = None
    asked: str = ""
    other_gpus: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Updates of the whole run, 0 if unknown."""
        return self.view.steps or self.row.steps

    def first_line(self, width: int) -> Content:
        """Status and name; then where."""
        glyph, style = look(self.status)
        head = Content.styled(f"{glyph} {self.status}", f"bold {style}")
        where = [fact(self.row.id, 3, "dim")]
        if self.place is not None and self.place.remote:
            where.append(fact(place_text(self.place.where), 1, "dim"))
        else:
            where.append(fact(place_name(self.row.backend), 2, "dim"))
        if self.view.device and not (self.place is not None and self.place.remote):
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
        counts_steps = not doing or doing in _COUNTED or view.step > 0
        if counts_steps:
            done, total = view.step, self.steps
            unit = "picture" if self.row.kind == "caption" else "step"
            label = f"{unit} {done}/{total}" if total else f"{unit} {done}"
        else:
            done, total = view.phase_done, view.phase_total
            label = progress_words(doing or "", done, total, self._phase_seconds)
        facts = [fact(label)]
        if total:
            facts.append(fact(f"{100 * done // total} %", 3))
        if is_live(self.status):
            if counts_steps and doing and doing not in _COUNTED:
                inner = progress_words(doing, view.phase_done, view.phase_total)
                facts.append(fact(inner.removesuffix("…"), 1, "bold"))
            if view.eta is not None:
                facts.append(fact(f"{duration(view.eta)} left", 0, "bold"))
            if view.seconds_per_step:
                facts.append(fact(pace(view.seconds_per_step), 2))
        text = join_facts(facts, max(10, width - 12))
        filled, rest = bar(done / total if total else 0.0, width - text.cell_length - 2)
        style = look(self.status).style
        style = "$text-primary" if style == "dim" and filled else style  # a launch that has got somewhere
        return Content.assemble((filled, style), (rest, "dim"), "  ", text)

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
            if view.gpu is not None and is_live(self.status):
                facts.append(fact(f"GPU {100 * view.gpu:.0f} % busy", 3))
        end = self.now if is_live(self.status) else max(view.updated, self.row.updated)
        facts.append(fact(f"{duration(max(0.0, end - self.row.created))} elapsed", 1))
        if view.attempt > 1:
            facts.append(fact(f"attempt {view.attempt}", 7))
        if view.warnings:
            facts.append(fact(plural(len(view.warnings), "warning"), 4, "$text-warning"))
        return join_facts(facts, width)

    @property
    def _phase_seconds(self) -> float | None:
        """How long the present phase has taken, where somebody waits for something far away."""
        if self.place is None or not self.place.remote or self.phase_since is None:
            return None
        return max(0.0, self.now - self.phase_since)

    @property
    def offers_gpus(self) -> bool:
        """Whether it has waited for a GPU so long that others are offered."""
        return bool(
            self.other_gpus and is_waiting(self.view.phase) and (self._phase_seconds or 0.0) > PATIENCE
        )

    def cloud_line(self, width: int) -> Content:
        """Whether one may leave, and the cost; empty for a run of this machine."""
        if self.place is None:
            return Content("")
        return place_line(self.place, live=is_live(self.status), width=width)

    def last_line(self, width: int) -> Content:
        """Why a run stands and what to do, or the most urgent remark on one that goes."""
        if is_live(self.status):
            if self.place is not None and not self.place.online:
                return offline_line(self.place, width)
            if self.offers_gpus:
                text = f"no GPU for {duration(self._phase_seconds or 0)}: press a to try "
                return Content.styled(
                    clip(f"{text}{' and '.join(self.other_gpus)} too", width), "$text-warning"
                )
            if self.asked:
                return Content.styled(clip(self.asked, width), "$text-accent")
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
    """Three to five lines of :class:`RunFacts`."""

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
        height = len(self._lines(facts, 80))
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
        return Content("\n").join(self._lines(facts, width))

    @staticmethod
    def _lines(facts: RunFacts, width: int) -> list[Content]:
        """The last two are there only when they say something: at 80x24 the panes need the room."""
        always = [facts.first_line(width), facts.progress_line(width), facts.numbers_line(width)]
        return always + [line for line in (facts.cloud_line(width), facts.last_line(width)) if line]
