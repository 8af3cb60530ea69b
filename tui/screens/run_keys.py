"""What the keys of a screen do with the one run that it shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.binding import Binding, BindingType

from tui.messages import EditConfig
from tui.screens.base import MainScreen

if TYPE_CHECKING:
    from backend.events import SampleEvent
    from tui.runs.place_watch import Look
    from tui.services import RunRow
    from tui.widgets.overview_text import Overview


class RunKeys(MainScreen):
    """Base of a screen that shows one run; that screen shows what comes of the keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop_run", "Stop", id="monitor.stop",
                tooltip="Save the run and stop it; asks first."),
        Binding("r", "resume_run", "Resume", id="monitor.resume",
                tooltip="Take the run up from its last save."),
        Binding("a", "add_gpus", "Add GPUs", id="monitor.add-gpus",
                tooltip="Wait for other GPUs too; asks first."),
        Binding("b", "bring_home", "Bring home", id="monitor.bring-home",
                tooltip="Download the newest LoRA and the pictures; again cancels."),
        Binding("O", "overview", "Overview", id="monitor.overview",
                tooltip="All about the run: time left, cost, how it learns, what happened, note, tags."),
        Binding("I", "gallery", "All images", id="monitor.gallery",
                tooltip="All sample pictures: steps and prompts, large, flipped, beside others."),
        Binding("B", "files", "Files", show=False, id="monitor.files",
                tooltip="The run's files: sizes, download, checksums."),
        Binding("C", "compare", "Compare", show=False, id="monitor.compare",
                tooltip="Config and loss beside those of another run."),
        Binding("R", "restart", "Restart", show=False, id="monitor.restart",
                tooltip="Edit a copy of the run's config, to start another run with it."),
        Binding("v", "ask_trainer('save')", "Save now", id="monitor.save-now",
                tooltip="Have a checkpoint saved now."),
        Binding("d", "ask_trainer('sample')", "Draw now", id="monitor.sample-now",
                tooltip="Have the sample pictures drawn now."),
        Binding("x", "extend", "Extend", id="monitor.extend",
                tooltip="Give it another total of steps; asks for it."),
        Binding("S", "stop_now", "Stop now", show=False, id="monitor.stop-now",
                tooltip="End the run at once, without saving; asks first."),
        Binding("D", "delete_run", "Delete", show=False, id="monitor.delete",
                tooltip="Delete an ended run's files, here and on Modal; asks first."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._run_id: str | None = None
        self._place: Look | None = None  # what is known of the place where it trains

    @property
    def _row(self) -> RunRow | None:
        """The run in the table; None while there is none."""
        return self.flux.feed.get(self._run_id) if self._run_id else None

    def action_stop_run(self) -> None:
        """Stop this run."""
        if self._run_id:
            self.flux.actions.stop(self._run_id)

    def action_resume_run(self) -> None:
        """Resume this run."""
        if self._run_id:
            self.flux.actions.resume(self._run_id)

    def action_stop_now(self) -> None:
        """End this run without saving."""
        if self._run_id:
            self.flux.actions.stop(self._run_id, now=True)

    def action_ask_trainer(self, kind: Literal["save", "sample"]) -> None:
        """Have something done now."""
        if self._run_id:
            self.flux.actions.requests.ask(self._run_id, kind)

    def action_extend(self) -> None:
        """Change the number of steps."""
        if self._run_id:
            self.flux.actions.extend(self._run_id)

    def action_delete_run(self) -> None:
        """Delete this run."""
        if self._run_id:
            self.flux.actions.delete(self._run_id, self._deleted)

    def _deleted(self) -> None:
        self.flux.current_run = self._run_id = None
        self.app.call_later(self.flux.action_go, "jobs")

    def action_bring_home(self) -> None:
        """Download this run's LoRA and pictures, or stop doing so."""
        if self._run_id:
            downloads = self.flux.actions.downloads
            if downloads.get(self._run_id):
                downloads.cancel(self._run_id)
            else:
                downloads.start(self._run_id, self._show_samples)

    def action_add_gpus(self) -> None:
        """Wait for other GPUs too."""
        if self._run_id and self._place is not None:
            self.flux.actions.add_gpus(self._run_id, self._place.other_gpus)

    async def action_overview(self) -> None:
        """All about this run."""
        from backend.runs.notes import read_notes
        from tui.screens.run_overview import RunOverviewScreen

        row = self._row
        if row is not None:
            self.flux.actions.notes[row.id] = await asyncio.to_thread(read_notes, row.path)
            self.app.push_screen(RunOverviewScreen(row.id, row.name, lambda: self._overview(row.id)))

    def action_gallery(self) -> None:
        """All pictures of this run."""
        from tui.screens.samples import SamplesScreen

        row = self._row
        if row is not None:
            self.app.push_screen(SamplesScreen(row, lambda: self._samples_of(row.id)))

    def action_files(self) -> None:
        """The files of this run."""
        from tui.screens.run_files import RunFilesScreen

        row = self._row
        if row is not None:
            self.app.push_screen(RunFilesScreen(row))

    def action_compare(self) -> None:
        """This run beside another one."""
        from tui.screens.compare import CompareScreen
        from tui.screens.pick_run import PickRunScreen

        row = self._row
        if row is None or self.flux.actions.only_captions(row, "compare"):
            return
        others = [run for run in self.flux.feed.runs if run.id != row.id and run.kind != "caption"]

        def picked(run_id: str | None) -> None:
            other = self.flux.feed.get(run_id) if run_id else None
            if other is not None:
                self.app.push_screen(CompareScreen([row, other]))

        self.app.push_screen(PickRunScreen("Compare with", others), picked)

    async def action_restart(self) -> None:
        """Edit a copy of this run's config."""
        from tui.configs.drafts import draft_of

        row = self._row
        if row is None or self.flux.actions.only_captions(row, "restart"):
            return
        try:
            path = await asyncio.to_thread(draft_of, self.flux.root, row.name, row.path)
        except OSError as error:
            self.notify(
                f"Its config cannot be copied: {error.strerror or error}", severity="error", markup=False
            )
            return
        self.post_message(EditConfig(path))

    def _overview(self, run_id: str) -> Overview | None:
        """What is known of the run; None once another one is shown."""
        raise NotImplementedError

    def _samples_of(self, run_id: str) -> list[SampleEvent]:
        """The run's samples; none once another one is shown."""
        raise NotImplementedError

    def _show_samples(self) -> None:
        """Pictures have come home."""
        raise NotImplementedError
