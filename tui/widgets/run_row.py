"""How a run looks as one row of the table, at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from textual.content import Content

from tui.runs.place import is_stand_in, place_name
from tui.runs.status import is_live, look
from tui.text import age, bar, clip, duration, fit, number, one_line, pace
from tui.widgets.line_visual import LineVisual

if TYPE_CHECKING:
    from tui.services import RunRow

_GAP = "  "
_BAR = 8
_NAME_LEAST = 12


class Column(NamedTuple):
    """A column of the table; ``needed`` ones stay at any width, the others go one by one."""

    key: str
    title: str
    width: int
    right: bool = False
    needed: bool = False


_COLUMNS = (
    Column("status", "Status", 13, needed=True),
    Column("name", "Run", _NAME_LEAST, needed=True),
    Column("id", "Id", 8),
    Column("backend", "Where", 5),
    Column("cost", "Cost", 7, right=True),
    Column("progress", "Progress", _BAR + 13),
    Column("loss", "Loss", 7, right=True),
    Column("pace", "Speed", 12, right=True),
    Column("eta", "Left", 7, right=True),
    Column("age", "Age", 4, right=True),
)
_DROP = (
    "id",
    "backend",
    "pace",
    "cost",
    "age",
    "eta",
    "loss",
    "progress",
)  # in this order, when it gets narrow


def columns(width: int, *, costs: bool = False) -> list[Column]:
    """The columns that fit into ``width`` cells; the name takes what is left over.

    Args:
        width: Cells.
        costs: Whether any of the runs costs something.
    """
    shown = [column for column in _COLUMNS if costs or column.key != "cost"]
    if is_stand_in():
        shown = [c._replace(width=len(place_name("modal"))) if c.key == "backend" else c for c in shown]

    def total() -> int:
        return sum(column.width for column in shown) + len(_GAP) * (len(shown) - 1)

    for key in _DROP:
        if total() <= width:
            break
        shown = [column for column in shown if column.key != key]
    spare = max(0, width - total())
    return [c._replace(width=min(60, c.width + spare)) if c.key == "name" else c for c in shown]


def header(width: int, *, costs: bool = False) -> Content:
    """The titles over the columns."""
    titles = (_aligned(column.title, column) for column in columns(width, costs=costs))
    return Content.styled(_GAP.join(titles), "dim")


def _aligned(text: str, column: Column) -> str:
    return text.rjust(column.width) if column.right and len(text) <= column.width else fit(text, column.width)


@dataclass(frozen=True)
class RunLine(LineVisual):
    """One row; it lays itself out when it is drawn, so a resize needs nothing.

    Attributes:
        run: The run.
        now: Seconds since 1970, to the minute at best: equal lines need no repaint.
        costs: Whether any of the runs costs something.
        marked: Whether it is marked.
        lead: What stands before its name.
    """

    run: RunRow
    now: float
    costs: bool = False
    marked: bool = False
    lead: str = ""

    def content(self, width: int) -> Content:
        """The row as text."""
        cells = [self._cell(column) for column in columns(width, costs=self.costs)]
        return Content(_GAP).join(cells)

    def _name(self, width: int, style: str) -> Content:
        """The name between its mark and its tags; the tags have what room is left."""
        head = ("✱ " if self.marked else "") + self.lead
        name = clip(self.run.name, width - len(head))
        room = width - len(head) - cell_len(name) - 1
        tags = " ".join(f"#{one_line(tag)}" for tag in self.run.tags)
        if not tags or room < 4:
            return Content.assemble((head, "$text-accent"), (fit(self.run.name, width - len(head)), style))
        return Content.assemble((head, "$text-accent"), (name, style), " ", (fit(tags, room), "dim"))

    def _cell(self, column: Column) -> Content:
        run = self.run
        going = is_live(run.status)
        match column.key:
            case "status":
                glyph, style = look(run.status)
                return Content.styled(fit(f"{glyph} {run.status}", column.width), style)
            case "name":
                return self._name(column.width, "bold" if going else "")
            case "id":
                return Content.styled(fit(run.id, column.width), "dim")
            case "backend":
                return Content.styled(fit(place_name(run.backend), column.width), "dim")
            case "cost":
                return Content(_aligned("" if run.dollars is None else f"${run.dollars:,.2f}", column))
            case "progress":
                done, rest = bar(run.step / run.steps if run.steps else 0.0, _BAR)
                count = f" {run.step}/{run.steps}" if run.steps else f" {run.step}"
                return Content.assemble(
                    (done, look(run.status).style),
                    (rest, "dim"),
                    fit(count, column.width - _BAR),
                )
            case "loss":
                return Content(_aligned(number(run.loss), column))
            case "pace":
                speed = run.seconds_per_step if going else None
                return Content(_aligned(pace(speed) if speed else "", column))
            case "eta":
                speed = run.seconds_per_step if going and run.steps else None
                left = duration((run.steps - run.step) * speed) if speed else ""
                return Content(_aligned(left, column))
            case _:
                return Content.styled(_aligned(age(self.now - run.created), column), "dim")
