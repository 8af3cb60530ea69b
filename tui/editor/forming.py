"""The editor's form: each of its keys is one edit of the text."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual import on, work

from tui.configs.form_edits import Operation, dataset, reset, stepped, typed
from tui.configs.text import form_of, is_json, look
from tui.configs.worker import Overtaken
from tui.editor.part import EditorPart
from tui.text import one_line
from tui.widgets.config_form import ConfigForm, FieldList, field_help

if TYPE_CHECKING:
    from pathlib import Path

    from config.form import Field


class FormEditing(EditorPart):
    """Part of the editor: the form over the text."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._edit_lock = asyncio.Lock()

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
        try:
            findings = await self._ask(look, self._path.absolute(), text)
        except Overtaken:
            return
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
        version, text = self.area.version, self.area.text
        try:
            found = await self._ask(form_of, self._path, text)
        except Overtaken:
            return
        if found is not None and version == self.area.version and self.in_form:
            self.form.show_groups(found)

    @work(exclusive=True, group="form", exit_on_error=False)
    async def _refresh_form(self) -> None:
        await self._update_form()

    def _edit_list(self, field: Field) -> None:
        from tui.configs.form_edits import field_of
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
