"""Asks how pictures are prepared for training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, RadioButton, RadioSet, Static

from backend.datasets.prepare import PrepareOptions
from tui.text import plural
from tui.widgets.radio import Radio, Tick

if TYPE_CHECKING:
    from textual.app import ComposeResult


_LOW = 18  # lines; with fewer all that can be chosen is seen, and what explains it is not


@dataclass(frozen=True)
class Preparation:
    """How to prepare."""

    options: PrepareOptions


class PrepareScreen(ModalScreen[Preparation | None], inherit_bindings=False):
    """The result is how, or None.

    Args:
        count: How many pictures.
        folder: The dataset, beside which the prepared pictures go by default.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="prepare.cancel", tooltip="Change nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="prepare.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="prepare.previous",
            tooltip="The line before.",
        ),
        Binding("ctrl+s,f6", "start", "Start", id="prepare.start", tooltip="Prepare the pictures."),
    ]
    DEFAULT_CSS = """
    PrepareScreen { align: center middle; }
    PrepareScreen > Vertical {
        width: 76;
        max-width: 95%;
        height: auto;
        max-height: 95%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    PrepareScreen RadioSet { layout: horizontal; width: 1fr; height: 1; margin-bottom: 1; }
    PrepareScreen Radio { width: auto; margin-right: 3; }
    PrepareScreen #problem { height: auto; min-height: 1; color: $text-error; }
    PrepareScreen #hint { color: $text-muted; }
    PrepareScreen.-low > Vertical { padding: 0 1; max-height: 100%; }
    PrepareScreen.-low RadioSet { layout: vertical; height: 2; margin-bottom: 0; }
    PrepareScreen.-low #intro, PrepareScreen.-low #hint { display: none; }
    """

    def __init__(self, count: int, folder: Path) -> None:
        super().__init__()
        self._count, self._folder = count, folder

    def compose(self) -> ComposeResult:
        """The choices."""
        with Vertical() as box:
            box.border_title = Content(f"Prepare {plural(self._count, 'picture')}")
            yield Static(
                Content("Each becomes an upright RGB file without transparency, saved as:"), id="intro"
            )
            yield RadioSet(
                Radio("PNG (nothing is lost)", value=True, id="png"),
                Radio("JPEG (smaller)", id="jpeg"),
                compact=True,
            )
            yield Tick("Make the crops; else they are kept as crops", compact=True, id="crop")
            yield Tick("Change this dataset; originals go to the trash", compact=True, id="in-place")
            yield Static(Content("Else into this folder, with copies of the captions:"))
            yield Input(str(self._folder.with_name(self._folder.name + "-prepared")), id="target")
            yield Static(id="problem", markup=False)
            yield Static(Content("ctrl+s starts · space chooses · tab next · esc cancels"), id="hint")

    def on_resize(self) -> None:
        """In a low window every choice is seen."""
        low = self.size.height < _LOW
        self.set_class(low, "-low")
        self.query_one("#target", Input).compact = low

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        """In place needs no folder."""
        if event.checkbox.id == "in-place":
            self.query_one("#target", Input).disabled = event.value

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in the line starts, as in other boxes."""
        self.action_start()

    def action_start(self) -> None:
        """Close with what was chosen."""
        in_place = self.query_one("#in-place", Checkbox).value
        text = self.query_one("#target", Input).value.strip()
        target = Path(text).expanduser().absolute() if text else None
        problem = ""
        if not in_place:
            if target is None:
                problem = "Type a folder, or change this dataset."
            elif target == self._folder or target.is_relative_to(self._folder):
                problem = "That is inside this dataset: choose another folder, or change the dataset itself."
        if problem:
            self.query_one("#problem", Static).update(Content(problem))
            self.query_one("#target").focus()
            return
        jpeg = self.query_one("#jpeg", RadioButton).value
        options = PrepareOptions(
            None if in_place else target,
            format="jpeg" if jpeg else "png",
            crop=self.query_one("#crop", Checkbox).value,
        )
        self.dismiss(Preparation(options))

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
