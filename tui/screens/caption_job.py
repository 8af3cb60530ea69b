"""Asks which model captions a dataset, and how."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, RadioButton, RadioSet, Static

from backend.captioning.models import PRESETS
from backend.captioning.place import DEFAULT_BUDGET, DEFAULT_GPU, ModalPlace, parse_place
from backend.captioning.request import CaptioningError, CaptionRequest
from tui.text import plural
from tui.widgets.radio import Radio, Tick

if TYPE_CHECKING:
    from textual.app import ComposeResult


class Asked(NamedTuple):
    """What is asked for, and where it is done: on Modal, or on this machine if ``place`` is None."""

    request: CaptionRequest
    place: ModalPlace | None = None


class CaptionJobScreen(ModalScreen[Asked | None], inherit_bindings=False):
    """The result is what is asked for, or None.

    Args:
        folder: The dataset.
        trigger: Its trigger word.
        caption_ext: Extension of its captions.
        chosen: Names of the chosen pictures; all if there are none.
        total: How many pictures the dataset has.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="caption-job.cancel", tooltip="Caption nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="caption-job.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="caption-job.previous",
            tooltip="The line before.",
        ),
        Binding("ctrl+s,f6", "start", "Start", id="caption-job.start", tooltip="Caption the pictures."),
    ]
    DEFAULT_CSS = """
    CaptionJobScreen { align: center middle; }
    CaptionJobScreen > Vertical {
        width: 76;
        max-width: 95%;
        height: auto;
        max-height: 100%;
        padding: 0 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    CaptionJobScreen RadioSet { layout: horizontal; width: 1fr; height: 1; }
    CaptionJobScreen Radio { width: auto; margin-right: 3; }
    CaptionJobScreen #cloud { height: 1; }
    CaptionJobScreen #cloud .label { width: auto; margin: 0 1 0 0; }
    CaptionJobScreen #gpu { width: 16; margin: 0 2 0 0; }
    CaptionJobScreen #budget { width: 9; margin: 0 2 0 0; }
    CaptionJobScreen #cost { width: 1fr; color: $text-muted; }
    CaptionJobScreen #about { color: $text-muted; height: 1; }
    CaptionJobScreen Input { border: none; height: 1; padding: 0 1; background: $boost; margin-bottom: 1; }
    CaptionJobScreen Input:focus { border: none; background: $primary-muted; }
    CaptionJobScreen #problem { height: auto; min-height: 1; color: $text-error; }
    CaptionJobScreen #hint { color: $text-muted; }
    """

    def __init__(
        self, folder: Path, trigger: str, caption_ext: str, chosen: tuple[str, ...], total: int
    ) -> None:
        super().__init__()
        self._folder, self._trigger, self._caption_ext = folder, trigger, caption_ext
        self._chosen, self._total = chosen, total

    def compose(self) -> ComposeResult:
        """The choices."""
        with Vertical() as box:
            box.border_title = Content(f"Caption {plural(len(self._chosen) or self._total, 'picture')}")
            yield RadioSet(
                Radio("on this machine", value=True, id="local"),
                Radio("on a GPU of Modal's", id="modal"),
                compact=True,
                id="where",
            )
            with Horizontal(id="cloud"):
                yield Static(Content("GPU"), classes="label")
                yield Input(DEFAULT_GPU, id="gpu")
                yield Static(Content("at most $"), classes="label")
                yield Input(f"{DEFAULT_BUDGET:.2f}", id="budget")
                yield Static(id="cost", markup=False)
            yield Static(Content("The model that writes:"))
            yield RadioSet(
                *(Radio(name, value=at == 0, id=name) for at, name in enumerate(PRESETS)),
                Radio("another", id="another"),
                compact=True,
                id="models",
            )
            yield Static(id="about", markup=False)
            yield Input(placeholder="a folder, or owner/name on the Hugging Face Hub", id="model")
            yield Static(Content("Asked about each picture ({trigger} and {caption} are filled in):"))
            yield Input(id="prompt")
            yield Static(Content("Trigger word at the beginning of each caption (may be empty):"))
            yield Input(self._trigger, id="trigger")
            yield Tick("Also pictures that have a caption", compact=True, id="everything")
            yield Static(Content("Nothing is written: captions arrive as drafts, to accept or refuse."))
            yield Static(id="problem", markup=False)
            yield Static(Content("ctrl+s starts · space chooses · tab next · esc cancels"), id="hint")

    def on_mount(self) -> None:
        """Tell of the first model."""
        self._model_changed()

    @on(RadioSet.Changed, "#where")
    @on(Input.Changed, "#gpu")
    @on(Input.Changed, "#budget")
    def _place_changed(self) -> None:
        self._show_place()

    @work(exclusive=True, group="place", exit_on_error=False)
    async def _show_place(self) -> None:
        cloud = self.query_one("#modal", RadioButton).value
        self.query_one("#cloud").display = cloud
        words = problem = ""
        try:
            place = await self._place()
            count = len(self._chosen) or self._total
            cost = await asyncio.to_thread(place.cost, count, self._pressed) if place is not None else None
            words = f"about ${cost:.2f}" if cost is not None else ""
        except CaptioningError as error:
            problem = str(error)
        self.query_one("#cost", Static).update(Content(words))
        self.query_one("#problem", Static).update(Content(problem))

    async def _place(self) -> ModalPlace | None:
        """Where it is to be done.

        Raises:
            CaptioningError: What was typed makes no sense.
        """
        if not self.query_one("#modal", RadioButton).value:
            return None
        gpu, budget = self.query_one("#gpu", Input).value, self.query_one("#budget", Input).value
        return await asyncio.to_thread(parse_place, gpu, budget)  # which reads prices

    @on(RadioSet.Changed, "#models")
    def _model_changed(self) -> None:
        self._show_model()
        self._show_place()

    def _show_model(self) -> None:
        preset = PRESETS.get(self._pressed)
        self.query_one("#about", Static).update(
            Content(preset.about if preset else "any that transformers knows")
        )
        self.query_one("#model", Input).disabled = preset is not None
        usual = preset.prompt if preset else "the model's usual question"
        self.query_one("#prompt", Input).placeholder = usual

    @property
    def _pressed(self) -> str:
        return next(
            (
                button.id or ""
                for button in self.query("#models RadioButton").results(RadioButton)
                if button.value
            ),
            "",
        )

    async def on_input_submitted(self) -> None:
        """Enter in a line starts, as in other boxes."""
        await self.action_start()

    async def action_start(self) -> None:
        """Close with what was chosen."""
        model = self._pressed
        if model not in PRESETS:
            model = self.query_one("#model", Input).value.strip()
        if not model:
            self.query_one("#problem", Static).update(Content("Name the model first."))
            self.query_one("#model").focus()
            return
        try:
            place = await self._place()
        except CaptioningError as error:
            self.query_one("#problem", Static).update(Content(str(error)))
            self.query_one("#budget").focus()
            return
        request = CaptionRequest(
            self._folder,
            model,
            self.query_one("#prompt", Input).value.strip(),
            self.query_one("#trigger", Input).value.strip(),
            self.query_one("#everything", Checkbox).value,
            self._chosen or None,
            self._caption_ext,
        )
        self.dismiss(Asked(request, place))

    def action_cancel(self) -> None:
        """Caption nothing."""
        self.dismiss(None)
