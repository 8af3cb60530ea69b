"""Compare: the losses of several runs in one chart, and the keys that their configs do not agree on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.messages import OperationFailed
from tui.runs.status import look
from tui.screens.run_page import RunPage
from tui.text import clip, fit, number, plural
from tui.widgets.chart import Chart

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from backend.runs.compare import Difference
    from tui.services import RunRow

_LETTERS = "abcdefgh"  # those that the chart gives its curves, in the same order
MOST = len(_LETTERS)
"""Runs that can be told apart in one chart."""
_KEY = 28  # cells for a config's key


@dataclass(frozen=True)
class _Loaded:
    curves: list[tuple[list[float], list[float]]]
    differences: list[Difference]
    problems: list[str]


class CompareScreen(RunPage):
    """Runs side by side.

    Args:
        runs: Two to :data:`MOST` of them.
    """

    AUTO_FOCUS = "#differences"
    HELP: ClassVar[str] = "Each run has a letter: in the list, in the chart's legend, over the columns below."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r,f5", "reload", "Read again", id="compare.reload", tooltip="Read the runs again."),
        Binding("Y", "copy", "Copy", id="compare.copy",
                tooltip="Copy the differences, tab-separated, for a spreadsheet."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    CompareScreen #runs-compared { height: auto; }
    CompareScreen #curves { height: 1fr; min-height: 6; }
    CompareScreen #columns { height: 1; color: $text-muted; }
    CompareScreen #differences { height: 1fr; min-height: 3; }
    """

    def __init__(self, runs: Sequence[RunRow]) -> None:
        self._runs = list(runs[:MOST])
        self._name_width = max(len(clip(run.name, 40)) for run in self._runs)
        super().__init__(f"Compare {plural(len(self._runs), 'run')}")
        self._differences: list[Difference] = []

    def compose_page(self) -> Iterable[Widget]:
        """The runs, their curves, their configs."""
        yield Static(Content("\n").join(map(self._run_line, range(len(self._runs)))), id="runs-compared")
        yield Chart(x_label="step", y_label="loss", placeholder="reading…", id="curves")
        yield Static(id="columns", markup=False)
        yield OptionList(id="differences", markup=False)

    def _run_line(self, place: int) -> Content:
        run = self._runs[place]
        glyph, style = look(run.status)
        return Content.assemble(
            (f"{_LETTERS[place]} ", "bold"),
            (fit(f"{glyph} {run.status}", 13), style),
            f" {fit(run.name, self._name_width)}  ",
            (f"{run.id} · step {run.step}/{run.steps} · loss {number(run.loss)}", "dim"),
        )

    def on_mount(self) -> None:
        """Read the runs."""
        self.query_one("#curves").border_title = "Loss"
        self._load()

    def on_resize(self, event: events.Resize) -> None:
        """Columns are as wide as there is room."""
        self._show_differences()

    @work(exclusive=True, group="compare", exit_on_error=False)
    async def _load(self) -> None:
        try:
            loaded = await asyncio.to_thread(_read, self._runs)
        except Exception as error:
            self.post_message(
                OperationFailed("The runs cannot be compared", str(error) or type(error).__name__)
            )
            return
        chart = self.query_one("#curves", Chart)
        chart.clear()
        chart.placeholder = "no steps yet"
        for place, (steps, losses) in enumerate(loaded.curves):
            curve = chart.add_series(_LETTERS[place], clip(self._runs[place].name, 16))
            curve.extend(steps, losses)
        self._differences = loaded.differences
        self._show_differences()
        count = len(loaded.differences)
        said = f"the configs differ in {plural(count, 'key')}" if count else "the configs are the same"
        self.say(" · ".join(loaded.problems) or said)

    def _show_differences(self) -> None:
        if not self.is_mounted:
            return
        width = max(30, self.size.width - 5)
        column = max(8, (width - _KEY) // len(self._runs) - 2)
        titles = "".join(f"  {fit(_LETTERS[place], column)}" for place in range(len(self._runs)))
        self.query_one("#columns", Static).update(Content(fit("Config", _KEY) + titles))
        listing = self.query_one("#differences", OptionList)
        before = listing.highlighted
        listing.set_options(
            Option(
                Content.assemble(
                    (fit(one.key.removeprefix("config.process[0]."), _KEY), "bold"),
                    *(f"  {fit(value, column)}" for value in one.values),
                )
            )
            for one in self._differences
        )
        if self._differences:
            listing.highlighted = min(before or 0, len(self._differences) - 1)

    def action_reload(self) -> None:
        """Read the runs again."""
        self._load()

    def action_copy(self) -> None:
        """Copy the differences."""
        head = ["key", *(run.name for run in self._runs)]
        rows = [head, *([one.key, *one.values] for one in self._differences)]
        self.app.copy_to_clipboard(
            "\n".join("\t".join(" ".join(cell.split()) for cell in row) for row in rows)
        )
        self.say("copied, where the terminal allows it")


def _read(runs: Sequence[RunRow]) -> _Loaded:
    from backend.runs.compare import differences, loss_curve, read_config, read_events

    curves = [loss_curve(read_events(run.path)) for run in runs]
    configs, problems = [], []
    for run in runs:
        try:
            configs.append(read_config(run.path))
        except ValueError as error:
            configs.append({})
            problems.append(str(error))
    return _Loaded(curves, differences(configs), problems)
