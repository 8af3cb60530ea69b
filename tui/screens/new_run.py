"""Asks for a config file and where to train it, says what is wrong with it, and what it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, RadioButton, RadioSet, Static

from tui.runs.launch_cost import CostWords, ModalChoice, choice_of, cost_words, overrides
from tui.runs.place import LABEL, is_stand_in
from tui.text import one_line, plural
from tui.widgets.radio import Radio

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from config.problems import Problem

_STYLES = {"error": "$text-error", "warning": "$text-warning", "info": "dim"}
_GLYPHS = {"error": "✗", "warning": "!", "info": "·"}
_PAUSE = 0.3  # seconds without typing after which the config is read


@dataclass(frozen=True)
class NewRun:
    """What to start.

    Attributes:
        config: The config file.
        backend: Where, ``local`` or ``modal``.
        overrides: ``key.path=value``, over what the file says.
    """

    config: Path
    backend: str = "local"
    overrides: tuple[str, ...] = ()


class NewRunScreen(ModalScreen[NewRun | None], inherit_bindings=False):
    """The result is the run to start, or None.

    Args:
        backend: What is chosen at first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="new.cancel", tooltip="Start nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="new.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="new.previous",
            tooltip="The line before.",
        ),
    ]
    DEFAULT_CSS = """
    NewRunScreen { align: center middle; }
    NewRunScreen > Vertical {
        width: 90;
        max-width: 96%;
        height: auto;
        max-height: 94%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    NewRunScreen RadioSet { layout: horizontal; width: 1fr; height: 1; margin-top: 1; }
    NewRunScreen Radio { width: auto; margin-right: 3; }
    NewRunScreen RadioSet:blur > Radio.-selected > .toggle--label { background: transparent; }
    NewRunScreen Radio.-on > .toggle--label { text-style: bold; }
    NewRunScreen #on-modal { height: auto; display: none; }
    NewRunScreen.-modal #on-modal { display: block; }
    NewRunScreen #choice { height: 1; margin-top: 1; }
    NewRunScreen #choice Label { width: auto; margin-right: 1; }
    NewRunScreen #gpus { width: 1fr; margin-right: 3; }
    NewRunScreen #budget { width: 10; }
    NewRunScreen #cost { height: auto; }
    NewRunScreen VerticalScroll { height: auto; max-height: 30vh; margin-top: 1; scrollbar-size-vertical: 1; }
    NewRunScreen #hint { margin-top: 1; color: $text-muted; }
    """

    def __init__(self, backend: str = "local", path: str = "") -> None:
        super().__init__()
        self._first_path = path
        self._wanted = backend
        self._checked: NewRun | None = None  # what may be launched though it has warnings
        self._config: ModalChoice | None = None  # what the config says of Modal
        self._edited: set[str] = set()  # lines that the user changed: no config fills them now

    def compose(self) -> ComposeResult:
        """A line for the path, where to train, room for problems."""
        place = LABEL.capitalize() if is_stand_in() else "Modal (cloud GPU)"
        with Vertical() as box:
            box.border_title = "New run"
            yield Static(Content("Config file (YAML or JSON, as ai-toolkit writes it):"))
            yield Input(self._first_path, placeholder="path/to/config.yaml", id="path")
            yield RadioSet(
                Radio("This machine", value=self._wanted != "modal", id="local"),
                Radio(place, value=self._wanted == "modal", id="modal"),
                compact=True,
            )
            yield Static(id="token", markup=False)
            with Vertical(id="on-modal"):
                with Horizontal(id="choice"):
                    yield Label("GPUs in order:")
                    yield Input(compact=True, id="gpus")
                    yield Label("Budget $:")
                    yield Input(compact=True, id="budget", placeholder="no limit")
                yield Static(id="cost", markup=False)
            with VerticalScroll(can_focus=False):
                yield Static(id="problems", markup=False)
            yield Static(Content("enter checks and starts · tab next line · esc cancels"), id="hint")

    def on_mount(self) -> None:
        """Find out whether there is a way to Modal, and what a config says by default."""
        self.query_one("#token").display = False
        self.set_class(self._wanted == "modal", "-modal")
        self._read_config(0.0)

    @property
    def _backend(self) -> str:
        return "modal" if self.query_one("#modal", RadioButton).value else "local"

    @property
    def _path(self) -> Path | None:
        text = self.query_one("#path", Input).value.strip()
        return Path(text).expanduser() if text else None

    @property
    def _typed(self) -> ModalChoice | None:
        """What the config says, with what was typed over it."""
        if self._config is None:
            return None
        choice = self._config
        if "gpus" in self._edited:
            choice = replace(choice, gpus=self.query_one("#gpus", Input).value)
        if "budget" in self._edited:
            choice = replace(choice, budget=self.query_one("#budget", Input).value)
        return choice

    # What is typed

    @on(Input.Changed)
    def _line_changed(self, event: Input.Changed) -> None:
        """What was checked counts no more; a config may say other things of Modal."""
        self._checked = None
        if event.input.id == "path":
            self._read_config(_PAUSE)
        else:
            self._edited.add(event.input.id or "")
            self._reckon()

    @on(RadioSet.Changed)
    def _place_changed(self) -> None:
        self._checked = None
        self.set_class(self._backend == "modal", "-modal")

    @work(exclusive=True, group="read", exit_on_error=False)
    async def _read_config(self, pause: float) -> None:
        await asyncio.sleep(pause)
        path = self._path
        has_token = await asyncio.to_thread(_has_token, path)
        self._show_token(has_token)
        try:
            self._config = await asyncio.to_thread(choice_of, path)
        except Exception:  # an unreadable file: the check says what is wrong with it
            self._config = self._config or await asyncio.to_thread(choice_of, None)
        for name, value in (("gpus", self._config.gpus), ("budget", self._config.budget)):
            line = self.query_one(f"#{name}", Input)
            if name not in self._edited and line.value != value:
                with self.prevent(Input.Changed):
                    line.value = value
        self._reckon()

    def _show_token(self, has_token: bool) -> None:
        button, note = self.query_one("#modal", RadioButton), self.query_one("#token", Static)
        button.disabled = not has_token
        note.display = not has_token
        note.update(Content.styled("For Modal, first in a terminal: fluxlora-tui login modal", "dim"))
        if not has_token and button.value:
            self.query_one("#local", RadioButton).value = True

    @work(exclusive=True, group="reckon", exit_on_error=False)
    async def _reckon(self) -> None:
        choice = self._typed
        if choice is not None:
            self._show_cost(await asyncio.to_thread(cost_words, choice))

    def _show_cost(self, words: CostWords) -> None:
        lines = [
            Content.styled(one_line(text), style)
            for text, style in (
                (words.text, "$text-muted"),
                (words.problem, "$text-error"),
                (words.warning, "$text-warning"),
            )
            if text
        ]
        self.query_one("#cost", Static).update(Content("\n").join(lines))

    # Checking

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Check the file; a second Enter starts it in spite of warnings."""
        path = self._path
        if path is None:
            self._say(Content("Type the path of a config file first."))
            self.query_one("#path").focus()
            return
        if self._checked is not None and self._checked == self._run(path):
            self.dismiss(self._checked)
        else:
            self._say(Content("Checking…"))
            self._check(path)

    def _run(self, path: Path) -> NewRun:
        typed = self._typed
        if self._backend != "modal" or typed is None or self._config is None:
            return NewRun(path, self._backend)
        return NewRun(path, "modal", overrides(typed, self._config))

    @work(exclusive=True, group="check", exit_on_error=False)
    async def _check(self, path: Path) -> None:
        run = self._run(path)
        try:
            problems = await asyncio.to_thread(_problems, path, run.overrides)
        except Exception as error:
            self._say(Content.styled(f"The check itself failed: {one_line(str(error))}", "$text-error"))
            return
        worst = {problem.severity for problem in problems}
        if not worst & {"error", "warning"}:
            self.dismiss(run)
            return
        lines = [self._line(path, problem) for problem in problems]
        if "error" in worst:
            errors = sum(problem.severity == "error" for problem in problems)
            lines.append(
                Content.styled(f"\n{plural(errors, 'error')}: mend the file and press Enter again.", "bold")
            )
        else:
            self._checked = run
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


def _problems(path: Path, changes: Sequence[str]) -> list[Problem]:
    """All problems of a config; imports pydantic and yaml, so it runs in a thread."""
    from config.load import check_config

    return list(check_config(path, changes)[1])


def _has_token(config: Path | None) -> bool:
    """Whether a launch of the config would find a Modal token; reads files, so it runs in a thread."""
    from backend.credentials.modal_profiles import find_modal_token

    folders = {Path.cwd()} | ({config.absolute().parent} if config is not None else set())
    return any(find_modal_token(None, folder) is not None for folder in folders)
