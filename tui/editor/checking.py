"""The editor's check: problems as one types, going to them, mending them, finding a key."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import on, work
from textual.widgets import TextArea

from tui.configs.text import LARGE, Findings, fixes, is_json, keys_of, look, reckon
from tui.configs.worker import Overtaken
from tui.editor.part import EditorPart
from tui.text import one_line
from tui.widgets.config_problems import ConfigProblems
from tui.widgets.estimate_pane import EstimatePane

if TYPE_CHECKING:
    from config.problems import Problem


_PAUSE, _LONG_PAUSE = 0.15, 0.6  # seconds without typing after which a text is checked


class Checking(EditorPart):
    """Part of the editor: what is wrong with the text, what it takes, and where its keys are."""

    @on(TextArea.Changed)
    def _area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._text_changed()

    def _text_changed(self) -> None:
        if self._loaded:
            self._title()
            self._look()

    @on(TextArea.SelectionChanged)
    def _cursor_moved(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        self._say_here()
        if self.popup.is_open:
            self._complete(automatic=True)

    @work(exclusive=True, group="look", exit_on_error=False)
    async def _look(self) -> None:
        """Check the text after a pause; what comes too late is dropped."""
        lines = self.area.document.line_count
        await asyncio.sleep(_LONG_PAUSE if lines > LARGE else _PAUSE)
        version, text = self.area.version, self.area.text
        try:
            findings = await self._ask(look, self._path.absolute(), text, form=self.in_form)
        except Overtaken:
            return
        if version != self.area.version:
            return
        self._show(findings, version)
        if self.has_class("-estimate"):
            self._reckon()

    def _show(self, findings: Findings, version: int) -> None:
        self._findings, self._looked_at = findings, version
        self.area.show_marks(findings.marks)
        self.query_one(ConfigProblems).show_problems(findings.problems)
        if findings.groups is not None:
            self.form.show_groups(findings.groups)
        self._form_error = findings.reason
        self._title()
        self._say_here()

    @work(exclusive=True, group="reckon", exit_on_error=False)
    async def _reckon(self) -> None:
        version, text = self.area.version, self.area.text
        try:
            estimate, levers = await self._ask(reckon, self._path.absolute(), text)
        except Overtaken:
            return
        except Exception as error:  # an estimate must never disturb the editing
            self.query_one(EstimatePane).show_estimate(None, problem=f"No estimate: {error}")
            return
        if version == self.area.version:
            self.query_one(EstimatePane).show_estimate(estimate, levers)

    # -- problems, keys, fixes ------------------------------------------------------------------------

    @on(ConfigProblems.Chosen)
    def _problem_chosen(self, event: ConfigProblems.Chosen) -> None:
        event.stop()
        self._go_to_problem(event.problem)

    def _go_to_problem(self, problem: Problem) -> None:
        pane = self.query_one(ConfigProblems)
        pane.highlighted = pane.problems.index(problem) if problem in pane.problems else pane.highlighted
        if self.in_form:
            self.form.show_all()
            self.form.fields.focus()
            if self.form.fields.go_to(problem.key):
                return
            self.action_switch_view()
        self.area.focus()
        if problem.line is not None:
            self.area.go_to(problem.line - 1, (problem.column or 1) - 1)
        self._say_here()

    def action_problem(self, direction: int) -> None:
        """Go to the next or previous problem, round the ends."""
        problems = [p for p in self._findings.problems if p.line is not None]
        if not problems:
            self.notify("No problems." if self._looked_at >= 0 else "Still looking…", markup=False)
            return
        at = self.area.cursor_location
        places = [((p.line or 1) - 1, (p.column or 1) - 1) for p in problems]
        if direction > 0:
            index = next((i for i, place in enumerate(places) if place > at), 0)
        else:
            earlier = [i for i, place in enumerate(places) if place < at]
            index = earlier[-1] if earlier else len(problems) - 1
        self._go_to_problem(problems[index])

    @on(ConfigProblems.FixWanted)
    def _fix_wanted(self, event: ConfigProblems.FixWanted) -> None:
        event.stop()
        self._fix(event.problem)

    def action_fix(self) -> None:
        """Mend the problem of this line, or the chosen one."""
        here = self._problems_at(self.area.cursor_location[0])
        chosen = here[0] if here else self.query_one(ConfigProblems).chosen
        if chosen is None:
            self.notify("No problem here.", markup=False)
        else:
            self._fix(chosen)

    @work(exclusive=True, group="fix", exit_on_error=False)
    async def _fix(self, problem: Problem) -> None:
        from config.quickfix import fix_all
        from tui.screens.choose import Choice, ChooseScreen

        version, text = self.area.version, self.area.text
        found = await asyncio.to_thread(fixes, self._path, text, problem)
        if not found:
            self.notify("There is no quick fix for this one.", markup=False)
            return
        choices = [Choice(fix.title) for fix in found]
        if len(self._findings.problems) > 1:
            choices.append(Choice("Fix all that can be fixed"))
        picked = await self.app.push_screen_wait(ChooseScreen(one_line(problem.message), choices))
        if picked is None or version != self.area.version:
            return
        if picked < len(found):
            self.area.apply_edits(found[picked].edits)
        else:
            edited = await asyncio.to_thread(
                fix_all, text, self._findings.problems, is_json=is_json(self._path)
            )
            if version == self.area.version:
                self.area.replace_all_text(edited.text)
        if self.in_form:
            await self._update_form()

    @work(exclusive=True, group="go-to", exit_on_error=False)
    async def action_go_to_key(self) -> None:
        """Choose a key and go there; in the form, a field."""
        from tui.screens.choose import Choice, ChooseScreen

        if self.in_form and self._findings.groups is not None:
            fields = [field for group in self._findings.groups for field in group.fields]
            choices = [Choice(field.key, field.help.description) for field in fields]
            picked = await self.app.push_screen_wait(ChooseScreen("Go to a field", choices))
            if picked is not None:
                self.form.show_all()
                self.form.fields.go_to(fields[picked].key)
            return
        keys = await asyncio.to_thread(keys_of, self._path, self.area.text)
        if not keys:
            self.notify("The text cannot be read as it is; mend its first problem.", markup=False)
            return
        choices = [Choice(key, f"line {line + 1}") for key, line, _ in keys]
        picked = await self.app.push_screen_wait(ChooseScreen("Go to a key", choices))
        if picked is not None:
            _, line, column = keys[picked]
            self.area.go_to(line, column)
            self.area.focus()

    @work(exclusive=True, group="go-to", exit_on_error=False)
    async def _go_to_path(self, key: str) -> None:
        keys = await asyncio.to_thread(keys_of, self._path, self.area.text)
        for name, line, column in keys:
            if name == key:
                self.area.go_to(line, column)
                return
