"""Finding pictures: the filter line, the panes of tags and problems, pictures that look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual import work
from textual.widgets import Input

from backend.datasets.filter import FilterError, parse_filter, quoted
from tui.messages import OperationFailed
from tui.text import plural
from tui.widgets.dataset_problems import DatasetProblems
from tui.widgets.tag_pane import TagPane

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui.datasets.feed import DatasetFeed
    from tui.screens.dataset_browser import DatasetBrowserScreen

_FILTER_AFTER = 0.1  # seconds without typing after which the filter is applied


class DatasetFinding:
    """Part of :class:`~tui.screens.dataset_browser.DatasetBrowserScreen`."""

    _filter_timer: Timer | None = None

    @property
    def _browser(self) -> DatasetBrowserScreen:
        return cast("DatasetBrowserScreen", self)

    # Filter

    def action_filter(self) -> None:
        """Type a filter."""
        line = self._browser.query_one("#filter", Input)
        line.add_class("-shown")
        line.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """A filter is typed; it is applied once the keys rest."""
        if event.input.id != "filter":
            return
        if self._filter_timer is not None:
            self._filter_timer.stop()
        self._filter_timer = self._browser.set_timer(_FILTER_AFTER, self._apply_filter)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The filter is right: back to the pictures."""
        if event.input.id != "filter":
            return
        self._apply_filter(aloud=True)
        self._browser.query_one("#filter").set_class(bool(event.value.strip()), "-shown")
        self._browser.pictures.focus()

    def _apply_filter(self, *, aloud: bool = False) -> None:
        text = self._browser.query_one("#filter", Input).value
        if text.strip() == self._browser.session.view.filter.text:
            return
        try:
            self._browser.set_view(filter=parse_filter(text))
        except FilterError as error:
            if aloud:
                self._browser.post_message(OperationFailed("The filter", str(error)))

    def filter_by(self, text: str) -> None:
        """Show only what a filter lets through."""
        line = self._browser.query_one("#filter", Input)
        with self._browser.prevent(Input.Changed):
            line.value = text
        line.set_class(bool(text), "-shown")
        self._apply_filter(aloud=True)

    # The pane at the side

    def show_side(self, side: str) -> None:
        """Show a pane at the side, or none; once more closes it."""
        side = "" if side and self._browser.has_class(f"-{side}") else side
        for name in ("tags", "problems"):
            self._browser.set_class(name == side, f"-{name}")
        self._browser.show_all()
        if side == "tags":
            self._browser.query_one(TagPane).focus()
        elif side == "problems":
            self._browser.query_one(DatasetProblems).show_problems(self._browser.session.problems)
            self._browser.query_one(DatasetProblems).focus()
        else:
            self._browser.pictures.focus()

    def action_tags(self) -> None:
        """Show tags, or no longer."""
        self.show_side("tags")

    def action_problems(self) -> None:
        """Show problems, or no longer."""
        self.show_side("problems")

    def on_tag_pane_wanted(self, message: TagPane.Wanted) -> None:
        """Filter by a tag, or change it everywhere."""
        if message.what == "filter":
            self.filter_by(f"tag:{quoted(message.tag)}")
        else:
            self._browser.edit_tag(message.tag, rename=message.what == "rename")

    def on_dataset_problems_picked(self, message: DatasetProblems.Picked) -> None:
        """Go to the file of a problem."""
        name = message.problem.file
        if self._browser.shelf.index(name) is None and name in self._browser.session.items:
            self.filter_by("")
        at = self._browser.shelf.index(name)
        if at is not None:
            self._browser.shelf.go(at)
            self._browser.pictures.update_rows()
            self._browser.show_picture()

    def on_dataset_problems_fix_wanted(self, message: DatasetProblems.FixWanted) -> None:
        """Mend, after a question."""
        self._browser.fix(message.problems)

    # Pictures that look alike

    def action_compare(self) -> None:
        """Look for pictures that look alike, or stop looking."""
        feed = self._browser.feed
        if feed is None:
            return
        if feed.compared is not None:
            feed.stop_comparing()
        elif feed.scanning:
            self._browser.notify("The pictures are still being read.", severity="warning", markup=False)
        else:
            self._compare(feed)

    @work(group="compare", exit_on_error=False)
    async def _compare(self, feed: DatasetFeed) -> None:
        ticking = self._browser.set_interval(0.25, self._browser.show_titles)
        try:
            found = await feed.compare()
        finally:
            ticking.stop()
        if found is None:
            words = "Stopped; what was looked at is remembered."
        else:
            same, alike = plural(len(found.exact), "group"), plural(len(found.near), "group")
            words = f"{same} of equal files, {alike} of pictures that look alike; p shows them."
        self._browser.notify(words, title="Duplicates", markup=False)
