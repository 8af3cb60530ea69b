"""The command palette's entries of the config editor: what its keys do."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.binding import Binding

from tui.commands import Command, Commands
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from tui.screens.config_editor import ConfigEditorScreen

_MOVES = ("editor.next-pane", "editor.previous-pane")  # of use as keys only
_TEXT = ("help", "complete", "comment", "line-up", "line-down", "duplicate", "delete-line", "undo", "redo")


class EditorCommands(Commands):
    """Each action of the editor; those of the text while the text is shown."""

    def _commands(self) -> Iterator[Command]:
        screen = cast("ConfigEditorScreen", self.screen)
        for binding in screen.BINDINGS:
            if isinstance(binding, Binding) and binding.id not in _MOVES:
                run = partial(screen.run_action, binding.action)
                yield Command(f"Editor: {binding.description}", binding.tooltip, run)
        if screen.in_form:
            return
        for binding in YamlArea.BINDINGS:
            if isinstance(binding, Binding) and (binding.id or "").removeprefix("text.") in _TEXT:
                run = partial(screen.area.run_action, binding.action)
                yield Command(f"Editor: {binding.description}", binding.tooltip, run)
