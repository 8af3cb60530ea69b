"""What the parts of the editor share: the file, the text, what was found in it, two lines that say so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from textual.content import Content
from textual.widgets import Static

from tui.configs.text import LARGE, Findings
from tui.screens.base import MainScreen
from tui.text import clip, one_line, plural
from tui.widgets.completion_list import CompletionList
from tui.widgets.config_form import ConfigForm
from tui.widgets.config_problems import GLYPHS, STYLES, count_words
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from collections.abc import Callable

    from config.problems import Problem
    from tui.configs.file import ConfigFile
    from tui.configs.worker import CheckProcess

P = ParamSpec("P")
T = TypeVar("T")


class EditorPart(MainScreen):
    """Base of the parts of :class:`~tui.screens.config_editor.ConfigEditorScreen`.

    Args:
        path: The config's file.
    """

    file: ConfigFile
    checks: CheckProcess

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._findings = Findings((), (), None)
        self._looked_at = -1  # the text's version that the findings are of
        self._estimate_wanted: bool | None = None
        self._loaded = False
        self._form_error = ""

    @property
    def area(self) -> YamlArea:
        """The text."""
        return self.query_one(YamlArea)

    @property
    def form(self) -> ConfigForm:
        """The form."""
        return self.query_one(ConfigForm)

    @property
    def popup(self) -> CompletionList:
        """The completions."""
        return self.query_one(CompletionList)

    @property
    def in_form(self) -> bool:
        """Whether the form is shown."""
        return self.has_class("-form")

    @property
    def dirty(self) -> bool:
        """Whether the text differs from the file."""
        return self._loaded and self.area.text != self.file.saved

    async def _ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What a slow function of :mod:`tui.configs.text` says, without holding up the keys.

        Raises:
            Overtaken: If the same was asked again before this one's turn.
        """
        if self.area.document.line_count > LARGE:
            return await self.checks.call(function, *args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    # -- what one part asks of another ----------------------------------------------------------------

    def _text_changed(self) -> None:
        """The text is another one: check it after a pause."""
        raise NotImplementedError

    def _show(self, findings: Findings, version: int) -> None:
        """Show what a check of the text's ``version`` found."""
        raise NotImplementedError

    def _go_to_path(self, key: str) -> Any:
        """Go to a key of the text by its path, dots between."""
        raise NotImplementedError

    def action_switch_view(self) -> None:
        """Text or form."""
        raise NotImplementedError

    async def _update_form(self) -> None:
        """Bring the form up to date at once; the check follows after its pause."""
        raise NotImplementedError

    async def _save(self) -> bool:
        """Write the file; False if it was not written, which was said."""
        raise NotImplementedError

    def _complete(self, *, automatic: bool) -> None:
        """List what can stand at the cursor."""
        raise NotImplementedError

    def _close_popup(self) -> None:
        """Hide the completions."""
        raise NotImplementedError

    def _show_help(self, text: Content) -> None:
        """Show help about a key."""
        raise NotImplementedError

    # -- the lines above and below --------------------------------------------------------------------

    def _title(self) -> None:
        state = ("● not saved", "bold $text-warning") if self.dirty else ("saved", "$text-muted")
        if not self._loaded:
            state = ("opening…", "dim")
        parts: list[Any] = [
            (clip(self._path.name, 40), "bold"), "  ", state,
            ("  form" if self.in_form else "  text", "$text-accent"),
        ]  # fmt: skip
        problems = self._findings.problems
        if self._looked_at >= 0:
            severities = {p.severity for p in problems}
            worst = next((name for name in ("error", "warning", "info") if name in severities), "")
            style = STYLES.get(worst, "$text-success")
            parts.append((f"  {'✓ ' if not problems else ''}{count_words(problems)}", style))
        if self._findings.sweep:
            parts.append((f"  sweep of {plural(self._findings.sweep, 'run')}", "$text-accent"))
        title = Content.assemble(*parts)
        line = self.query_one("#title", Static)
        if str(line.content) != str(title):
            line.update(title, layout=False)

    def _problems_at(self, line: int) -> list[Problem]:
        return [p for p in self._findings.problems if p.line == line + 1]

    def _say_here(self) -> None:
        """The problem of the cursor's line, or where the cursor is."""
        line, column = self.area.cursor_location
        here = self._problems_at(line) if not self.in_form else []
        if self.in_form and self._form_error:
            text = Content.styled(one_line(f"✗ {self._form_error}"), "$text-error")
        elif here:
            text = Content.styled(
                one_line(f"{GLYPHS.get(here[0].severity, '·')} {here[0].message}"),
                STYLES.get(here[0].severity, ""),
            )
        else:
            place = "" if self.in_form else f"line {line + 1}, column {column + 1}"
            text = Content.styled(place, "$text-muted")
        said = self.query_one("#here", Static)
        if str(said.content) != str(text):
            said.update(text, layout=False)
