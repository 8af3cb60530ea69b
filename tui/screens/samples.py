"""Samples: all pictures of a run, steps down and prompts across; large, flipped, beside others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Grid
from textual.content import Content
from textual.widgets import Static

from tui.messages import OperationFailed
from tui.runs.sample_grid import SampleGrid
from tui.screens.run_page import RunPage
from tui.terminal import current_protocol
from tui.text import clip
from tui.widgets.samples import SampleCard

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from backend.events import SampleEvent
    from tui.services import RunRow
    from tui.terminal import Protocol

_SIZES = ((14, 7), (22, 10), (34, 15), (52, 22))  # cells of a card, the smallest first
_ALONE = len(_SIZES)  # the zoom at which one picture fills the page
_TICK = 1.0


Beside = Literal["", "baseline", "run"]


class GridCard(SampleCard):
    """A picture in the grid; the chosen one has a frame.

    Args:
        protocol: How it is drawn.
        forced: Whether the user named the protocol.
    """

    DEFAULT_CSS = """
    GridCard {
        width: 1fr;
        height: 1fr;
        padding: 0;
        border: round transparent;
        border-title-color: $text-muted;
        &.-chosen { border: round $primary; border-title-style: bold; }
        &.-chosen:nocolor { border: heavy $primary; }
    }
    """

    def __init__(self, protocol: Protocol, *, forced: bool) -> None:
        super().__init__(protocol, forced=forced)
        self.protocol = protocol

    def show_sample(self, sample: SampleEvent, folder: Path) -> None:
        """Show one sample of the run in ``folder``."""
        self._picture.display = True
        super().show_sample(sample, folder)

    def show_nothing(self) -> None:
        """Say that there is no picture."""
        self._picture.display = False
        self._prompt.update(Content("no picture of this prompt"))


class SamplesScreen(RunPage):
    """The pictures of a run.

    Args:
        run: The run.
        look: Gives its samples as they are now.
    """

    AUTO_FOCUS = ""
    HELP: ClassVar[str] = (
        "Steps go down, prompts across. Space flips between two steps of the same prompt and seed, in the "
        "same place, so that every difference jumps out. The baseline is the prompt's first picture: with "
        "step 0 drawn, it is the model without your LoRA."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1,0)", "Earlier", show=False, id="gallery.up",
                tooltip="The step before."),
        Binding("down,j", "move(1,0)", "Later", show=False, id="gallery.down",
                tooltip="The next step."),
        Binding("left,h", "move(0,-1)", "Left", show=False, id="gallery.left", tooltip="The prompt before."),
        Binding("right,l", "move(0,1)", "Right", show=False, id="gallery.right", tooltip="The next prompt."),
        Binding("home,g", "move(-100000,0)", "First", show=False, id="gallery.first",
                tooltip="The first step."),
        Binding("end,G", "move(100000,0)", "Newest", show=False, id="gallery.last",
                tooltip="The newest step."),
        Binding("space", "flip", "Flip", id="gallery.flip",
                tooltip="Between this step and the one before (or looked at before), and back."),
        Binding("enter,z", "alone", "Zoom", id="gallery.alone",
                tooltip="This picture alone, or the grid again."),
        Binding("plus,equals_sign", "zoom(1)", "Larger", show=False, id="gallery.larger",
                tooltip="Larger pictures."),
        Binding("minus", "zoom(-1)", "Smaller", show=False, id="gallery.smaller",
                tooltip="Smaller pictures."),
        Binding("b", "baseline", "Baseline", id="gallery.baseline",
                tooltip="Beside the prompt's first picture, or not."),
        Binding("r", "other_run", "Other run", id="gallery.other-run",
                tooltip="Beside another run's picture of the same prompt, or not."),
        Binding("o", "open", "Open", id="gallery.open", tooltip="Open it in the system's own viewer."),
        Binding("y", "copy", "Copy prompt", show=False, id="gallery.copy",
                tooltip="Copy the prompt and the seed."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    SamplesScreen #grid { height: 1fr; width: 1fr; grid-gutter: 0; }
    SamplesScreen #about { height: 2; color: $foreground; }
    SamplesScreen #none { height: 1fr; content-align: center middle; color: $text-muted; }
    """

    def __init__(self, run: RunRow, look: Callable[[], Sequence[SampleEvent]]) -> None:
        super().__init__(f"Samples of {run.name}")
        self._run, self._look = run, look
        self._grid = SampleGrid(look())
        self._zoom = 1
        self._before_alone = 1
        self._beside: Beside = ""
        self._other: tuple[RunRow, SampleGrid] | None = None
        self._shown: object = None
        self._cards: list[GridCard] = []  # in their order; those that go are not among them any more

    def compose_page(self) -> Iterable[Widget]:
        """The grid, and what is known of the chosen picture."""
        yield Static(Content("no samples yet; d in the monitor draws some"), id="none")
        yield Grid(id="grid")
        yield Static(id="about", markup=False)

    def on_mount(self) -> None:
        """Pictures come while one looks."""
        self.set_interval(_TICK, self._again)
        self.call_after_refresh(self._show)

    def on_resize(self, event: events.Resize) -> None:
        """There is room for another number of pictures."""
        self._shown = None
        self._show()

    def _again(self) -> None:
        self._grid.show(self._look())
        for card in self.query(GridCard):
            card.look_again()
        self._show()

    def _show(self) -> None:
        if not self.is_mounted:
            return
        off = self.flux.settings.images == "off"
        grid, box = self._grid, self.query_one("#grid", Grid)
        empty = grid.chosen is None and not grid.steps
        self.query_one("#none").display = empty
        box.display = not empty and not off
        cells, columns = self._cells()
        key = (tuple((title, sample, folder) for title, sample, folder, _ in cells), columns, self._is_large)
        if key != self._shown:
            self._shown = key
            self._fill(box, [(title, sample, folder) for title, sample, folder, _ in cells], columns)
        for card, (_, _, _, chosen) in zip(self._cards, cells, strict=False):
            card.set_class(chosen, "-chosen")
        self._describe()

    @property
    def _is_large(self) -> bool:
        """Whether one picture is shown alone, or two beside one another."""
        return self._zoom >= _ALONE or bool(self._beside and self._grid.chosen is not None)

    def _cells(self) -> tuple[list[tuple[str, SampleEvent | None, Path, bool]], int]:
        """What to show: title, sample, its folder, whether it is the chosen one; and the columns."""
        grid, home = self._grid, self._run.path
        chosen = grid.chosen
        if self._beside and chosen is not None:
            one = (f"step {chosen.step}", chosen, home, True)
            if self._beside == "baseline":
                first = grid.baseline
                title = f"baseline: step {first.step}" if first is not None else "no baseline"
                return [(title, first, home, False), one], 2
            if self._other is not None:
                run, theirs = self._other
                near = theirs.nearest(chosen.step, chosen.index)
                title = (
                    f"{clip(run.name, 24)}: step {near.step}"
                    if near is not None
                    else f"{clip(run.name, 24)}: none"
                )
                return [one, (title, near, run.path, False)], 2
        if self._zoom >= _ALONE:
            return [(f"step {grid.steps[grid.step]}" if grid.steps else "", chosen, home, True)], 1
        width, height = _SIZES[self._zoom]
        size = self.query_one("#page").content_size
        rows, columns = grid.window(max(1, (size.height - 2) // height), max(1, size.width // width))
        cells = [
            (f"step {grid.steps[row]}", grid.at(row, column), home, (row, column) == (grid.step, grid.prompt))
            for row in rows
            for column in columns
        ]
        return cells, max(1, len(columns))

    def _fill(self, box: Grid, cells: list[tuple[str, SampleEvent | None, Path]], columns: int) -> None:
        box.styles.grid_size_columns = columns
        setting = self.flux.settings.images
        # Of many pictures half cells cost the least; those shown large get all that the terminal can do.
        protocol = current_protocol(setting) if self._is_large else "half"
        # Those that were told to go may still be there, so the screen's own list counts.
        cards = [card for card in self._cards if card.protocol == protocol][: len(cells)]
        for card in self._cards:
            if card not in cards:
                card.remove()
        for place, (title, sample, folder) in enumerate(cells):
            if place >= len(cards):
                cards.append(GridCard(protocol, forced=setting in ("kitty", "sixel")))
                box.mount(cards[-1])
            card = cards[place]
            card.border_title = Content(title)
            if sample is not None:
                card.show_sample(sample, folder)
            else:
                card.show_nothing()
        self._cards = cards

    def _describe(self) -> None:
        chosen, grid = self._grid.chosen, self._grid
        about = self.query_one("#about", Static)
        if chosen is None:
            about.update(Content("there is no picture at this place" if grid.steps else ""))
            return
        place = f"step {chosen.step} ({grid.step + 1}/{len(grid.steps)})"
        number = f"prompt {grid.prompt + 1}/{len(grid.prompts)}"
        width = max(20, self.size.width - 4)
        about.update(
            Content.assemble(
                (clip(chosen.prompt or "(no prompt)", width), "bold"),
                "\n",
                (clip(f"{place} · {number} · seed {chosen.seed} · {chosen.path}", width), "dim"),
            )
        )

    def action_move(self, steps: int, prompts: int) -> None:
        """Choose another picture."""
        self._grid.move(steps, prompts)
        self._show()

    def action_flip(self) -> None:
        """To the other step, and back."""
        if not self._grid.flip():
            self.say("there is only one step to look at")
        self._show()

    def action_alone(self) -> None:
        """One picture, or the grid."""
        if self._beside:
            self._beside = ""
        elif self._zoom >= _ALONE:
            self._zoom = self._before_alone
        else:
            self._before_alone, self._zoom = self._zoom, _ALONE
        self._show()

    def action_zoom(self, by: int) -> None:
        """Larger or smaller pictures."""
        self._zoom = max(0, min(self._zoom + by, _ALONE))
        self._show()

    def action_baseline(self) -> None:
        """Beside the first picture, or not."""
        self._beside = "" if self._beside == "baseline" else "baseline"
        self._show()

    def action_other_run(self) -> None:
        """Beside another run's picture, or not."""
        from tui.screens.pick_run import PickRunScreen

        if self._beside == "run":
            self._beside = ""
            self._show()
            return
        others = [run for run in self.flux.feed.runs if run.id != self._run.id]

        def picked(run_id: str | None) -> None:
            run = self.flux.feed.get(run_id) if run_id else None
            if run is not None:
                self._load_other(run)

        self.app.push_screen(PickRunScreen("Compare the pictures with", others), picked)

    @work(exclusive=True, group="other-run", exit_on_error=False)
    async def _load_other(self, run: RunRow) -> None:
        try:
            samples = await asyncio.to_thread(_samples_of, run.path)
        except OSError as error:
            self.post_message(OperationFailed("That run cannot be read", error.strerror or str(error)))
            return
        self._other, self._beside = (run, SampleGrid(samples)), "run"
        self._show()

    async def action_open(self) -> None:
        """Open the picture in the system's viewer."""
        from tui.system_viewer import open_file

        chosen = self._grid.chosen
        if chosen is None:
            return
        path = (self._run.path / chosen.path).resolve()
        if not path.is_relative_to(self._run.path.resolve()):
            return  # a run's events may come from elsewhere
        there = path.is_file()
        if there and await open_file(path):
            self.say("opening it…")
        elif there:
            self.app.copy_to_clipboard(str(path))
            self.say(f"no desktop here: {path}")
        else:
            self.say("the picture has not come home yet")

    def action_copy(self) -> None:
        """Copy the prompt and the seed."""
        if (chosen := self._grid.chosen) is not None:
            self.app.copy_to_clipboard(f"{chosen.prompt}\nseed {chosen.seed}")
            self.say("copied, where the terminal allows it")


def _samples_of(folder: Path) -> list[SampleEvent]:
    from backend.runs.compare import read_events
    from backend.runs.view import RunView

    view = RunView()
    view.apply(read_events(folder))
    return view.samples
