"""Overview: all about one run on a page, with what happened to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.screens.run_page import RunPage
from tui.text import clip
from tui.widgets.overview_text import Overview, entry_line, overview_lines

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

_TICK = 1.0


class RunOverviewScreen(RunPage):
    """What the monitor knows of its run.

    Args:
        run_id: The run.
        name: Its name.
        look: Gives its present state; None once the monitor has gone to another run.
    """

    AUTO_FOCUS = "#timeline"
    HELP: ClassVar[str] = (
        "The time left comes from when the last steps came, pauses included; ± holds the truth in 95 of 100 "
        "cases. A remark on learning is made only when the noise of the loss cannot explain what is seen."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "note", "Note", id="overview.note", tooltip="Write a note on the run."),
        Binding("t", "tags", "Tags", id="overview.tags",
                tooltip="Words to find it by; sweep:NAME puts runs together."),
        Binding("a", "archive", "Archive", id="overview.archive",
                tooltip="Put the run away, or take it back: it is kept, and left out of the list."),
        Binding("home,g", "first", "Oldest", show=False, id="overview.first", tooltip="What happened first."),
        Binding("end,G", "last", "Newest", show=False, id="overview.last", tooltip="What happened last."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    RunOverviewScreen #overview { height: auto; max-height: 70%; margin-bottom: 1; }
    RunOverviewScreen #happened { height: 1; color: $text-muted; }
    """

    def __init__(self, run_id: str, name: str, look: Callable[[], Overview | None]) -> None:
        super().__init__(f"Overview of {name}")
        self._run_id, self._run_name, self._look = run_id, name, look
        self._entries: list[object] = []

    def compose_page(self) -> Iterable[Widget]:
        """How it stands, and what happened."""
        yield Static(id="overview", markup=False)
        yield Static(Content("What happened (time · step):"), id="happened")
        yield OptionList(id="timeline", markup=False)

    def on_mount(self) -> None:
        """Show it, and go on showing it."""
        self._show()
        self.set_interval(_TICK, self._show)

    def on_resize(self, event: events.Resize) -> None:
        """Lines are cut to the width."""
        self._show()

    def _show(self) -> None:
        overview = self._look()
        if overview is None or not self.is_mounted:
            return
        width = max(20, self.size.width - 4)
        self.query_one("#overview", Static).update(Content("\n").join(overview_lines(overview, width)))
        entries = overview.insight.timeline.entries
        if list(entries) != self._entries:
            listing = self.query_one("#timeline", OptionList)
            at_end = listing.highlighted is None or listing.highlighted == len(self._entries) - 1
            before = listing.highlighted or 0
            self._entries = list(entries)
            listing.set_options([Option(entry_line(entry)) for entry in entries])
            if entries:
                listing.highlighted = len(entries) - 1 if at_end else min(before, len(entries) - 1)

    def action_first(self) -> None:
        """To the oldest."""
        self.query_one("#timeline", OptionList).action_first()

    def action_last(self) -> None:
        """To the newest."""
        self.query_one("#timeline", OptionList).action_last()

    def action_note(self) -> None:
        """Write a note."""
        from tui.screens.ask_text import TextScreen, may_be_empty

        overview = self._look()
        if overview is not None:
            notes = overview.notes

            def answered(text: str | None) -> None:
                if text is not None:
                    self.flux.actions.write_notes(self._run_id, replace(notes, note=text.strip()))

            self.app.push_screen(
                TextScreen(
                    f"Note on {clip(self._run_name, 40)}",
                    "What is to be remembered?",
                    notes.note,
                    problem=may_be_empty,
                ),
                answered,
            )

    def action_tags(self) -> None:
        """Change the tags."""
        from backend.runs.notes import clean_tags
        from tui.screens.ask_text import TextScreen, may_be_empty

        overview = self._look()
        if overview is not None:
            notes = overview.notes

            def answered(text: str | None) -> None:
                if text is not None:
                    tags = clean_tags(text.replace(",", " ").split())
                    self.flux.actions.write_notes(self._run_id, replace(notes, tags=tags))

            self.app.push_screen(
                TextScreen(
                    f"Tags of {clip(self._run_name, 40)}",
                    "Words, with blanks between them:",
                    " ".join(notes.tags),
                    problem=may_be_empty,
                ),
                answered,
            )

    def action_archive(self) -> None:
        """Put it away, or take it back."""
        overview = self._look()
        if overview is not None:
            notes = replace(overview.notes, archived=not overview.notes.archived)
            self.flux.actions.write_notes(self._run_id, notes)
