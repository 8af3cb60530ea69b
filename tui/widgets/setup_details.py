"""What a check means, what was found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from backend.credentials.redaction import redact
from tui.setup_about import ABOUT, remedy
from tui.text import one_line
from tui.widgets.setup_list import state_words

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from tui.setup import SetupCheck


class SetupDetails(VerticalScroll, inherit_bindings=False):
    """The whole text of the row under the cursor; it scrolls, and can be selected with the mouse."""

    HELP: ClassVar[str] = (
        "The whole text of the row under the cursor. The copy key copies its address or advice."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_down", "Down", show=False, id="setup-details.down", tooltip="A line down."),
        Binding("up,k", "scroll_up", "Up", show=False, id="setup-details.up", tooltip="A line up."),
        Binding(
            "pagedown",
            "page_down",
            "Page down",
            show=False,
            id="setup-details.page-down",
            tooltip="A page down.",
        ),
        Binding("pageup", "page_up", "Page up", show=False, id="setup-details.page-up", tooltip="A page up."),
    ]
    DEFAULT_CSS = """
    SetupDetails {
        height: 1fr;
        min-height: 4;
        border: round $foreground 30%;
        border-title-color: $foreground;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        &:focus { border: round $primary; border-title-style: bold; }
        &:nocolor:focus { border: heavy $primary; }
    }
    """

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static(id="setup-text", markup=False)

    def show_check(self, check: SetupCheck | None, progress: str = "") -> None:
        """Show a check; ``progress`` stands for its detail while something is done about it."""
        text = self.query_one("#setup-text", Static)
        if check is None:
            text.update("")
            return
        title = Content(check.title).markup
        if self.border_title != title:
            self.border_title = title
            self.scroll_home(animate=False)
        text.update(self._text(check, progress))

    @staticmethod
    def _text(check: SetupCheck, progress: str) -> Content:
        state = Content(state_words(check.state).plain.rstrip()).stylize(
            state_words(check.state).spans[0].style
        )
        detail = one_line(redact(progress or check.detail))
        lines = [Content.assemble(state, f": {detail}" if detail else "")]
        if check.fix and check.state not in ("ok", "pending") and not progress:
            lines.append(Content.assemble(("To do: ", "bold"), one_line(redact(check.fix))))
        action = remedy(check)
        if action is not None and check.state != "pending" and not progress:
            lines.append(Content.assemble(("enter ", "bold $text-accent"), action.words))
        lines.append(Content.styled(ABOUT.get(check.id, ""), "dim"))
        return Content("\n").join(lines)
