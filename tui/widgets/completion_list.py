"""The list of completions over the text: what can stand here, and what it means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Offset
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.text import clip, one_line

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from config.completion import Candidate

_WIDTH = 56
_ROWS = 8


class CompletionList(Vertical):
    """Candidates at the cursor; never focused, the text view sends it the keys that are its own."""

    DEFAULT_CSS: ClassVar[str] = """
    CompletionList {
        overlay: screen;
        constrain: inside inflect;
        display: none;
        width: 58;
        height: auto;
        border: round $primary;
        background: $surface;
        & > OptionList {
            width: 1fr; height: 1; border: none; padding: 0;
            background: transparent; scrollbar-size-vertical: 1;
        }
        & > OptionList > .option-list--option-highlighted { background: $primary-muted; text-style: bold; }
        & > OptionList:nocolor > .option-list--option-highlighted { text-style: reverse; }
        & > Static { height: 3; color: $text-muted; border-top: solid $foreground 20%; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.candidates: tuple[Candidate, ...] = ()

    def compose(self) -> ComposeResult:
        """The list, and the help of its line."""
        options = OptionList(markup=False)
        options.can_focus = False
        yield options
        yield Static(markup=False)

    @property
    def is_open(self) -> bool:
        """Whether it is shown."""
        return bool(self.display)

    def open(self, candidates: Sequence[Candidate], at: Offset) -> None:
        """Show candidates below a place of the screen."""
        options = self.query_one(OptionList)
        chosen = self.chosen
        self.candidates = tuple(candidates)
        options.set_options(
            Option(
                Content.assemble(
                    one_line(c.text),
                    ("  " + clip(c.detail, _WIDTH - len(c.text) - 4) if c.detail else "", "dim"),
                )
            )
            for c in candidates
        )
        texts = [c.text for c in candidates]
        keep = self.is_open and chosen is not None and chosen.text in texts
        rows = min(_ROWS, len(texts))
        if options.styles.height is None or options.styles.height.value != rows:
            options.styles.height = rows  # told, not found out: a layout only where the height is another one
        options.highlighted = texts.index(chosen.text) if keep and chosen is not None else 0
        place = Offset(at.x, at.y + 1)
        if self.absolute_offset != place:
            self.absolute_offset = place
            self.refresh(layout=True)
        self.display = True
        self._show_help()

    def close(self) -> None:
        """Hide it."""
        self.display = False
        self.candidates = ()

    @property
    def chosen(self) -> Candidate | None:
        """The candidate under the list's cursor."""
        at = self.query_one(OptionList).highlighted
        return self.candidates[at] if at is not None and at < len(self.candidates) else None

    def move(self, by: int) -> None:
        """Move the cursor, round the ends."""
        if self.candidates:
            options = self.query_one(OptionList)
            options.highlighted = ((options.highlighted or 0) + by) % len(self.candidates)
            self._show_help()

    def _show_help(self) -> None:
        chosen = self.chosen
        text = self.query_one(Static)
        text.display = chosen is not None and bool(chosen.help)
        if chosen is not None:
            text.update(Content(one_line(chosen.help)), layout=False)
