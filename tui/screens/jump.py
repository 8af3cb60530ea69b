"""Jump mode: a letter over every pane; pressing it goes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from tui.modes import MODE_TABLE

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult
    from textual.geometry import Offset, Size
    from textual.screen import Screen

_LETTERS = "asdfghjklqwertyuiopzxcvbnm"  # the home row first
_TAKEN = {mode.key for mode in MODE_TABLE}


@dataclass(frozen=True)
class JumpTarget:
    """A pane, the letter that goes there, and where the letter stands on the screen."""

    letter: str
    pane: Widget
    at: Offset


def jump_targets(screen: Screen[Any]) -> list[JumpTarget]:
    """A target for every pane that can have the focus, in reading order.

    A pane may wish for a letter by an attribute ``jump_key``.
    """
    panes = [pane for pane in screen.focus_chain if pane.region.area and pane.region.overlaps(screen.region)]
    panes.sort(key=lambda pane: (pane.region.y, pane.region.x))
    wishes = {pane: str(getattr(pane, "jump_key", "")) for pane in panes}
    free = [letter for letter in _LETTERS if letter not in wishes.values() and letter not in _TAKEN]
    targets = []
    used: set[str] = set()
    for pane in panes:
        letter = wishes[pane] if wishes[pane] and wishes[pane] not in used else (free.pop(0) if free else "")
        if letter:
            used.add(letter)
            targets.append(JumpTarget(letter, pane, pane.region.offset))
    return targets


class JumpScreen(ModalScreen[Widget | None], inherit_bindings=False):
    """Shows the letters; the result is the pane to focus, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+o,ctrl+c", "cancel", "Cancel", id="jump.cancel", tooltip="Stay where you are."),
    ]
    DEFAULT_CSS = """
    JumpScreen { background: $background 40%; layers: base letters; }
    JumpScreen .letter {
        position: absolute;
        layer: letters;
        width: 5;
        height: 1;
        content-align: center middle;
        background: $accent;
        color: $background;
        text-style: bold;
    }
    JumpScreen .letter:nocolor { text-style: bold reverse; }
    JumpScreen #hint {
        dock: bottom;
        height: 1;
        padding: 0 1;
        background: $panel;
    }
    """

    def __init__(self, targets: Sequence[JumpTarget]) -> None:
        super().__init__()
        self._targets = {target.letter: target for target in targets}
        self._drawn_for: Size | None = None

    def compose(self) -> ComposeResult:
        """The letters at their panes, and a line that says what to do."""
        for target in self._targets.values():
            label = Static(Content(f"[{target.letter}]"), classes="letter")
            label.styles.offset = (target.at.x + 2, target.at.y)
            yield label
        yield Static(Content("letter pane · 1-9 screen · esc stay"), id="hint")

    async def on_key(self, event: events.Key) -> None:
        """Take the letter, or a screen's number."""
        if event.key in self._targets:
            event.stop()
            self.dismiss(self._targets[event.key].pane)
        elif mode := next((mode for mode in MODE_TABLE if mode.key == event.key), None):
            event.stop()
            self.dismiss(None)
            self.app.call_later(self.app.run_action, f"app.go('{mode.name}')")

    def on_resize(self, event: events.Resize) -> None:
        """The panes have moved: the letters would lie."""
        if self._drawn_for is not None and event.size != self._drawn_for:
            self.dismiss(None)
        self._drawn_for = event.size

    def action_cancel(self) -> None:
        """Stay."""
        self.dismiss(None)
