"""The invitation to start the demo run."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from tui.runs.place import LABEL, is_stand_in


class DemoCard(Widget, can_focus=True):
    """Says that the demo is ready; Enter (or the screen's own key) starts it."""

    HELP: ClassVar[str] = (
        "A demo project is ready: a very small FLUX, a dozen captioned pictures and a config. "
        "Training it takes one to two minutes on this machine's processor."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "enter",
            "screen.start_demo",
            "Start the demo",
            show=False,  # the card itself says so, and the screen's own key is shown
            id="demo.start",
            tooltip="Train the demo LoRA on this machine.",
        ),
    ]
    DEFAULT_CSS = """
    DemoCard {
        height: 4;
        border: round $accent;
        border-title-color: $foreground;
        padding: 0 1;
        &:focus { border: heavy $accent; border-title-style: bold; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="demo")
        self.border_title = "Demo"
        self._started = False

    def show_started(self, started: bool) -> None:
        """Say that the run is on its way, or invite again."""
        self._started = started
        self.refresh()

    def render(self) -> Content:
        """Two lines: what is there, and the key."""
        if self._started:
            return Content("Starting the demo run…\nThe monitor opens by itself.")
        where = f"on a {LABEL}" if is_stand_in() else "right here"
        return Content.assemble(
            ("Demo ready: press ", "bold"),
            ("Enter", "bold $text-accent"),
            (" or ", "bold"),
            ("d", "bold $text-accent"),
            (" to start.", "bold"),
            f"\nIt trains a real LoRA of a tiny FLUX, {where}, in one to two minutes.",
        )

    async def on_click(self) -> None:
        """A click starts it too."""
        await self.run_action("screen.start_demo")
