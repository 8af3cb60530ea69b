"""Base of the pages about one run that lie over the whole screen until escape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen

from tui.text import clip, one_line
from tui.widgets.key_bar import KeyBar

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.widget import Widget

    from tui.app import FluxLoraApp


class RunPage(ModalScreen[None], inherit_bindings=False):
    """A page with a title and the bar of keys.

    Args:
        title: Over the page.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+c", "close", "Back", id="page-of-run.close", tooltip="Back."),
        Binding("question_mark,f1", "help", "Help", id="page-of-run.help", tooltip="All keys of this page."),
        Binding("tab", "app.focus_next", "Next pane", show=False, id="page-of-run.next",
                tooltip="Focus the next pane."),
        Binding("shift+tab", "app.focus_previous", "Previous pane", show=False, id="page-of-run.previous",
                tooltip="Focus the previous pane."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    RunPage { background: $background; }
    RunPage > #page {
        height: 1fr;
        border: round $primary;
        border-title-color: $foreground;
        border-title-style: bold;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    RunPage > #page:nocolor { border: heavy $primary; }
    RunPage OptionList { height: 1fr; border: none; padding: 0; background: transparent; }
    RunPage OptionList:focus { border: none; }
    RunPage OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    @property
    def flux(self) -> FluxLoraApp:
        """The app, by its own type."""
        return cast("FluxLoraApp", self.app)

    def compose(self) -> ComposeResult:
        """The page's own widgets in a box, the keys below."""
        with Vertical(id="page") as box:
            box.border_title = Content(clip(one_line(self._title), 70))
            yield from self.compose_page()
        yield KeyBar()

    def compose_page(self) -> Iterable[Widget]:
        """The page's own widgets."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Put a few words under the page."""
        self.query_one("#page").border_subtitle = Content(clip(text, max(10, self.size.width - 8)))

    def action_help(self) -> None:
        """Show the keys of this page."""
        from tui.screens.help import HelpScreen, help_sections

        sections = help_sections(self, self.flux.keymap)
        self.app.push_screen(HelpScreen([part for part in sections if part.title != "Everywhere"]))

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
