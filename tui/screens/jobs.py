"""Jobs: every run in one live table, and the place where new ones start."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.messages import RunsChanged
from tui.place import demo_overrides
from tui.screens.base import MainScreen
from tui.status import RESUMABLE, is_live
from tui.text import one_line, plural
from tui.widgets.demo_card import DemoCard
from tui.widgets.run_details import RunDetails
from tui.widgets.run_table import RunTable, RunTableHeader, has_costs

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.widgets import OptionList

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

    def compose_body(self) -> Iterable[Widget]:
        """The demo's card, the table (or what to do when it is empty), details."""
        if self.flux.demo is not None:
            yield DemoCard()
        empty = Static(id="empty", markup=False)
        empty.border_title = "Runs"
        yield empty
        box = Vertical(RunTableHeader(), RunTable(id="runs"), id="runs-box")
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
        self.query_one(RunTable).show_runs(change.runs, self.flux.clock())
        self.query_one(RunTableHeader).show_costs(has_costs(change.runs))
        box, empty = self.query_one("#runs-box"), self.query_one("#empty", Static)
        box.display = self.query_one(RunDetails).display = bool(change.runs)
        empty.display = not change.runs
        count = Content(plural(len(change.runs), "run"))
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
        """Stop the run under the cursor."""
        if run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.stop(run_id)

    def action_resume_run(self) -> None:
        """Resume the run under the cursor."""
        if run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.resume(run_id)

    def action_delete_run(self) -> None:
        """Delete the run under the cursor."""
        if run_id := self.query_one(RunTable).chosen_id:
            self.flux.actions.delete(run_id)

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
