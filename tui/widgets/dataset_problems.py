"""What is wrong with a dataset, worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from tui.text import clip, one_line, plural
from tui.widgets.pane_list import PaneList
from tui.widgets.picture_preview import MARKS, STYLES

if TYPE_CHECKING:
    from textual.widgets import OptionList

    from backend.datasets.problems import Problem

_MOST = 1000  # lines; after those are mended the others come up


class DatasetProblems(PaneList):
    """Problems; one is mended with a key where that is possible by itself."""

    HELP: ClassVar[str] = (
        "`✗` is an error: training fails, or learns rubbish. `!` is likely a fault, `·` good to know. "
        "A line that ends with `(f mends it)` can be mended by itself."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Go to", id="dataset-problems.open", tooltip="Go to the picture."),
        Binding("f", "fix(False)", "Mend", id="dataset-problems.fix", tooltip="Mend this one; asks first."),
        Binding(
            "F",
            "fix(True)",
            "Mend all such",
            id="dataset-problems.fix-all",
            tooltip="Mend all problems of this kind; asks first.",
        ),
    ]

    @dataclass
    class Picked(Message):
        """The user wants to see the file of a problem."""

        problem: Problem

    @dataclass
    class FixWanted(Message):
        """These are to be mended."""

        problems: list[Problem]

    def __init__(self) -> None:
        super().__init__(id="problems")
        self.border_title = "Problems"
        self._problems: list[Problem] = []

    def show_problems(self, problems: Sequence[Problem]) -> None:
        """Show these."""
        self.border_subtitle = plural(len(problems), "problem") if problems else "none found"
        if list(problems[:_MOST]) == self._problems:
            return
        self._problems = list(problems[:_MOST])
        self.show_lines([self._line(problem) for problem in self._problems])
        self.refresh_bindings()

    @staticmethod
    def _line(problem: Problem) -> Content:
        severity = str(problem.severity)
        where = clip(problem.file, 40) or "the dataset"
        return Content.assemble(
            (f"{MARKS[severity]} ", STYLES[severity]),
            (where, "bold"),
            " ",
            one_line(problem.message),
            (" (f mends it)" if problem.fix else "", "dim"),
        )

    @property
    def current(self) -> Problem | None:
        """The problem under the cursor."""
        at = self.highlighted
        return self._problems[at] if at is not None and at < len(self._problems) else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another line, other keys."""
        self.refresh_bindings()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go to its picture."""
        event.stop()
        if (problem := self.current) is not None:
            self.post_message(self.Picked(problem))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Mending is possible only where there is a way."""
        if action == "fix":
            return True if self.current is not None and self.current.fix else None
        return True

    def action_fix(self, all_such: bool) -> None:
        """Mend it, or all of its kind."""
        current = self.current
        if current is None:
            return
        wanted = [p for p in self._problems if p.fix and p.rule == current.rule] if all_such else [current]
        self.post_message(self.FixWanted(wanted))
