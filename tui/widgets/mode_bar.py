"""The line at the top: the app's name, its screens with their keys, and how many runs go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.content import Content
from textual.style import Style
from textual.widget import Widget

from tui.modes import MODE_TABLE
from tui.runs.place import LABEL, is_stand_in
from tui.runs.status import is_live
from tui.text import plural

if TYPE_CHECKING:
    from textual import events

    from tui.messages import RunsChanged


class ModeBar(Widget):
    """Shows where one is; a click on a title goes there."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    ModeBar {
        dock: top;
        height: 1;
        padding: 0 1;
        background: $panel;
        color: $foreground;
    }
    """

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current
        self._going = 0

    def show_runs(self, change: RunsChanged) -> None:
        """Count the runs that go on."""
        going = sum(is_live(run.status) for run in change.runs) if change.live else 0
        if going != self._going:
            self._going = going
            self.refresh()

    def render(self) -> Content:
        """The whole line in the fullest form that fits."""
        width = self.content_size.width
        brand = Content.styled("fluxlora", "bold $text-accent") + Content("  ")
        left = next(
            (form for form in (brand + self._titles(), self._titles()) if form.cell_length <= width),
            self._titles(numbers_only=True),
        )
        for right in self._right():
            gap = width - left.cell_length - right.cell_length
            if gap > 0:
                return Content.assemble(left, " " * gap, right)
        return left

    def _titles(self, *, numbers_only: bool = False) -> Content:
        """The screens; of those where one is not, only the keys if it is too narrow for more."""
        parts: list[Content] = []
        for mode in MODE_TABLE:
            here = mode.name == self._current
            shown = f"{mode.title} " if here or not numbers_only else ""
            title = Content.assemble(
                (f" {mode.key} ", "bold $text-accent" if here else "dim"), (shown, "bold" if here else "dim")
            )
            if here:
                title = title.stylize("underline", 3, 3 + len(mode.title))
            parts.append(title.stylize(Style.from_meta({"mode": mode.name})))
        return Content("").join(parts)

    def _right(self) -> Iterator[Content]:
        """What stands at the right: the fullest form first, for the one that fits to be taken."""
        label = Content.styled(LABEL, "$text-warning") if is_stand_in() else Content("")
        count = Content.styled(f"● {self._going}" if self._going else "", "$text-primary")
        going = Content.styled(
            f"● {plural(self._going, 'run')} going" if self._going else "", "$text-primary"
        )
        for parts in ((label, going), (label, count), (going,), (count,)):
            if shown := [part for part in parts if part]:
                yield Content("  ").join(shown)

    def on_click(self, event: events.Click) -> None:
        """Go to the screen whose title was hit."""
        if mode := event.style.meta.get("mode"):
            event.stop()
            self.call_later(self.app.run_action, f"app.go('{mode}')")
