"""Jobs: every run in one live table, and the place where new ones start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.messages import RunsChanged
from tui.runs.place import demo_overrides
from tui.runs.query import ORDERS, RunQuery, leads
from tui.runs.status import RESUMABLE, is_live
from tui.screens.base import MainScreen
from tui.text import one_line, plural
from tui.widgets.demo_card import DemoCard
from tui.widgets.run_details import RunDetails
from tui.widgets.run_search import RunSearch
from tui.widgets.run_table import RunTable, RunTableHeader, has_costs

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.widgets import Input, OptionList

    from tui.services import RunRow

_TICK = 20.0  # seconds between looks at the clock, for the column of ages


class JobsScreen(MainScreen):
    """The table of runs."""

    MODE = "jobs"
    AUTO_FOCUS = None  # the table, or the demo's card: chosen when they are mounted
    # Default CSS, not a file: a screen's own sheet would make Textual parse everything twice at start.
    DEFAULT_CSS = """
    JobsScreen {
        #runs-box, #empty {
            height: 1fr;
            border: round $foreground 30%;
            border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        #runs-box:focus-within { border: round $primary; border-title-style: bold; }
        #runs-box:nocolor:focus-within { border: heavy $primary; }
        #empty { padding: 1 2; display: none; }
    }
    """
    HELP: ClassVar[str] = (
        "Runs train in processes of their own: closing the app or the terminal never touches them. "
        "Stopping a run saves it first, and a stopped, failed or interrupted one can be resumed."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop_run", "Stop", id="jobs.stop", tooltip="Save the run and stop it; asks first."),
        Binding(
            "r", "resume_run", "Resume", id="jobs.resume", tooltip="Take an ended run up from its last save."
        ),
        Binding(
            "slash", "search", "Search", id="jobs.search", tooltip="Show only the runs that fit some words."
        ),
        Binding(
            "space",
            "mark",
            "Mark",
            id="jobs.mark",
            tooltip="Mark the run, or not; keys then mean all marked runs.",
        ),
        Binding(
            "asterisk",
            "mark_all",
            "Mark all",
            show=False,
            id="jobs.mark-all",
            tooltip="Mark all runs that are shown, or none.",
        ),
        Binding(
            "c",
            "compare",
            "Compare",
            id="jobs.compare",
            tooltip="Configs and losses of the marked runs side by side.",
        ),
        Binding(
            "u",
            "sort",
            "Sort",
            show=False,
            id="jobs.sort",
            tooltip="Another order: newest, name, status, loss, progress, cost, sweeps together.",
        ),
        Binding(
            "a",
            "archive",
            "Archive",
            show=False,
            id="jobs.archive",
            tooltip="Put the run away (it is kept), or take it back.",
        ),
        Binding(
            "A",
            "show_archived",
            "Archived",
            show=False,
            id="jobs.show-archived",
            tooltip="The runs that were put away, or the others again.",
        ),
        Binding(
            "escape",
            "unmark",
            "Unmark",
            show=False,
            id="jobs.unmark",
            tooltip="No marks; then no search; then none that were put away.",
        ),
        Binding("n", "new_run", "New run", id="jobs.new", tooltip="Check a config file and train it."),
        Binding(
            "D",
            "delete_run",
            "Delete",
            show=False,
            id="jobs.delete",
            tooltip="Delete an ended run's files, here and on Modal; asks first.",
        ),
        Binding("d", "start_demo", "Start demo", id="jobs.demo", tooltip="Train the demo LoRA."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._demo_started = False
        self._query = RunQuery()
        self._marked: dict[str, None] = {}  # ids, in the order in which they were marked

    def compose_body(self) -> Iterable[Widget]:
        """The demo's card, the table (or what to do when it is empty), details."""
        if self.flux.demo is not None:
            yield DemoCard()
        empty = Static(id="empty", markup=False)
        empty.border_title = "Runs"
        yield empty
        box = Vertical(RunTableHeader(), RunTable(id="runs"), RunSearch(), id="runs-box")
        box.border_title = "Runs"
        yield box
        yield RunDetails()

    def on_mount(self) -> None:
        """Show what is known already, then follow."""
        super().on_mount()
        feed = self.flux.feed
        self.show_runs(RunsChanged(feed.runs, feed.live))
        self.set_interval(_TICK, self._tick)
        self.query_one(RunTable if self.flux.demo is None else DemoCard).focus()

    def _tick(self) -> None:
        if self.is_current:
            feed = self.flux.feed
            self.show_runs(RunsChanged(feed.runs, feed.live))

    def show_runs(self, change: RunsChanged) -> None:
        """Bring the table up to date."""
        feed = self.flux.feed
        shown = self._query.apply(change.runs)
        known = {run.id for run in change.runs}
        self._marked = {run_id: None for run_id in self._marked if run_id in known}
        grouped = leads(shown) if self._query.order == "sweep" else ()
        self.query_one(RunTable).show_runs(shown, self.flux.clock(), marked=self._marked, leads=grouped)
        self.query_one(RunTableHeader).show_costs(has_costs(change.runs))
        box, empty = self.query_one("#runs-box"), self.query_one("#empty", Static)
        box.display = self.query_one(RunDetails).display = bool(change.runs)
        empty.display = not change.runs
        count = Content(self._count(len(shown), len(change.runs)))
        if feed.error:
            count = Content.styled(one_line(f"cannot be read: {feed.error}"), "$text-error")
        elif not change.live:
            count = Content("from the last session, reading…")
        if box.border_subtitle != count.markup:
            box.border_subtitle = count
        if empty.display:
            empty.update(self._empty_text(change))
        self._show_details()
        self.refresh_bindings()

    def _count(self, shown: int, total: int) -> str:
        """How many runs there are, and why not all of them are shown."""
        parts = [plural(total, "run") if shown == total else f"{shown} of {plural(total, 'run')}"]
        if self._query.archived:
            parts.append("put away")
        if self._query.order != "newest":
            parts.append(f"by {self._query.order}")
        if self._marked:
            parts.append(f"{len(self._marked)} marked")
        return " · ".join(parts)

    def _empty_text(self, change: RunsChanged) -> Content:
        error = self.flux.feed.error
        if error:
            return Content.assemble(
                ("The runs cannot be read.\n\n", "bold $text-error"), one_line(error), "\n\nTrying again…"
            )
        if not change.live:
            return Content.styled("Reading the runs…", "dim")
        lines = [Content.styled("No runs yet.", "bold"), Content("")]
        if self.flux.demo is None:
            lines += [
                Content.assemble("Try it out:    ", ("fluxlora-tui demo", "bold $text-accent")),
                Content.styled(
                    "               a small FLUX, some pictures and a config, ready to train", "dim"
                ),
                Content(""),
            ]
        lines += [
            Content.assemble("Your own LoRA: press ", ("n", "bold $text-accent"), " and name a config file,"),
            Content.assemble("               or run ", ("fluxlora-tui train CONFIG", "bold $text-accent")),
            Content(""),
            Content.assemble("All keys:      press ", ("?", "bold $text-accent")),
        ]
        return Content("\n").join(lines)

    def _show_details(self) -> None:
        run_id = self.query_one(RunTable).chosen_id
        self.query_one(RunDetails).show_run(self.flux.feed.get(run_id) if run_id else None)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """The cursor went to another run."""
        self._show_details()
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the demo's key where there is no demo; dim what the run under the cursor does not allow."""
        if action == "start_demo":
            return self.flux.demo is not None and not self._demo_started
        if action == "compare":
            return len(self._marked) >= 2 or None
        if action == "unmark":
            return bool(self._marked or self._query.text or self._query.archived)
        if action in ("stop_run", "delete_run") and self._marked:
            return True
        if action in ("stop_run", "resume_run", "delete_run"):
            table = next(iter(self.query(RunTable)), None)
            run = self.flux.feed.get(table.chosen_id or "") if table is not None else None
            if run is None:
                return False
            live = is_live(run.status)
            allowed = {"stop_run": live, "resume_run": run.status in RESUMABLE, "delete_run": not live}
            return allowed[action] or None
        return True

    def action_stop_run(self) -> None:
        """Stop the marked runs, or the one under the cursor."""
        if self._marked:
            self.flux.actions.bulk.stop(self._chosen, self._unmark)
        elif run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.stop(run_id)

    def action_resume_run(self) -> None:
        """Resume the run under the cursor."""
        if run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.resume(run_id)

    def action_delete_run(self) -> None:
        """Delete the marked runs, or the one under the cursor."""
        if self._marked:
            self.flux.actions.bulk.delete(self._chosen, self._unmark)
        elif run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.delete(run_id)

    # Many runs

    @property
    def _chosen(self) -> list[RunRow]:
        """The marked runs, or the one under the cursor."""
        ids = list(self._marked) or [self.query_one(RunTable).chosen_id or ""]
        return [run for run_id in ids if (run := self.flux.feed.get(run_id)) is not None]

    def _show_again(self, query: RunQuery | None = None) -> None:
        self._query = query or self._query
        self.show_runs(RunsChanged(self.flux.feed.runs, self.flux.feed.live))

    def _unmark(self) -> None:
        self._marked.clear()
        if self.is_mounted:
            self._show_again()

    def action_search(self) -> None:
        """Type what to look for."""
        self.query_one(RunSearch).open()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits what was typed so far."""
        self._show_again(replace(self._query, text=event.value))

    def on_run_search_ended(self, event: RunSearch.Ended) -> None:
        """Back to the table."""
        self.query_one(RunTable).focus()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or not, and go on to the next."""
        table = self.query_one(RunTable)
        if run_id := table.chosen_id:
            if run_id in self._marked:
                del self._marked[run_id]
            else:
                self._marked[run_id] = None
            if table.highlighted is not None and table.highlighted + 1 < table.option_count:
                table.action_cursor_down()
            self._show_again()

    def action_mark_all(self) -> None:
        """Mark all that are shown; if they are, none."""
        ids = dict.fromkeys(run.id for run in self._query.apply(self.flux.feed.runs))
        self._marked = {} if ids.keys() <= self._marked.keys() else self._marked | ids
        self._show_again()

    def action_unmark(self) -> None:
        """One thing less that was chosen."""
        if self._marked:
            self._unmark()
        elif self._query.text:
            self.query_one(RunSearch).action_leave(False)
        else:
            self._show_again(replace(self._query, archived=False))

    def action_sort(self) -> None:
        """The next order."""
        after = ORDERS[(ORDERS.index(self._query.order) + 1) % len(ORDERS)]
        self._show_again(replace(self._query, order=after))

    def action_archive(self) -> None:
        """Put runs away, or take them back."""
        if runs := self._chosen:
            self.flux.actions.bulk.archive(runs, not self._query.archived, self._unmark)

    def action_show_archived(self) -> None:
        """Those that were put away, or the others."""
        self._show_again(replace(self._query, archived=not self._query.archived))

    def action_compare(self) -> None:
        """The marked runs side by side."""
        from tui.screens.compare import MOST, CompareScreen

        if len(self._marked) > MOST:
            self.notify(f"Only the first {MOST} marked runs are compared.", markup=False)
        if len(self._marked) >= 2:
            self.app.push_screen(CompareScreen(self._chosen))

    def action_new_run(self) -> None:
        """Ask for a config file and train it."""
        self.flux.actions.new_run(self.flux.backend)

    def action_start_demo(self) -> None:
        """Train the demo project; once."""
        demo = self.flux.demo
        if demo is not None and not self._demo_started:
            self._demo_started = True
            self.query_one(DemoCard).show_started(True)
            backend = self.flux.backend
            overrides = demo_overrides(backend)
            self.flux.actions.launch(demo.config, self._demo_ended, backend=backend, overrides=overrides)
            self.refresh_bindings()

    def _demo_ended(self, started: bool) -> None:
        """The demo run is there, or could not be started: then the card invites again."""
        self._demo_started = started
        self.query_one(DemoCard).show_started(started)
        self.refresh_bindings()
        if started:
            self.query_one(RunTable).focus()
            self.query_one(DemoCard).remove()
