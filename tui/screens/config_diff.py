"""Two texts of a config side by side: what differs in meaning, and line by line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.text import fit, one_line, plural

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

    from config.comparing import Change, Row

_MARKS = {"added": "+", "removed": "-", "changed": "~", "same": " "}
_STYLES = {"added": "$text-success", "removed": "$text-error", "changed": "$text-warning", "same": "dim"}


@dataclass(frozen=True)
class Comparison:
    """What to show.

    Attributes:
        before: What the left side is called.
        after: What the right side is called.
        changes: What differs in meaning; None if one side cannot be parsed.
        rows: The lines of both.
        problem: Why there are no ``changes``.
    """

    before: str
    after: str
    changes: Sequence[Change] | None
    rows: Sequence[Row]
    problem: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def compare(before: str, after: str, left: str, right: str) -> Comparison:
    """Compare two texts. Parses both: call it in a thread."""
    from config.comparing import semantic_diff, side_by_side
    from config.editing import EditError

    rows = side_by_side(before, after)
    try:
        return Comparison(left, right, semantic_diff(before, after), rows)
    except EditError as error:
        return Comparison(left, right, None, rows, str(error))


def shown(value: Any) -> str:
    """A value of a config on one line."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return json.dumps(value, ensure_ascii=False, default=str)


def change_lines(changes: Sequence[Change], width: int) -> Content:
    """Changed keys, with both values side by side."""
    if not changes:
        return Content.styled("Nothing differs in meaning.", "bold")
    key = min(34, max(12, width // 3))
    half = max(6, (width - key - 7) // 2)
    lines = []
    for change in changes:
        style = _STYLES.get(change.kind, "")
        lines.append(
            Content.assemble(
                (f"{_MARKS.get(change.kind, ' ')} {fit(change.key, key)} ", style),
                (fit(shown(change.before), half), "" if change.kind != "added" else "dim"),
                (" → ", "dim"),
                (fit(shown(change.after), half).rstrip(), "bold"),
            )
        )
    return Content("\n").join(lines)


def row_lines(rows: Sequence[Row], width: int, *, context: int = 2) -> Content:
    """Lines of both texts side by side; far from a change they are left out."""
    half = max(10, (width - 13) // 2)
    near = [
        any(r.kind != "same" for r in rows[max(0, i - context) : i + context + 1]) for i in range(len(rows))
    ]
    if not any(near):
        return Content.styled("The texts are the same.", "bold")
    lines, skipped = [], 0
    for row, wanted in zip(rows, near, strict=True):
        if not wanted:
            skipped += 1
            continue
        if skipped:
            lines.append(Content.styled(f"      ⋯ {plural(skipped, 'line')}", "dim"))
            skipped = 0
        mark, style = _MARKS.get(row.kind, " "), _STYLES.get(row.kind, "")

        def side(number: int | None, text: str | None) -> str:
            shown_number = f"{number:>4} " if number is not None else "     "
            # leading blanks are YAML's meaning: one_line would eat them
            words = "" if text is None else text.rstrip("\r\n")
            blanks = len(words) - len(words.lstrip(" "))
            return shown_number + fit("\u00a0" * blanks + one_line(words.lstrip(" ")), half)

        lines.append(
            Content.assemble(
                (f"{mark} ", style),
                (side(row.left_line, row.left), style),
                " ",
                (side(row.right_line, row.right).rstrip(), style),
            )
        )
    if skipped:
        lines.append(Content.styled(f"      ⋯ {plural(skipped, 'line')}", "dim"))
    return Content("\n").join(lines)


class ConfigDiffScreen(ModalScreen[None], inherit_bindings=False):
    """Shows a :class:`Comparison`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+c", "close", "Close", id="diff.close", tooltip="Back to where you were."),
        Binding(
            "s,tab", "switch", "Keys or lines", id="diff.switch", tooltip="Changed keys, or whole lines."
        ),
        Binding("down,j", "scroll(1)", "Down", show=False, id="diff.down", tooltip="A line down."),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="diff.up", tooltip="A line up."),
        Binding("pagedown,space", "page(1)", "Page down", show=False, id="diff.page-down", tooltip="A page."),
        Binding("pageup", "page(-1)", "Page up", show=False, id="diff.page-up", tooltip="A page up."),
    ]
    DEFAULT_CSS = """
    ConfigDiffScreen { align: center middle; }
    ConfigDiffScreen > Vertical {
        width: 96%;
        height: auto;
        max-height: 94%;
        padding: 0 1;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    ConfigDiffScreen VerticalScroll { height: auto; max-height: 75vh; scrollbar-size-vertical: 1; }
    ConfigDiffScreen .line { height: auto; margin-bottom: 1; }
    ConfigDiffScreen #hint { color: $text-muted; margin-top: 1; }
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self._comparison = comparison
        self.by_line = comparison.changes is None

    def compose(self) -> ComposeResult:
        """Names, lines, keys."""
        with Vertical() as box:
            box.border_title = Content("Compared")
            yield Static(id="names", classes="line", markup=False)
            with VerticalScroll():
                yield Static(id="body", markup=False)
            yield Static(Content("s keys or lines · ↑ ↓ scroll · esc closes"), id="hint")

    def on_mount(self) -> None:
        """Show the keys; the lines if they cannot be compared."""
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        """The columns have another width."""
        self._show()

    def _show(self) -> None:
        it = self._comparison
        width = max(30, int(self.app.size.width * 0.96) - 6)
        head = Content.assemble(
            (one_line(it.before), "bold"), (" → ", "dim"), (one_line(it.after), "bold"),
            ("   lines" if self.by_line else "   changed keys", "$text-muted"),
        )  # fmt: skip
        if it.problem:
            head = Content("\n").join([head, Content.styled(one_line(it.problem), "$text-warning")])
        self.query_one("#names", Static).update(head)
        body = (
            row_lines(it.rows, width)
            if self.by_line or it.changes is None
            else change_lines(it.changes, width)
        )
        self.query_one("#body", Static).update(body)

    def action_switch(self) -> None:
        """Keys or lines."""
        self.by_line = self._comparison.changes is None or not self.by_line
        self._show()

    def action_scroll(self, by: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)

    def action_page(self, by: int) -> None:
        """Scroll by pages."""
        pane = self.query_one(VerticalScroll)
        pane.scroll_relative(y=by * max(1, pane.size.height - 1), animate=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
