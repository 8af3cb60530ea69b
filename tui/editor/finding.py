"""The editor's find and replace."""

from __future__ import annotations

from textual import on

from tui.editor.part import EditorPart
from tui.text import plural
from tui.widgets.find_bar import FindBar, find_all


class Finding(EditorPart):
    """Part of the editor: find and replace in the text."""

    _matches: list[int] = []  # noqa: RUF012 - replaced, never changed

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
