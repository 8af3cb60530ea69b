"""What a key of a config means."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.content import Content


class KeyHelpScreen(ModalScreen[None], inherit_bindings=False):
    """Shows a text until a key is pressed that closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,ctrl+k,K,ctrl+c", "close", "Close", id="key-help.close", tooltip="Back."),
    ]
    DEFAULT_CSS = """
    KeyHelpScreen { align: center middle; }
    KeyHelpScreen > VerticalScroll {
        width: 80; max-width: 96%; height: auto; max-height: 80%;
        padding: 1 2; border: round $border; background: $surface;
        border-subtitle-color: $text-muted;
    }
    KeyHelpScreen Static { height: auto; }
    """

    def __init__(self, text: Content) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The text."""
        with VerticalScroll() as box:
            box.border_subtitle = "esc closes"
            yield Static(self._text, markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
