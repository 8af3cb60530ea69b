"""The live table of runs: rows change in place, the cursor stays on its run."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets.option_list import Option

from tui.messages import RunChosen
from tui.widgets.rows import Rows, cursor_keys
from tui.widgets.run_row import RunLine, header

if TYPE_CHECKING:
    from textual.content import Content
    from textual.widgets import OptionList

    from tui.services import RunRow


def has_costs(runs: Sequence[RunRow]) -> bool:
    """Whether any of the runs has cost something."""
    return any(run.dollars is not None for run in runs)


class RunTableHeader(Widget):
    """The titles over the columns; as wide as the rows below."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    RunTableHeader { height: 1; padding: 0 2 0 1; }  /* the rows have a scroll bar on their right */
    """

    def __init__(self) -> None:
        super().__init__()
        self._costs = False

    def render(self) -> Content:
        """The titles that fit."""
        return header(self.content_size.width, costs=self._costs)

    def show_costs(self, costs: bool) -> None:
        """Have a column for costs, or none."""
        if costs != self._costs:
            self._costs = costs
            self.refresh()


class RunTable(Rows, inherit_bindings=False):
    """Runs, one a row. Enter or a click posts :class:`RunChosen`."""

    HELP: ClassVar[str] = (
        "All runs of this machine's data folder, newest first. A run goes on when the app is closed. "
        "The status is a mark and a word: `●` training, `✓` finished, `■` stopped, `✗` failed, "
        "`!` interrupted (its process is gone)."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Open", id="jobs.open", tooltip="Watch the run in the monitor."),
        *cursor_keys("jobs", "run", first=("Newest", "The newest run."), last=("Oldest", "The oldest run.")),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self._lines_shown: list[RunLine] = []

    @property
    def chosen_id(self) -> str | None:
        """The id of the run under the cursor."""
        option = self.highlighted_option
        return option.id if option is not None else None

    def show_runs(
        self,
        runs: Sequence[RunRow],
        now: float,
        *,
        marked: Container[str] = (),
        leads: Sequence[str] = (),
    ) -> None:
        """Bring the rows up to date.

        Args:
            runs: The runs, in the order to show.
            now: Seconds since 1970; ages are counted from its minute.
            marked: The ids of those that are marked.
            leads: What stands before each name; nothing if empty.
        """
        minute = now // 60 * 60 + 59  # so a run of less than a minute is "now" and rows change once a minute
        costs = has_costs(runs)
        lines = [
            RunLine(run, minute, costs, run.id in marked, lead)
            for run, lead in zip(runs, leads or [""] * len(runs), strict=True)
        ]
        if [line.run.id for line in lines] != [line.run.id for line in self._lines_shown]:
            self._replace_all(lines)
        else:
            for index, (old, new) in enumerate(zip(self._lines_shown, lines, strict=True)):
                if old != new:
                    self.replace_option_prompt_at_index(index, new)
        self._lines_shown = lines

    def _replace_all(self, lines: list[RunLine]) -> None:
        chosen, index, top = self.chosen_id, self.highlighted, self.scroll_offset.y
        self.set_options([Option(line, id=line.run.id) for line in lines])
        if not lines:
            return
        ids = [line.run.id for line in lines]
        at = ids.index(chosen) if chosen in ids else min(index or 0, len(ids) - 1)
        self.highlighted = at
        # Keep the chosen row where the eye is; at the very top new runs may push it down.
        if top:
            self.scroll_to(y=max(0, top + at - (index or 0)), animate=False, force=True, immediate=True)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which run was chosen."""
        event.stop()
        if event.option_id:
            self.post_message(RunChosen(event.option_id))
