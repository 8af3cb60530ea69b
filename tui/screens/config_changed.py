"""The file was changed by somebody else while it was edited: what now?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.screens.config_diff import Comparison, row_lines
from tui.text import one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult


class ConfigChangedScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is merge, mine, theirs, or None to decide later.

    Args:
        name: The file's name.
        comparison: The text of the editor and that of the disk; None if the file is gone.
        dirty: Whether the editor has changes of its own.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "answer('merge')", "Merge", id="changed.merge", tooltip="Both changes in one text."),
        Binding("t", "answer('theirs')", "Take it", id="changed.theirs", tooltip="The text of the disk."),
        Binding(
            "k", "answer('mine')", "Keep mine", id="changed.mine", tooltip="Mine, also when it is saved."
        ),
        Binding("escape,ctrl+c", "answer('')", "Later", id="changed.later", tooltip="Decide later."),
        Binding("down,j", "scroll(1)", "Down", show=False, id="changed.down", tooltip="A line down."),
        Binding("up", "scroll(-1)", "Up", show=False, id="changed.up", tooltip="A line up."),
    ]
    DEFAULT_CSS = """
    ConfigChangedScreen { align: center middle; }
    ConfigChangedScreen > Vertical {
        width: 96%;
        height: auto;
        max-height: 94%;
        padding: 0 1;
        border: round $warning;
        border-title-style: bold;
        background: $surface;
    }
    ConfigChangedScreen #text { height: auto; margin-bottom: 1; }
    ConfigChangedScreen VerticalScroll { height: auto; max-height: 60vh; scrollbar-size-vertical: 1; }
    ConfigChangedScreen #hint { margin-top: 1; color: $text-muted; }
    """

    def __init__(self, name: str, comparison: Comparison | None, *, dirty: bool) -> None:
        super().__init__()
        self._name, self._comparison, self._dirty = name, comparison, dirty

    def compose(self) -> ComposeResult:
        """What happened, the difference, the answers."""
        gone = self._comparison is None
        text = (
            "It is not on the disk any more. Your text is still here."
            if gone
            else "You have changes of your own; both can be merged."
            if self._dirty
            else "You have no changes of your own."
        )
        with Vertical() as box:
            box.border_title = Content(one_line(f"{self._name} was changed by somebody else"))
            yield Static(Content(text), id="text")
            with VerticalScroll():
                yield Static(id="body", markup=False)
            keys = "k keep mine · esc later" if gone else "m merge · t take theirs · k keep mine · esc later"
            yield Static(Content(keys), id="hint")

    def on_mount(self) -> None:
        """Show what differs."""
        if self._comparison is not None:
            width = max(30, int(self.app.size.width * 0.96) - 6)
            self.query_one("#body", Static).update(row_lines(self._comparison.rows, width))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A file that is gone can be neither merged nor taken."""
        return not (action == "answer" and self._comparison is None and parameters[0] in ("merge", "theirs"))

    def action_answer(self, what: str) -> None:
        """Close with the answer."""
        self.dismiss(what or None)

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
