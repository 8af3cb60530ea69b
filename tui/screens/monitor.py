"""Monitor: one run's progress, log, loss and samples, live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container

from backend.events import CommandEvent
from tui.messages import OperationFailed, RunsChanged
from tui.runs.allowed import ON_RUN, allowed, why_nothing
from tui.runs.follower import RunFollower
from tui.runs.place_watch import INTERVAL, Look, PlaceWatch
from tui.runs.status import is_live
from tui.screens.run_overlays import RunOverlays
from tui.terminal import current_protocol
from tui.widgets.captioned import CaptionedPane
from tui.widgets.log_pane import LogPane
from tui.widgets.loss_chart import LossChart
from tui.widgets.place_line import is_waiting
from tui.widgets.run_header import RunHeader
from tui.widgets.samples import Samples
from tui.widgets.transfer_bar import TransferBar

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from backend.events import Event, SampleEvent
    from tui.runs.watched import WatchedRun
    from tui.services import RunRow
    from tui.terminal import Protocol
    from tui.widgets.overview_text import Overview
    from tui.widgets.run_header import RunFacts

_TICK = 0.25  # seconds between repaints of the header
_YOUNG = 60.0  # seconds after its launch in which a run that is safe already was not so before
_TALL = 34  # lines from which on the samples are shown without being asked for


class MonitorScreen(RunOverlays):
    """Watches one run; the app's ``current_run`` says which."""

    MODE = "monitor"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual declares no ClassVar
    VERTICAL_BREAKPOINTS = [(0, "-short"), (_TALL, "-tall")]  # noqa: RUF012 - Textual declares no ClassVar
    DEFAULT_CSS = """
    MonitorScreen {
        #panes { height: 1fr; min-height: 6; }
        &.-wide #panes { layout: horizontal; }
        &.-narrow #panes { layout: vertical; }
        .pane { width: 1fr; height: 1fr; }
        CaptionedPane { display: none; }
        &.-captions CaptionedPane { display: block; }
        &.-captions LossChart { display: none; }
        Samples { display: none; height: 14; }
        &.-short Samples { height: 9; }
        &.-samples Samples { display: block; }

        /* One pane alone: everything else gives way, the header stays. */
        &.-solo .pane { display: none; }
        &.-solo Samples { display: none; }
        &.-solo .pane.-solo-pane { display: block; }
        &.-solo-samples #panes { display: none; }
        &.-solo-samples Samples { display: block; height: 1fr; }
    }
    """
    AUTO_FOCUS = "LogPane"
    HELP: ClassVar[str] = "Only watching: the run trains in a process of its own, so leaving changes nothing."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("z", "solo", "Zoom", id="monitor.zoom", tooltip="The focused pane alone, or all again."),
        Binding("i", "toggle_samples", "Images", id="monitor.samples",
                tooltip="Show or hide the sample pictures."),
        Binding("left_square_bracket", "step_run(-1)", "Newer run", show=False, id="monitor.previous-run",
                tooltip="The run above in the table of jobs."),
        Binding("right_square_bracket", "step_run(1)", "Older run", show=False, id="monitor.next-run",
                tooltip="The run below in the table of jobs."),
        Binding("escape", "back", "Back", show=False, id="monitor.back",
                tooltip="All panes again; then back to the jobs."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._follower: RunFollower | None = None
        self._watched: WatchedRun | None = None
        self._pictures: Protocol = "half"
        self._samples_wanted: bool | None = None  # None: as there is room
        self._shown: tuple[object, ...] | None = None
        self._offered = False  # whether other GPUs are offered

    def compose_body(self) -> Iterable[Widget]:
        """The header, the two panes, the samples."""
        setting = self.flux.settings.images
        self._pictures = current_protocol(setting)
        yield RunHeader()
        yield TransferBar()
        yield Container(
            LogPane(id="log", classes="pane", placeholder="no log yet"),
            LossChart(id="loss", classes="pane"),
            CaptionedPane(id="captioned", classes="pane"),
            id="panes",
        )
        yield Samples(self._pictures, forced=setting in ("kitty", "sixel"))

    def on_mount(self) -> None:
        """Open the run that the app wants to see, or the newest."""
        super().on_mount()
        self.set_interval(_TICK, self._refresh_header)
        self._open_wanted()

    def on_screen_resume(self) -> None:
        """The screen is looked at again, perhaps for another run."""
        self._open_wanted()

    def on_resize(self, event: events.Resize) -> None:
        """Samples come and go with the room for them."""
        self._show_samples()

    # Which run

    def _open_wanted(self) -> None:
        wanted = self.flux.current_run
        if wanted is None:
            runs = self.flux.feed.runs
            wanted = next((run.id for run in runs if is_live(run.status)), runs[0].id if runs else None)
        if wanted is not None and wanted != self._run_id:
            self.open_run(wanted)
        elif wanted is None:
            self._refresh_header()

    def open_run(self, run_id: str) -> None:
        """Show a run from its beginning and follow it."""
        from tui.runs.watched import WatchedRun

        self.flux.current_run = self._run_id = run_id
        self._watched, self._shown, self._place = WatchedRun(), None, None
        log, chart = self.query_one(LogPane), self.query_one(LossChart)
        log.clear()
        chart.clear()
        log.export_name = chart.export_name = run_id
        row = self.flux.feed.get(run_id)
        self.query_one(Samples).show_samples(row.path if row is not None else Path(), ())
        self._follow(run_id)
        self._watch_place(PlaceWatch(run_id))
        self._refresh_header()
        self._show_samples()
        self.refresh_bindings()

    def _follow(self, run_id: str) -> None:
        follower = RunFollower(
            run_id,
            lambda events: self._take_events(follower, events),
            lambda data: self._take_log(follower, data),
        )
        self._follower = follower
        self._follow_events(follower)
        self._follow_log(follower)

    @work(exclusive=True, group="follow-events", exit_on_error=False)
    async def _follow_events(self, follower: RunFollower) -> None:
        try:
            state = await follower.events(await self.flux.feed.service())
        except Exception as error:
            self.post_message(
                OperationFailed("The run cannot be followed", str(error) or type(error).__name__)
            )
            return
        if follower is self._follower and self._watched is not None:
            self._watched.truth = state
            self.flux.actions.requests.ended(follower.run_id)
            self._refresh_header()
            self.refresh_bindings()

    @work(exclusive=True, group="follow-log", exit_on_error=False)
    async def _follow_log(self, follower: RunFollower) -> None:
        try:
            await follower.log(await self.flux.feed.service())
        except Exception as error:
            self.post_message(OperationFailed("The log cannot be read", str(error) or type(error).__name__))

    @work(exclusive=True, group="watch-place", exit_on_error=False)
    async def _watch_place(self, watch: PlaceWatch) -> None:
        """Keep what is known of the place up to date, and say when this machine is needed no more."""
        while watch.run_id == self._run_id:
            row = self.flux.feed.get(watch.run_id)
            if row is not None and row.backend != "local" and self._watched is not None and self.is_current:
                before, look = self._place, None
                try:
                    waiting = is_waiting(self._watched.view.phase)
                    service = await self.flux.feed.service()
                    look = await watch.look(service, self._watched.view, waiting=waiting)
                except Exception:  # the run is being deleted, or its folder made: there is another look
                    look = before
                if watch.run_id == self._run_id and look != before:
                    self._take_place(before, look)
            await asyncio.sleep(INTERVAL)

    @property
    def _is_young(self) -> bool:
        """Whether the run was launched a moment ago, and nothing in it has begun."""
        row = self._row
        begun = self._watched is None or self._watched.view.attempt > 0
        return row is not None and not begun and self.flux.clock() - row.created < _YOUNG

    def _take_place(self, before: Look | None, look: Look | None) -> None:
        self._place = look
        safe_before = before.facts.safe_to_close if before else not self._is_young
        if look and look.facts.safe_to_close and not safe_before:
            self.notify("Handed to Modal: you may close this computer.", markup=False)
        self._refresh_header()
        self.refresh_bindings()

    def _take_log(self, follower: RunFollower, data: bytes) -> None:
        if follower is self._follower:
            self.query_one(LogPane).feed(data)

    def _take_events(self, follower: RunFollower, events: Sequence[Event]) -> None:
        if follower is not self._follower or self._watched is None:
            return  # of a run that is not looked at any more
        view = self._watched.view
        pictures = len(view.samples), view.drawing
        self._watched.take(events)
        for event in events:
            if isinstance(event, CommandEvent):
                self.flux.actions.requests.answered(event)
        self.query_one(LossChart).take_events(events)
        if (len(view.samples), view.drawing) != pictures:
            self._show_samples()

    # Between the panes

    @on(LogPane.LineSelected)
    def _show_step_of_line(self, event: LogPane.LineSelected) -> None:
        self.query_one(LossChart).show_step(event.step)

    @on(LossChart.CursorMoved)
    def _show_line_of_step(self, event: LossChart.CursorMoved) -> None:
        self.query_one(LogPane).show_step(self.query_one(LossChart).cursor_step)

    # What is shown

    def show_runs(self, change: RunsChanged) -> None:
        """The table changed: the run may have been resumed, or have died."""
        if self._run_id is None:
            if self.is_current:
                self._open_wanted()
            return
        row = self.flux.feed.get(self._run_id)
        ended = self._watched is not None and self._watched.truth is not None
        if self._watched is not None and ended and row is not None and change.live and is_live(row.status):
            self._watched.truth = None
            if self._follower is not None:  # somebody resumed it: go on where the streams ended
                self._follow_events(self._follower)
                self._follow_log(self._follower)
        self._refresh_header()
        self.refresh_bindings()

    def _refresh_header(self) -> None:
        header = self.query_one(RunHeader)
        row = self._row
        if row is None or self._watched is None:
            header.show_nothing(why_nothing(self.flux.feed, self._run_id))
            return
        download = self.flux.actions.downloads.get(row.id)
        self.query_one(TransferBar).show_download(download)
        facts = self._facts(row, self._watched)
        view = facts.view
        second = int(facts.now) if is_live(facts.status) else None
        shown = (row, view.seq, view.phase_done, facts.status, facts.reason, second, self._place, facts.asked)
        if shown != self._shown and self.is_current:
            self._shown = shown
            header.show_facts(facts)
            self._show_captions(facts)
            rate = self._place.facts.rate if self._place is not None else None
            self.query_one(LossChart).set_rate(None if rate is None else rate / 3600)
            if facts.offers_gpus != self._offered:
                self._offered = facts.offers_gpus
                self.refresh_bindings()

    def _show_captions(self, facts: RunFacts) -> None:
        """Pictures done in the place of the loss, for a run that captions."""
        captions = facts.row.kind == "caption"
        if captions and not self.has_class("-captions") and self.query_one(LossChart).has_focus:
            self.query_one(LogPane).focus()
        self.set_class(captions, "-captions")
        if captions:
            self.query_one(CaptionedPane).show_progress(facts.view, facts.status)

    def _facts(self, row: RunRow, watched: WatchedRun) -> RunFacts:
        return watched.facts(
            row,
            self.flux.clock(),
            live=self.flux.feed.live,
            place=self._place,
            asked=self.flux.actions.requests.sentence(row.id),
        )

    def _overview(self, run_id: str) -> Overview | None:
        from backend.runs.notes import Notes
        from tui.widgets.overview_text import Overview

        row = self.flux.feed.get(run_id)
        if row is None or self._run_id != run_id or self._watched is None:
            return None
        notes = self.flux.actions.notes.get(run_id, Notes())
        return Overview(self._facts(row, self._watched), self._watched.insight, notes)

    def _samples_of(self, run_id: str) -> list[SampleEvent]:
        return list(self._watched.view.samples) if self._watched and self._run_id == run_id else []

    def _show_samples(self) -> None:
        samples = self.query_one(Samples)
        row = self._row
        if row is not None and self._watched is not None:
            view = self._watched.view
            drawing = [view.drawing] if view.drawing is not None else []
            samples.show_samples(row.path, [*view.samples, *drawing])
        room = self.size.height >= _TALL and samples.has_samples and self._pictures != "off"
        shown = room if self._samples_wanted is None else self._samples_wanted
        self.set_class(shown, "-samples")
        if samples.has_focus and not (shown or self.has_class("-solo-samples")):
            self.query_one(LogPane).focus()  # the focus is never in a pane that cannot be seen

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim what the run does not allow; hide what has no sense where it trains."""
        if action not in ON_RUN:
            return True
        row, watched = self._row, self._watched
        if row is None or watched is None:
            return allowed(action, None)
        status, _ = watched.status(row, live=self.flux.feed.live)
        offers = action == "add_gpus" and self._facts(row, watched).offers_gpus
        return allowed(action, status, remote=row.backend != "local", offers_gpus=offers)

    def action_step_run(self, by: int) -> None:
        """Go to the neighbour in the table."""
        ids = [run.id for run in self.flux.feed.runs]
        if self._run_id not in ids:
            self._open_wanted()
            return
        at = ids.index(self._run_id) + by
        if 0 <= at < len(ids):
            self.open_run(ids[at])
        else:
            self.notify("That was the newest run." if by < 0 else "That was the oldest run.", timeout=2)

    def action_toggle_samples(self) -> None:
        """Show the pictures, or hide them."""
        if self._pictures == "off":
            self.notify('Pictures are off: images = "off" in the settings file.', markup=False)
            return
        self._samples_wanted = not self.has_class("-samples")
        self._show_samples()

    def action_solo(self) -> None:
        """The focused pane alone, or all again."""
        if self.has_class("-solo"):
            self._end_solo()
            return
        panes = [*self.query(".pane"), self.query_one(Samples)]
        pane = next((p for p in panes if self.focused in p.walk_children(with_self=True)), None)
        if pane is not None:
            pane.add_class("-solo-pane")
            self.add_class("-solo")
            self.set_class(isinstance(pane, Samples), "-solo-samples")

    def _end_solo(self) -> None:
        self.remove_class("-solo", "-solo-samples")
        for pane in self.query(".-solo-pane"):
            pane.remove_class("-solo-pane")

    def action_back(self) -> None:
        """All panes again; if they are all there, to the jobs."""
        if self.has_class("-solo"):
            self._end_solo()
        else:
            self.app.call_later(self.flux.action_go, "jobs")
