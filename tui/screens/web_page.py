"""Shows a web page's address: opened in the browser, copied, or read off over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.browser import open_page
from tui.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult


class WebPageScreen(ModalScreen[bool], inherit_bindings=False):
    """The result is whether to look again at what the page is for.

    Args:
        title: Over the box.
        about: Why to go there.
        url: The page.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w,enter", "open", "Open in the browser", id="page.open", tooltip="Open it in the browser."),
        Binding("y,ctrl+y", "copy", "Copy", id="page.copy", tooltip="Copy the address."),
        Binding("r", "done(True)", "Check again", id="page.recheck", tooltip="It is done there: look again."),
        Binding("escape,q,ctrl+c", "done(False)", "Close", id="page.close", tooltip="Back to the list."),
    ]
    DEFAULT_CSS = """
    WebPageScreen { align: center middle; }
    WebPageScreen > Vertical {
        width: 84;
        max-width: 96%;
        height: auto;
        max-height: 96%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    WebPageScreen #address { margin: 1 0; text-style: bold; }
    WebPageScreen #said { height: auto; min-height: 1; }
    WebPageScreen #hint { margin-top: 1; color: $text-muted; }
    """

    def __init__(self, title: str, about: str, url: str) -> None:
        super().__init__()
        self._title, self._about, self._url = title, about, one_line(url)

    def compose(self) -> ComposeResult:
        """Why, the address, and the keys."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._title))
            yield Static(Content("\n").join(Content(one_line(line)) for line in self._about.split("\n")))
            yield Static(Content(self._url), id="address")
            yield Static(id="said", markup=False)
            yield Static(
                Content("enter opens it · y copies the address · r checks again · esc closes"),
                id="hint",
            )

    async def action_open(self) -> None:
        """Open the page, where there is a browser."""
        if await open_page(self._url):
            self._say("Opening it in your browser; press r here when you are done there.")
        else:
            self._say("There is no browser on this machine's screen: copy the address with y.")

    def action_copy(self) -> None:
        """Copy the address."""
        self.app.copy_to_clipboard(self._url)
        self._say("The address is in the clipboard, where the terminal allows it.")

    def _say(self, text: str) -> None:
        self.query_one("#said", Static).update(Content(text))

    def action_done(self, again: bool) -> None:
        """Close."""
        self.dismiss(again)
