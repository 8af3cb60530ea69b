"""The editor's completions and help at the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual import on
from textual.geometry import Offset
from textual.widgets import OptionList

from tui.editor.part import EditorPart
from tui.widgets.config_form import field_help
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from textual.content import Content


class Completing(EditorPart):
    """Part of the editor: the list of what can stand at the cursor, and help on the key there."""

    _completed_at = (-1, 0, 0)  # the text's version and the place that the open list is of

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
        place = (self.area.version, line, column)
        if automatic and self.popup.is_open and place == self._completed_at:
            return  # the key and the cursor's move both ask
        self._completed_at = place
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
        # At the word's beginning, so that the list stays where it is while the word is typed.
        offset = self.area.cursor_screen_offset
        self.popup.open(candidates, Offset(max(0, offset.x - cell_len(word)), offset.y))
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
