"""Asks what a dataset is checked for: resolutions and trigger word."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.datasets.training import parse_resolutions

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.datasets.session import Training

_LOW = 18  # lines


class TrainingScreen(ModalScreen["Training | None"], inherit_bindings=False):
    """The result is what was chosen, or None.

    Args:
        training: What holds now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(  # before the line, which would copy with ctrl+c
            "escape,ctrl+c",
            "cancel",
            "Cancel",
            priority=True,
            id="training.cancel",
            tooltip="Change nothing.",
        ),
        Binding(
            "tab,down", "app.focus_next", "Next", show=False, id="training.next", tooltip="The next line."
        ),
        Binding(
            "shift+tab,up",
            "app.focus_previous",
            "Previous",
            show=False,
            id="training.previous",
            tooltip="The line before.",
        ),
    ]
    DEFAULT_CSS = """
    TrainingScreen { align: center middle; }
    TrainingScreen > Vertical {
        width: 70;
        max-width: 95%;
        height: auto;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    TrainingScreen #problem { height: auto; min-height: 1; color: $text-error; }
    TrainingScreen #hint { color: $text-muted; }
    TrainingScreen.-low > Vertical { padding: 0 1; }
    TrainingScreen.-low #hint { display: none; }
    """

    def __init__(self, training: Training) -> None:
        super().__init__()
        self._training = training

    def compose(self) -> ComposeResult:
        """Two lines."""
        with Vertical() as box:
            box.border_title = "What the dataset is checked for"
            yield Static(Content("Resolutions it will be trained at:"))
            yield Input(" ".join(map(str, self._training.resolutions)), id="resolutions")
            yield Static(Content("Trigger word ([trigger] in captions becomes it; may be empty):"))
            yield Input(self._training.trigger, id="trigger")
            yield Static(id="problem", markup=False)
            yield Static(Content("enter goes on · tab next line · esc cancels"), id="hint")

    def on_resize(self) -> None:
        """In a low window both lines are seen, with what is wrong with them."""
        low = self.size.height < _LOW
        self.set_class(low, "-low")
        for line in self.query(Input):
            line.compact = low

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it if it will do."""
        found = parse_resolutions(self.query_one("#resolutions", Input).value)
        if isinstance(found, str):
            self.query_one("#problem", Static).update(Content(found))
            self.query_one("#resolutions").focus()
            return
        trigger = self.query_one("#trigger", Input).value.strip()
        self.dismiss(replace(self._training, resolutions=found, trigger=trigger))

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)
