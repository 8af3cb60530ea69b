"""The editor of a config: one text, seen as text or as a form."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import OptionList, Static, TextArea
from textual.worker import Worker, WorkerState

from tui.config_file import ConfigFile
from tui.config_text import LARGE, Findings, fixes, is_json, keys_of, look, reckon, warm_up
from tui.form_edits import Operation, dataset, reset, stepped, typed
from tui.messages import OperationFailed, RunsChanged
from tui.screens.base import MainScreen
from tui.text import clip, one_line, plural
from tui.widgets.completion_list import CompletionList
from tui.widgets.config_form import ConfigForm, FieldList, field_help
from tui.widgets.estimate_pane import EstimatePane
from tui.widgets.find_bar import FindBar, find_all
from tui.widgets.problems_pane import GLYPHS, STYLES, ProblemsPane, count_words
from tui.widgets.yaml_area import Mark, YamlArea

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget

    from backend.configs.external_change import Snapshot
    from config.form import Field
    from config.problems import Problem

_PAUSE, _LONG_PAUSE = 0.15, 0.6  # seconds without typing after which a text is checked
_DRAFT = 1.0  # seconds between looks at what was typed; with the writing, less than two are lost
_DISK = 2.0  # seconds between looks at the disk
_WIDE = 110  # columns from which the estimate is beside the text


class ConfigEditorScreen(MainScreen):
    """Edits one config.

    Args:
        path: Its file; a new file begins empty.
    """

    MODE = "configs"
    AUTO_FOCUS = ""
    HELP: ClassVar[str] = (
        "F2 changes between text and form; both are the same file, and a change in the form changes only "
        "that value. What is typed is kept as a draft within two seconds, until it is saved."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "switch_view", "Text or form", id="editor.view", tooltip="Text or form."),
        Binding("ctrl+s,f11", "save", "Save", id="editor.save", tooltip="Write the file."),
        Binding("f5", "launch", "Launch", id="editor.launch", tooltip="Review it, then train it."),
        Binding("f8", "problem(1)", "Problem", id="editor.next-problem", tooltip="The next problem."),
        Binding("f7", "problem(-1)", "Previous problem", show=False, id="editor.previous-problem",
                tooltip="The problem before."),
        Binding("f4", "fix", "Fix", id="editor.fix", tooltip="What would mend the problem here."),
        Binding("ctrl+g", "go_to_key", "Go to", id="editor.go-to", tooltip="Go to a key by its name."),
        Binding("ctrl+f", "find(False)", "Find", show=False, id="editor.find", tooltip="Find in the text."),
        Binding("ctrl+r", "find(True)", "Replace", show=False, id="editor.replace",
                tooltip="Find and replace in the text."),
        Binding("f3", "find_next(1)", "Find next", show=False, id="editor.find-next", tooltip="Next match."),
        Binding("shift+f3,f15", "find_next(-1)", "Find previous", show=False, id="editor.find-previous",
                tooltip="The match before."),
        Binding("f9", "external", "$EDITOR", show=False, id="editor.external",
                tooltip="Save it and open it in $EDITOR."),
        Binding("f10", "diff", "Diff", show=False, id="editor.diff",
                tooltip="Compare with a preset, the saved file or a run."),
        Binding("f12", "estimate", "Estimate", show=False, id="editor.estimate",
                tooltip="Show or hide what a run would take."),
        Binding("f6", "app.focus_next", "Next pane", show=False, id="editor.next-pane", tooltip="Next pane."),
        Binding("shift+f6,f18", "app.focus_previous", "Previous pane", show=False, id="editor.previous-pane",
                tooltip="The pane before."),
        Binding("escape", "leave", "Back", show=False, id="editor.leave", tooltip="Back to the library."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ConfigEditorScreen {
        #title { height: 1; padding: 0 1; background: $boost; }
        #main { height: 1fr; }
        #views { width: 1fr; height: 1fr; }
        #here { height: 1; padding: 0 1; }
        ConfigForm { display: none; }
        &.-form ConfigForm { display: block; }
        &.-form YamlArea { display: none; }
        EstimatePane { display: none; }
        &.-estimate EstimatePane { display: block; }
        &.-estimate.-narrow #views { display: none; }
        &.-estimate.-narrow EstimatePane { width: 1fr; }
    }
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._findings = Findings((), (), None)
        self._looked_at = -1  # the text's version that the findings are of
        self._drafted = 0
        self._asked_about = ""  # the mark of a change on disk that the user decided to leave
        self._estimate_wanted: bool | None = None
        self._matches: list[int] = []
        self._edit_lock = asyncio.Lock()
        self._loaded = False
        self._form_error = ""

    # -- composition ----------------------------------------------------------------------------------

    def compose_body(self) -> Iterable[Widget]:
        """Title, views, estimate, problems, a line on what is under the cursor."""
        yield Static(id="title", markup=False)
        with Horizontal(id="main"):
            with Vertical(id="views"):
                yield YamlArea(id="text")
                yield ConfigForm(self._path.absolute().parent, id="form")
                yield FindBar(id="find-bar")
            yield EstimatePane(id="estimate")
        yield ProblemsPane(id="problems")
        yield Static(id="here", markup=False)
        yield CompletionList(id="completions")

    def on_mount(self) -> None:
        """Open the file."""
        super().on_mount()
        self.file = ConfigFile(self._path, self.flux.root / "drafts")
        self._fit_width()
        self._title()
        self.area.focus()
        self._open()

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

    def show_runs(self, change: RunsChanged) -> None:
        """Runs are not shown here."""

    def on_resize(self, event: events.Resize) -> None:
        """The estimate is beside the text where there is room."""
        self._fit_width()

    def _fit_width(self) -> None:
        narrow = self.app.size.width < _WIDE
        self.set_class(narrow, "-narrow")
        wanted = self._estimate_wanted
        self.set_class(not narrow if wanted is None else wanted, "-estimate")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker that failed says so: nothing that was asked for ends in silence."""
        report_failure(self, event)

    # -- opening, drafts, the disk --------------------------------------------------------------------

    @work(exclusive=True, group="open", exit_on_error=False)
    async def _open(self) -> None:
        try:
            text, draft = await asyncio.to_thread(self.file.open)
        except (OSError, ValueError) as error:
            self.post_message(OperationFailed("The config cannot be opened", str(error)))
            self.dismiss(None)
            return
        with self.prevent(TextArea.Changed):
            self.area.load_text(text)
        self._loaded = True
        if draft is not None:
            self.area.replace_all_text(draft.text)
            when = time.strftime("%H:%M", time.localtime(draft.saved_at))
            self.notify(
                f"Unsaved typing of {when} is back. Ctrl+Z takes it away, ctrl+s saves it.",
                title="Draft restored", markup=False,
            )  # fmt: skip
        self._drafted = self.area.version
        self.set_interval(_DRAFT, self._keep_draft)
        self.set_interval(_DISK, self._look_at_disk)
        self._text_changed()
        await asyncio.to_thread(warm_up)

    def _keep_draft(self) -> None:
        if self._loaded and self._drafted != self.area.version:
            self._drafted = self.area.version
            self._write_draft(self.area.text)

    @work(thread=True, group="draft", exit_on_error=False)
    def _write_draft(self, text: str) -> None:
        try:
            self.file.keep_draft(text)
        except OSError as error:
            self.post_message(OperationFailed("The draft cannot be kept", str(error)))

    @work(exclusive=True, group="disk", exit_on_error=False)
    async def _look_at_disk(self) -> None:
        if not self.is_current:
            return
        try:
            news = await asyncio.to_thread(self.file.news)
        except (OSError, ValueError):
            return  # saving says what is wrong
        if news is not None and news.mark != self._asked_about:
            await self._ask_about(news)

    async def _ask_about(self, news: Snapshot) -> None:
        """Somebody else changed the file: ask, and do what is answered."""
        from tui.screens.config_changed import ConfigChangedScreen
        from tui.screens.config_diff import compare

        self._asked_about = news.mark
        mine, base = self.area.text, self.file.saved
        theirs = None if news.text is None else news.text.removeprefix("\ufeff")
        comparison = None
        if theirs is not None:
            comparison = await asyncio.to_thread(compare, mine, theirs, "yours", "on disk")
        answer = await self.app.push_screen_wait(
            ConfigChangedScreen(self._path.name, comparison, dirty=self.dirty)
        )
        if answer is None:
            return
        self.file.accept(news)
        if answer == "theirs" and theirs is not None:
            self.area.replace_all_text(theirs)
        elif answer == "merge" and theirs is not None:
            from config.comparing import merge

            merged = await asyncio.to_thread(merge, base, mine, theirs)
            self.area.replace_all_text(merged.text)
            if merged.conflicts:
                self.notify(
                    f"{plural(merged.conflicts, 'place')} changed on both sides: choose between the marks.",
                    severity="warning", markup=False,
                )  # fmt: skip
        self._title()

    # -- what the text says ---------------------------------------------------------------------------

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
        findings = await asyncio.to_thread(look, self._path.absolute(), text, form=self.in_form)
        if version != self.area.version:
            return
        self._show(findings, version)
        if self.has_class("-estimate"):
            self._reckon()

    def _show(self, findings: Findings, version: int) -> None:
        self._findings, self._looked_at = findings, version
        self.area.show_marks(findings.marks)
        self.query_one(ProblemsPane).show_problems(findings.problems)
        if findings.groups is not None:
            self.form.show_groups(findings.groups)
        self._form_error = findings.reason
        self._title()
        self._say_here()

    @work(exclusive=True, group="reckon", exit_on_error=False)
    async def _reckon(self) -> None:
        version, text = self.area.version, self.area.text
        try:
            estimate, levers = await asyncio.to_thread(reckon, self._path.absolute(), text)
        except Exception as error:  # an estimate must never disturb the editing
            self.query_one(EstimatePane).show_estimate(None, problem=f"No estimate: {error}")
            return
        if version == self.area.version:
            self.query_one(EstimatePane).show_estimate(estimate, levers)

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
            worst = problems and min(("error", "warning", "info").index(p.severity) for p in problems)
            style = (
                "$text-success"
                if not problems
                else ("$text-error", "$text-warning", "$text-muted")[worst or 0]
            )
            parts.append((f"  {'✓ ' if not problems else ''}{count_words(problems)}", style))
        if self._findings.sweep:
            parts.append((f"  sweep of {plural(self._findings.sweep, 'run')}", "$text-accent"))
        title = Content.assemble(*parts)
        line = self.query_one("#title", Static)
        if str(line.content) != str(title):
            line.update(title)

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
            said.update(text)

    # -- text view ------------------------------------------------------------------------------------

    @on(YamlArea.Typed)
    def _typed(self) -> None:
        before = self.area.document[self.area.cursor_location[0]][: self.area.cursor_location[1]]
        word = before.lstrip(" -")
        if word and (word[-1].isalnum() or word[-1] in "_:" or before.endswith(": ")):
            self._complete(automatic=True)
        else:
            self._close_popup()

    @on(YamlArea.CompletionWanted)
    def _completion_wanted(self) -> None:
        self._complete(automatic=False)

    def _complete(self, *, automatic: bool) -> None:
        from config.completion import complete

        line, column = self.area.cursor_location
        if not self.area.selection.is_empty:
            self._close_popup()
            return
        found = complete(self.area.text, line, column)
        candidates = found.candidates[:50]
        word = self.area.text[found.start : found.end]
        done = len(candidates) == 1 and candidates[0].insert.strip() == word
        if not candidates or (automatic and (done or (not word.strip() and not self.popup.is_open))):
            if not automatic:
                self.notify("Nothing to complete here.", markup=False)
            self._close_popup()
            return
        self._completions = found
        self.popup.open(candidates, self.area.cursor_screen_offset)
        self.area.popup_open = True

    def _close_popup(self) -> None:
        self.popup.close()
        self.area.popup_open = False

    @on(YamlArea.PopupKey)
    def _popup_key(self, event: YamlArea.PopupKey) -> None:
        moves = {"up": -1, "down": 1, "pageup": -8, "pagedown": 8}
        if event.key in moves:
            self.popup.move(moves[event.key])
        elif event.key == "escape":
            self._close_popup()
        elif (chosen := self.popup.chosen) is not None:
            self._take_completion(chosen.insert)

    @on(OptionList.OptionSelected, "#completions OptionList")
    def _popup_clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if (chosen := self.popup.chosen) is not None:
            self._take_completion(chosen.insert)

    def _take_completion(self, insert: str) -> None:
        found = self._completions
        self._close_popup()
        area = self.area
        locate = area.document.get_location_from_index
        area.history.checkpoint()
        area.replace(insert, locate(found.start), locate(found.end), maintain_selection_offset=False)
        area.history.checkpoint()

    @on(YamlArea.HelpWanted)
    def _help_wanted(self) -> None:
        from config.completion import help_at

        line, column = self.area.cursor_location
        found = help_at(self.area.text, line, column)
        if found is None:
            self.notify("No key of a config is under the cursor.", markup=False)
        else:
            self._show_help(field_help(found))

    def _show_help(self, text: Content) -> None:
        from tui.screens.config_help import KeyHelpScreen

        self.app.push_screen(KeyHelpScreen(text))

    # -- finding --------------------------------------------------------------------------------------

    def action_find(self, replace: bool) -> None:
        """Find in the text; in the form, a field."""
        if self.in_form:
            self.form.type_filter()
            return
        selected = self.area.selected_text
        self.query_one(FindBar).open(replace=replace, text=selected if "\n" not in selected else "")

    @on(FindBar.Changed)
    def _find_changed(self, event: FindBar.Changed) -> None:
        self._search()
        if self._matches:
            start = self.area.document.get_index_from_location(min(self.area.selection))
            self._go_to_match(next((i for i, at in enumerate(self._matches) if at >= start), 0))
        else:
            self.query_one(FindBar).show_count(0, 0)

    def _search(self) -> None:
        wanted, document = self.query_one(FindBar).wanted, self.area.document
        self._matches = find_all(self.area.text, wanted)
        shown = []
        if len(self._matches) <= 2000:
            for at in self._matches:
                line, column = document.get_location_from_index(at)
                shown.append((line, column, column + len(wanted)))
        self.area.show_matches(shown)

    def _go_to_match(self, index: int) -> None:
        bar = self.query_one(FindBar)
        locate = self.area.document.get_location_from_index
        start = self._matches[index]
        self.area.selection = type(self.area.selection)(locate(start), locate(start + len(bar.wanted)))
        self.area.scroll_cursor_visible(center=True)
        bar.show_count(index + 1, len(self._matches))

    @on(FindBar.Step)
    def _find_step(self, event: FindBar.Step) -> None:
        self.action_find_next(event.direction)

    def action_find_next(self, direction: int) -> None:
        """Go to the next or previous match, round the ends."""
        if not self.query_one(FindBar).wanted:
            self.action_find(False)
            return
        self._search()
        if not self._matches:
            self.query_one(FindBar).show_count(0, 0)
            return
        top, bottom = sorted(self.area.selection)
        index_of = self.area.document.get_index_from_location
        if direction > 0:
            at = next((i for i, m in enumerate(self._matches) if m >= index_of(bottom)), 0)
        else:
            before = [i for i, m in enumerate(self._matches) if m < index_of(top)]
            at = before[-1] if before else len(self._matches) - 1
        self._go_to_match(at)

    @on(FindBar.Replace)
    def _replace(self, event: FindBar.Replace) -> None:
        bar, area = self.query_one(FindBar), self.area
        wanted = bar.wanted
        self._search()
        if not self._matches:
            return
        if event.everywhere:
            text, parts, at = area.text, [], 0
            for match in self._matches:
                parts += [text[at:match], event.text]
                at = match + len(wanted)
            count = len(self._matches)
            area.replace_all_text("".join([*parts, text[at:]]))
            self._search()
            bar.show_count(0, len(self._matches))
            self.notify(f"{plural(count, 'place')} replaced; one undo takes it back.", markup=False)
            return
        start = area.document.get_index_from_location(min(area.selection))
        if start in self._matches and len(area.selected_text) == len(wanted):
            area.replace_span(start, start + len(wanted), event.text)
            area.move_cursor(area.document.get_location_from_index(start + len(event.text)))
        self.action_find_next(1)

    @on(FindBar.Closed)
    def _find_closed(self) -> None:
        self.area.show_matches(())
        self.area.focus()

    # -- form view ------------------------------------------------------------------------------------

    def action_switch_view(self) -> None:
        """Text or form; the cursor stays at its key."""
        self._close_popup()
        if self.in_form:
            field = self.form.fields.field
            self.remove_class("-form")
            self.area.focus()
            if field is not None and field.is_set:
                self._go_to_path(".".join(map(str, field.path[3:] if len(field.path) > 2 else field.path)))
        else:
            self.add_class("-form")
            self.form.fields.focus()
            self._fill_form()
        self._title()
        self._say_here()

    @work(exclusive=True, group="look", exit_on_error=False)
    async def _fill_form(self) -> None:
        from config.completion import path_under

        line, column = self.area.cursor_location
        version, text = self.area.version, self.area.text
        findings = await asyncio.to_thread(look, self._path.absolute(), text)
        if version == self.area.version:
            self._show(findings, version)
            key = ".".join(map(str, path_under(text, line, column)[3:]))
            self.form.fields.go_to(key)

    @on(FieldList.Wanted)
    def _form_wants(self, event: FieldList.Wanted) -> None:
        event.stop()
        field = event.field
        if event.what == "undo":
            self.area.undo()
            self._refresh_form()
        elif event.what == "redo":
            self.area.redo()
            self._refresh_form()
        elif event.what == "filter":
            self.form.type_filter()
        elif event.what == "changed":
            self.form.toggle_changed()
        elif event.what == "dataset":
            self._add_dataset()
        elif field is None:
            return
        elif event.what == "help":
            self._show_help(field_help(field.help, shared=field.shared, problem=field.problem))
        elif event.what == "reset":
            self._edit(reset(field.key))
        elif event.what == "step":
            if field.kind in ("number", "integer", "bool", "enum"):
                self._edit(stepped(field.key, event.direction, big=event.big))
        elif field.kind == "texts":
            self._edit_list(field)
        elif field.kind == "bool":
            self._edit(stepped(field.key, 1))
        else:
            self.form.type_value(field)

    @on(ConfigForm.Typed)
    def _value_typed(self, event: ConfigForm.Typed) -> None:
        event.stop()
        self._edit(typed(event.field.key, event.text), from_line=True)

    def _edit(self, operation: Operation, *, from_line: bool = False) -> None:
        self.run_worker(self._do_edit(operation, from_line=from_line), group="edits", exit_on_error=False)

    async def _do_edit(self, operation: Operation, *, from_line: bool = False) -> bool:
        """Make one change of the text, in the order in which they were asked for; True if it was made."""
        from config.editing import EditError, SharedValueError

        json_file = is_json(self._path)
        async with self._edit_lock:
            everywhere = False
            while True:
                version, text = self.area.version, self.area.text
                try:
                    edited = await asyncio.to_thread(operation, text, json_file, everywhere)
                except SharedValueError as error:
                    if not await self._ask_shared(str(error)):
                        return False
                    everywhere = True
                    continue
                except (EditError, ValueError) as error:
                    if from_line:
                        self.form.complain(str(error))
                    else:
                        self.notify(one_line(str(error)), severity="warning", markup=False)
                    return False
                if version == self.area.version:
                    break
            if from_line:
                self.form.finish()
            if edited is not None:
                self.area.apply_edits(edited.edits)
                await self._update_form()
            return True

    async def _ask_shared(self, sentence: str) -> bool:
        from tui.screens.confirm import ConfirmScreen, Question

        question = Question("Change it everywhere?", one_line(sentence) + ".", yes="Change all")
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.app.push_screen(ConfirmScreen(question), lambda yes: answer.set_result(bool(yes)))
        return await answer

    async def _update_form(self) -> None:
        """The form at once; the check follows after its pause."""
        from config.editing import EditError
        from config.form import groups

        version, text = self.area.version, self.area.text
        try:
            found = await asyncio.to_thread(groups, text, is_json=is_json(self._path))
        except EditError:
            return
        if version == self.area.version and self.in_form:
            self.form.show_groups(found)

    @work(exclusive=True, group="form", exit_on_error=False)
    async def _refresh_form(self) -> None:
        await self._update_form()

    def _edit_list(self, field: Field) -> None:
        from tui.form_edits import field_of
        from tui.screens.config_list import ConfigListScreen

        async def apply(operation: Operation) -> list[str] | None:
            if not await self._do_edit(operation):
                return None
            now = await asyncio.to_thread(field_of, self.area.text, field.key, is_json=is_json(self._path))
            return [str(item) for item in now.value or ()]

        items = [str(item) for item in field.value or ()] if isinstance(field.value, list) else []
        self.app.push_screen(ConfigListScreen(field.key, items, apply))

    def _add_dataset(self) -> None:
        from tui.screens.ask_text import TextScreen

        def answered(folder: str | None) -> None:
            if folder:
                self._edit(dataset(folder))

        self.app.push_screen(TextScreen("Another dataset", "Folder of its pictures:", "./"), answered)

    # -- problems, keys, fixes ------------------------------------------------------------------------

    @on(ProblemsPane.Chosen)
    def _problem_chosen(self, event: ProblemsPane.Chosen) -> None:
        event.stop()
        self._go_to_problem(event.problem)

    def _go_to_problem(self, problem: Problem) -> None:
        pane = self.query_one(ProblemsPane)
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

    @on(ProblemsPane.FixWanted)
    def _fix_wanted(self, event: ProblemsPane.FixWanted) -> None:
        event.stop()
        self._fix(event.problem)

    def action_fix(self) -> None:
        """Mend the problem of this line, or the chosen one."""
        here = self._problems_at(self.area.cursor_location[0])
        chosen = here[0] if here else self.query_one(ProblemsPane).chosen
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

    # -- saving and leaving ---------------------------------------------------------------------------

    @work(exclusive=True, group="save", exit_on_error=False)
    async def action_save(self) -> None:
        """Write the file."""
        await self._save()

    async def _save(self) -> bool:
        from backend.configs.external_change import ChangedOnDiskError

        text = self.area.text
        try:
            await asyncio.to_thread(self.file.save, text)
        except ChangedOnDiskError as error:
            await self._ask_about(error.now)
            return False
        except OSError as error:
            self.post_message(OperationFailed("The config is not saved", str(error)))
            return False
        self._title()
        return True

    @work(exclusive=True, group="leave", exit_on_error=False)
    async def action_leave(self) -> None:
        """Back to the library; asks when something is not saved."""
        from tui.screens.choose import Choice, ChooseScreen

        if self.query_one(FindBar).has_class("-open"):
            self.query_one(FindBar).action_close()
            return
        if self.in_form and self.form.filtered:
            self.form.show_all()
            return
        if self.dirty:
            choices = [
                Choice("Save", "write the file"),
                Choice("Keep as a draft", "the file stays as it is; the typing is back when you open it"),
                Choice("Discard", "forget what was typed since the last save"),
            ]
            picked = await self.app.push_screen_wait(ChooseScreen(f"{self._path.name} is not saved", choices))
            if picked is None:
                return
            if picked == 0 and not await self._save():
                return
            if picked == 1:
                await asyncio.to_thread(self.file.keep_draft, self.area.text)
            if picked == 2:
                await asyncio.to_thread(self.file.discard_draft)
        self._loaded = False  # no draft any more
        self.dismiss(None)

    @work(exclusive=True, group="external", exit_on_error=False)
    async def action_external(self) -> None:
        """Save it, open it in the user's own editor, and take up what comes back."""
        if self.dirty and not await self._save():
            return
        if not open_outside(self, self._path):
            return
        news = await asyncio.to_thread(self.file.news)
        if news is not None and news.text is not None:
            self.file.accept(news)
            self.area.replace_all_text(news.text.removeprefix("\ufeff"))
            await asyncio.to_thread(self.file.discard_draft)
        self._title()

    # -- comparing, estimate, launching ---------------------------------------------------------------

    @work(exclusive=True, group="diff", exit_on_error=False)
    async def action_diff(self) -> None:
        """Choose what to compare with, then show it."""
        from tui.config_sources import choose_source
        from tui.screens.config_diff import ConfigDiffScreen, compare

        saved = self.file.saved if self.dirty else None
        source = await choose_source(self.flux, saved=saved, not_this=self._path)
        if source is not None:
            comparison = await asyncio.to_thread(
                compare, source.text, self.area.text, source.name, self._path.name
            )
            self.app.push_screen(ConfigDiffScreen(comparison))

    def action_estimate(self) -> None:
        """Show or hide the estimate."""
        self._estimate_wanted = not self.has_class("-estimate")
        self._fit_width()
        if self.has_class("-estimate"):
            self._reckon()

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def action_launch(self) -> None:
        """Save it and review what is about to be launched."""
        from tui.config_launching import review_and_launch

        if self.dirty and not await self._save():
            return
        await review_and_launch(self.flux, self._path)


def report_failure(screen: MainScreen, event: Worker.StateChanged) -> None:
    """Say why a worker failed; what it does is no fault of the user's."""
    if event.state is WorkerState.ERROR:
        error = event.worker.error
        screen.post_message(OperationFailed("That did not work", f"{type(error).__name__}: {error}"))


def open_outside(screen: MainScreen, path: Path) -> bool:
    """Open a file in ``$VISUAL`` or ``$EDITOR`` while the app waits; False if that was not possible."""
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ("notepad" if os.name == "nt" else "vi")
    try:
        with screen.app.suspend():
            done = subprocess.run([*shlex.split(command, posix=os.name != "nt"), str(path)], check=False)
    except SuspendNotSupported:
        screen.notify("There is no terminal for an editor here.", severity="warning", markup=False)
        return False
    except (OSError, ValueError) as error:
        screen.post_message(OperationFailed(f"{command} cannot be started", f"{error}; set $EDITOR"))
        return False
    if done.returncode:
        screen.notify(f"{command} ended with code {done.returncode}.", severity="warning", markup=False)
    screen.refresh(layout=True)
    return True


__all__ = ["ConfigEditorScreen", "Mark", "open_outside"]
