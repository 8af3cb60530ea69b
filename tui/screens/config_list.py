"""A list of texts, such as the prompts of samples: add, change, move, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.configs.form_edits import Operation, item_added, item_moved, item_removed, item_set
from tui.text import one_line

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult

# Makes a change of the text and gives back the list as it is then; None if it could not be made.
Apply = Callable[[Operation], Awaitable["list[str] | None"]]


class ConfigListScreen(ModalScreen[None], inherit_bindings=False):
    """Each change is made in the text at once, as an edit of that item alone.

    Args:
        key: The field.
        items: Its items.
        apply: Makes the change.
    """

    AUTO_FOCUS = ""  # the line takes the keys only while something is typed
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "close", "Done", id="list.close", tooltip="Back to the form."),
        Binding("enter", "change", "Change", id="list.change", tooltip="Change the text."),
        Binding("a,n", "add", "Add", id="list.add", tooltip="Another one, below."),
        Binding(
            "d,delete", "remove", "Delete", id="list.delete", tooltip="Take it out; undo brings it back."
        ),
        Binding("alt+up,ctrl+up,K", "move(-1)", "Earlier", id="list.earlier", tooltip="One place up."),
        Binding("alt+down,ctrl+down,J", "move(1)", "Later", id="list.later", tooltip="One place down."),
        Binding("down,j", "cursor(1)", "Down", show=False, id="list.down", tooltip="Next one."),
        Binding("up,k", "cursor(-1)", "Up", show=False, id="list.up", tooltip="Previous one."),
    ]
    DEFAULT_CSS = """
    ConfigListScreen { align: center middle; }
    ConfigListScreen > Vertical {
        width: 100;
        max-width: 96%;
        height: auto;
        max-height: 94%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    ConfigListScreen OptionList {
        height: auto; max-height: 60vh; min-height: 3; border: none; padding: 0; background: transparent;
        scrollbar-size-vertical: 1;
    }
    ConfigListScreen OptionList > .option-list--option-highlighted {
        background: $primary-muted; text-style: bold;
    }
    ConfigListScreen OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    ConfigListScreen Input {
        display: none; border: none; height: 1; padding: 0; background: $boost; margin-top: 1;
    }
    ConfigListScreen Input.-open { display: block; }
    ConfigListScreen #hint { color: $text-muted; margin-top: 1; }
    """

    def __init__(self, key: str, items: list[str], apply: Apply) -> None:
        super().__init__()
        self._key, self._items, self._apply = key, list(items), apply
        self._adding = False

    def compose(self) -> ComposeResult:
        """The items, the line to type in."""
        with Vertical() as box:
            box.border_title = Content(one_line(self._key))
            options = OptionList(markup=False)
            options.can_focus = False
            yield options
            yield Input(compact=True, id="item")
            yield Static(
                Content("enter change · a add · d delete · K J move · esc done"), id="hint", markup=False
            )

    def on_mount(self) -> None:
        """Show them."""
        self.query_one(Input).can_focus = False
        self._fill(0)

    @property
    def _at(self) -> int:
        return self.query_one(OptionList).highlighted or 0

    def _fill(self, at: int) -> None:
        options = self.query_one(OptionList)
        options.set_options(
            Option(Content.assemble((f"{number:>3}  ", "$text-muted"), one_line(text) or "(empty)"))
            for number, text in enumerate(self._items, 1)
        )
        options.highlighted = max(0, min(at, len(self._items) - 1)) if self._items else None

    async def _do(self, operation: Operation, at: int) -> None:
        items = await self._apply(operation)
        if items is not None:
            self._items = items
        self._fill(at)

    def _type(self, text: str, *, adding: bool) -> None:
        self._adding = adding
        line = self.query_one(Input)
        line.value = text
        line.can_focus = True
        line.add_class("-open")
        line.focus()

    def _stop_typing(self) -> None:
        line = self.query_one(Input)
        line.remove_class("-open")
        line.can_focus = False
        self.set_focus(None)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what was typed."""
        event.stop()
        text, at = event.value, self._at
        self._stop_typing()
        if self._adding and text.strip():
            to = at + 1 if self._items else 0
            await self._do(item_added(self._key, text, to), to)
        elif not self._adding and self._items and text != self._items[at]:
            await self._do(item_set(self._key, at, text), at)

    def on_key(self, event: events.Key) -> None:
        """Esc leaves the line, not the list."""
        if event.key == "escape" and self.query_one(Input).has_focus:
            event.stop()
            event.prevent_default()
            self._stop_typing()

    def action_change(self) -> None:
        """Type another text."""
        if self._items:
            self._type(self._items[self._at], adding=False)
        else:
            self._type("", adding=True)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click."""
        self.action_change()

    def action_add(self) -> None:
        """Type a new one."""
        self._type("", adding=True)

    async def action_remove(self) -> None:
        """Take it out."""
        if self._items:
            await self._do(item_removed(self._key, self._at), self._at)

    async def action_move(self, by: int) -> None:
        """Change places with a neighbour."""
        to = self._at + by
        if 0 <= to < len(self._items):
            await self._do(item_moved(self._key, self._at, to), to)

    def action_cursor(self, by: int) -> None:
        """Move the cursor."""
        if self._items:
            self.query_one(OptionList).highlighted = (self._at + by) % len(self._items)

    def action_close(self) -> None:
        """Back to the form."""
        self.dismiss(None)
