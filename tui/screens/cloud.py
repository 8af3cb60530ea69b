"""Cloud: the runs of the Modal workspace, whoever started them, and what is left over there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui.cloud import CloudError, Workspace
from tui.messages import OperationFailed, RunsChanged
from tui.runs.place import LABEL, is_stand_in
from tui.screens.base import MainScreen
from tui.text import duration, one_line, plural
from tui.widgets.cloud_table import CloudTable, CloudTableHeader

if TYPE_CHECKING:
    from textual.widget import Widget

_SLOW = 8.0  # seconds after which the wait is remarked on
_FRESH = 15.0  # seconds for which an answer is good enough when the screen is looked at again
_TICK = 1.0
_LISTED = 8  # leftovers that a question names


class CloudScreen(MainScreen):
    """The workspace."""

    MODE = "cloud"
    AUTO_FOCUS = "CloudTable"
    DEFAULT_CSS = """
    CloudScreen {
        #cloud-box, #cloud-note {
            height: 1fr;
            border: round $foreground 30%;
            border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        #cloud-box:focus-within { border: round $primary; border-title-style: bold; }
        #cloud-box:nocolor:focus-within { border: heavy $primary; }
        #cloud-note { padding: 1 2; }
    }
    """
    HELP: ClassVar[str] = (
        "Modal is asked when this screen opens and when you press the refresh key, by a process of its own. "
        "What is shown was saved by the run's container; the monitor has the live numbers."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r,f5", "refresh", "Refresh", id="cloud.refresh", tooltip="Ask Modal again."),
        Binding(
            "x",
            "clean",
            "Clean up",
            id="cloud.cleanup",
            tooltip="List apps that have nothing to do any more, and stop them; asks first.",
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._workspace: Workspace | None = None
        self._problem: str | None = None
        self._asked_at: float | None = None  # while an answer is waited for
        self._answered_at = 0.0
        self._doing = ""

    def compose_body(self) -> Iterable[Widget]:
        """The table, or a note in its place."""
        note = Static(id="cloud-note", markup=False)
        note.border_title = "Modal"
        yield note
        box = Vertical(CloudTableHeader(), CloudTable(id="cloud-runs"), id="cloud-box")
        box.border_title = "Modal"
        yield box

    def on_mount(self) -> None:
        """Ask at once."""
        super().on_mount()
        self.set_interval(_TICK, self._tick)
        self._show()

    def on_screen_resume(self) -> None:
        """Ask again if the answer is old."""
        if self._asked_at is None and time.monotonic() - self._answered_at > _FRESH:
            self.action_refresh()

    def show_runs(self, change: RunsChanged) -> None:
        """Runs of this machine are no concern of this screen."""

    def _tick(self) -> None:
        if self._asked_at is not None:
            self._show()

    # Asking

    def action_refresh(self) -> None:
        """Ask Modal what there is."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._ask()
            self._show()

    @work(exclusive=True, group="cloud", exit_on_error=False)
    async def _ask(self) -> None:
        try:
            self._workspace = await self.flux.cloud.workspace()
            self._problem = None
        except CloudError as error:
            self._problem = str(error)
        except Exception as error:  # a fault of ours; the user must hear of it all the same
            self._problem = f"the answer was not understood: {type(error).__name__}: {error}"
        finally:
            self._asked_at, self._answered_at = None, time.monotonic()
        table = self.query_one(CloudTable)
        table.show_runs(self._workspace.runs if self._workspace else (), self.flux.clock())
        self._show()
        if table.display and self.focused is None:
            table.focus()
        self.refresh_bindings()

    # Showing

    def _show(self) -> None:
        runs = self._workspace.runs if self._workspace is not None else ()
        box, note = self.query_one("#cloud-box"), self.query_one("#cloud-note", Static)
        box.display, note.display = bool(runs), not runs
        if note.display:
            note.update(self._note())
        subtitle = self._subtitle(len(runs))
        if box.border_subtitle != subtitle.markup:
            box.border_subtitle = subtitle
        name = self._workspace.name if self._workspace is not None else ""
        place = LABEL.capitalize() if is_stand_in() else "Modal"
        title = Content(one_line(f"{place}: {name}" if name else place))
        box.border_title = note.border_title = title.markup

    def _subtitle(self, count: int) -> Content:
        if self._doing:
            return Content(self._doing)
        if self._asked_at is not None:
            return Content(f"asking Modal… {duration(time.monotonic() - self._asked_at)}")
        if self._problem is not None:
            return Content.styled(one_line(f"not up to date: {self._problem}"), "$text-error")
        return Content(plural(count, "run"))

    def _note(self) -> Content:
        if self._asked_at is not None:
            waited = time.monotonic() - self._asked_at
            lines = f"Asking Modal… {duration(waited)}" if waited >= 1 else "Asking Modal…"
            if waited >= _SLOW:
                lines += "\n\nNo answer yet: is there a network? It is given up soon if there is none."
            return Content.styled(lines, "dim")
        if self._problem is not None:
            return Content.assemble(
                ("Modal was not reached.\n\n", "bold $text-error"),
                one_line(self._problem),
                "\n\nRuns there go on all the same. Press ",
                ("r", "bold $text-accent"),
                " to ask again.",
            )
        return Content.assemble(
            ("No runs on Modal yet.\n\n", "bold"),
            "Start one from Jobs with ",
            ("n", "bold $text-accent"),
            ", or with ",
            ("fluxlora-tui train CONFIG --backend modal", "bold $text-accent"),
        )

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """One thing at a time."""
        if action == "refresh":
            return self._asked_at is None or None
        if action == "clean":
            return not self._doing or None
        return True

    def on_cloud_table_chosen(self, message: CloudTable.Chosen) -> None:
        """Watch the run; take it up first if another machine started it."""
        run = message.run
        if run.here or self.flux.feed.get(run.id) is not None:
            self.flux.open_run(run.id)
        elif not self._doing:
            self._adopt(run.id)

    @work(group="cloud-adopt", exit_on_error=False)
    async def _adopt(self, run_id: str) -> None:
        self._do("taking the run up…")
        try:
            here = await self.flux.cloud.adopt(run_id)
        except CloudError as error:
            self.post_message(OperationFailed("The run was not taken up", str(error)))
            return
        finally:
            self._do("")
        await self.flux.feed.refresh(5.0)
        self._answered_at = 0.0  # what is here has changed
        if self.is_current:
            self.flux.open_run(here)

    def action_clean(self) -> None:
        """Look for what is left over."""
        if not self._doing:
            self._clean()

    @work(group="cloud-clean", exit_on_error=False)
    async def _clean(self) -> None:
        from tui.screens.confirm import ConfirmScreen, Question

        self._do("looking for what is left over…")
        try:
            found = await self.flux.cloud.leftovers()
            if not found:
                self.notify("Nothing is left over on Modal.", markup=False)
                return
            lines = [one_line(f"{one.app} (run {one.run_id}): {one.why}") for one in found]
            if len(lines) > _LISTED:
                lines[_LISTED:] = [f"and {len(lines) - _LISTED} more"]
            question = Question(
                f"Stop {plural(len(found), 'app')}?",
                "\n".join([*lines, "", "Their files stay on the volume."]),
                yes="Stop them",
            )
            if await self.app.push_screen_wait(ConfirmScreen(question)):
                self._do("stopping…")
                stopped = await self.flux.cloud.clean()
                self.notify(f"{plural(stopped, 'app')} stopped.", markup=False)
        except CloudError as error:
            self.post_message(OperationFailed("Modal was not cleaned up", str(error)))
        finally:
            self._do("")

    def _do(self, what: str) -> None:
        self._doing = what
        self._show()
        self.refresh_bindings()
