"""Asks for a config file, checks it, and says what is wrong before anything is launched."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.text import one_line, plural

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from config.problems import Problem

_STYLES = {"error": "$text-error", "warning": "$text-warning", "info": "dim"}
_GLYPHS = {"error": "✗", "warning": "!", "info": "·"}


class NewRunScreen(ModalScreen[Path | None], inherit_bindings=False):
    """The result is the config to train, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="new.cancel", tooltip="Start nothing."),
    ]
    DEFAULT_CSS = """
    NewRunScreen { align: center middle; }
    NewRunScreen > Vertical {
        width: 90;
        max-width: 96%;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    NewRunScreen VerticalScroll { height: auto; max-height: 40vh; margin-top: 1; scrollbar-size-vertical: 1; }
    NewRunScreen #hint { margin-top: 1; color: $text-muted; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._checked: Path | None = None  # a config that may be launched though it has warnings

    def compose(self) -> ComposeResult:
        """A line for the path, room for problems."""
        with Vertical() as box:
            box.border_title = "New run"
            yield Static(Content("Config file (YAML or JSON, as ai-toolkit writes it):"))
            yield Input(placeholder="path/to/config.yaml", id="path")
            with VerticalScroll(can_focus=False):
                yield Static(id="problems", markup=False)
            yield Static(Content("enter checks and starts · esc cancels"), id="hint")

    def on_input_changed(self) -> None:
        """Another path: what was checked counts no more."""
        self._checked = None

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Check the file; a second Enter starts it in spite of warnings."""
        text = event.value.strip()
        if not text:
            self._say(Content("Type the path of a config file first."))
            return
        path = Path(text).expanduser()
        if path == self._checked:
            self.dismiss(path)
        else:
            self._say(Content("Checking…"))
            self._check(path)

    @work(exclusive=True, group="check", exit_on_error=False)
    async def _check(self, path: Path) -> None:
        try:
            problems = await asyncio.to_thread(_problems, path)
        except Exception as error:
            self._say(Content.styled(f"The check itself failed: {one_line(str(error))}", "$text-error"))
            return
        worst = {problem.severity for problem in problems}
        if not worst & {"error", "warning"}:
            self.dismiss(path)
            return
        lines = [self._line(path, problem) for problem in problems]
        if "error" in worst:
            errors = sum(problem.severity == "error" for problem in problems)
            lines.append(
                Content.styled(f"\n{plural(errors, 'error')}: mend the file and press Enter again.", "bold")
            )
        else:
            self._checked = path
            lines.append(
                Content.styled("\nNothing that prevents a run: press Enter again to start it.", "bold")
            )
        self._say(Content("\n").join(lines))

    @staticmethod
    def _line(path: Path, problem: Problem) -> Content:
        style = _STYLES.get(problem.severity, "")
        return Content.assemble(
            (f"{_GLYPHS.get(problem.severity, '·')} {problem.severity}  ", style),
            one_line(problem.describe(path.name)),
        )

    def _say(self, text: Content) -> None:
        self.query_one("#problems", Static).update(text)

    def action_cancel(self) -> None:
        """Start nothing."""
        self.dismiss(None)


def _problems(path: Path) -> list[Problem]:
    """All problems of a config; imports pydantic and yaml, so it runs in a thread."""
    from config.load import check_config

    return list(check_config(path)[1])
