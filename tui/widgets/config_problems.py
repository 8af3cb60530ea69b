"""What is wrong with a config, a line each; Enter goes to the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.text import one_line
from tui.widgets.rows import cursor_keys

if TYPE_CHECKING:
    from config.problems import Problem

STYLES = {"error": "$text-error", "warning": "$text-warning", "info": "$text-muted"}
GLYPHS = {"error": "✗", "warning": "!", "info": "·"}


def count_words(problems: Sequence[Problem]) -> str:
    """``2 errors, 1 warning``; ``no problems``."""
    words = []
    for severity, noun in (("error", "error"), ("warning", "warning"), ("info", "hint")):
        count = sum(p.severity == severity for p in problems)
        if count:
            words.append(f"{count} {noun}{'' if count == 1 else 's'}")
    return ", ".join(words) or "no problems"


def problem_line(problem: Problem) -> Content:
    """Mark, line, key and sentence."""
    place = f"{problem.line:>4} " if problem.line is not None else "   – "  # noqa: RUF001 - a dash
    return Content.assemble(
        (f"{GLYPHS.get(problem.severity, '·')} ", STYLES.get(problem.severity, "")),
        (place, "$text-muted"),
        (f"{one_line(problem.key)}  " if problem.key else "", "bold"),
        one_line(problem.message),
    )


class ConfigProblems(OptionList, inherit_bindings=False):
    """The problems in the file's order."""

    HELP: ClassVar[str] = "`✗` prevents a launch, `!` probably costs money or quality, `·` is a hint."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Go there", id="checks.go", tooltip="Go to the place in the text."),
        Binding("f", "fix", "Fix", id="checks.fix", tooltip="What would mend it."),
        *cursor_keys("checks", "problem"),
    ]
    DEFAULT_CSS = """
    ConfigProblems {
        height: auto;
        max-height: 8;
        border: round $foreground 30%;
        border-title-color: $foreground;
        padding: 0;
        background: transparent;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted {
            background: $foreground 8%; color: $foreground; text-style: none;
        }
        &:focus { border: round $primary; border-title-style: bold; background-tint: transparent; }
        &:focus > .option-list--option-highlighted { background: $primary-muted; text-style: bold; }
        &:nocolor:focus { border: heavy $primary; }
        &:nocolor:focus > .option-list--option-highlighted { text-style: bold underline; }
    }
    """

    @dataclass
    class Chosen(Message):
        """The user wants to see a problem's place."""

        problem: Problem

    @dataclass
    class FixWanted(Message):
        """The user wants a problem mended."""

        problem: Problem

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, markup=False)
        self.problems: tuple[Problem, ...] = ()
        self.border_title = "Problems"
        self.display = False

    def show_problems(self, problems: Sequence[Problem], words: str = "") -> None:
        """Bring the list up to date; it is hidden while it is empty."""
        if tuple(problems) != self.problems:
            at = self.highlighted
            self.problems = tuple(problems)
            self.set_options(Option(problem_line(problem)) for problem in problems)
            if problems:
                self.highlighted = min(at or 0, len(problems) - 1)
        self.border_title = Content(f"Problems: {words or count_words(problems)}")
        self.display = bool(problems)

    @property
    def chosen(self) -> Problem | None:
        """The problem under the cursor."""
        at = self.highlighted
        return self.problems[at] if at is not None and at < len(self.problems) else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Say which."""
        event.stop()
        self.post_message(self.Chosen(self.problems[event.option_index]))

    def action_fix(self) -> None:
        """Ask for what would mend it."""
        if (problem := self.chosen) is not None:
            self.post_message(self.FixWanted(problem))
