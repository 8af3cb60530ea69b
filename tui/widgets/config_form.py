"""The form view of a config: fields in groups, changed with the arrow keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.text import clip, fit, one_line, plural
from tui.widgets.rows import Rows, cursor_keys

if TYPE_CHECKING:
    from pathlib import Path

    from textual import events
    from textual.app import ComposeResult

    from config.form import Field, Group
    from config.help import FieldHelp

_LABEL = 30


def plain_value(value: Any) -> str:
    """A value as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = f"{value:g}"
        return text.replace("e-0", "e-").replace("e+0", "e")
    if isinstance(value, list):
        return ", ".join(plain_value(item) for item in value)
    return str(value)


def value_words(field: Field) -> str:
    """A value as the form shows it."""
    if field.kind == "texts" and isinstance(field.value, list):
        first = f": {field.value[0]}" if field.value else ""
        return plural(len(field.value), "line") + first
    return plain_value(field.value) or ("(missing)" if field.required else "–")  # noqa: RUF001 - a dash


def field_help(help_: FieldHelp, *, shared: bool = False, problem: str | None = None) -> Content:
    """All there is to say about a field."""
    facts = [help_.type]
    if help_.unit:
        facts.append(help_.unit)
    if help_.range:
        facts.append(help_.range)
    if help_.choices:
        facts.append("one of " + ", ".join(help_.choices))
    facts.append("must be given" if help_.required else f"default {help_.default_text or 'none'}")
    if help_.aliases:
        facts.append("also " + ", ".join(help_.aliases))
    parts: list[Any] = [(one_line(help_.key), "bold"), "  ", one_line(help_.description)]
    parts += ["\n", (one_line(" · ".join(facts)), "$text-muted")]
    if shared:
        parts.append(("\nshared by an anchor: a change counts in several places", "$text-warning"))
    if problem:
        parts.append((f"\n✗ {one_line(problem)}", "$text-error"))
    return Content.assemble(*parts)


class PathSuggester(Suggester):
    """Completes paths from the disk.

    Args:
        folder: What paths are relative to.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._folder = folder

    async def get_suggestion(self, value: str) -> str | None:
        """The first path that begins like this."""
        import asyncio

        return await asyncio.to_thread(suggest_path, self._folder, value)


def suggest_path(folder: Path, typed: str) -> str | None:
    """The first entry of the disk that goes on from what is typed; folders end with a slash."""
    import os
    from pathlib import Path as RealPath

    if not typed:
        return None
    head, slash, tail = typed.rpartition("/")
    base = RealPath(os.path.expanduser(head + slash or "."))
    base = base if base.is_absolute() else folder / base
    try:
        with os.scandir(base) as entries:
            names = sorted(
                entry.name + ("/" if entry.is_dir() else "")
                for entry in entries
                if entry.name.startswith(tail) and (tail.startswith(".") or not entry.name.startswith("."))
            )
    except OSError:
        return None
    return head + slash + names[0] if names else None


class FieldList(Rows, inherit_bindings=False):
    """The fields, one a line."""

    HELP: ClassVar[str] = (
        "Every field that a config can have. `●` differs from the default, `○` is written down but is the "
        "default, `&` is shared by an anchor, `✗` has a problem. "
        "A change here changes only that value in the text."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "right", "step(1)", "More", id="form.more", tooltip="The next number up, or the next choice."
        ),
        Binding(
            "left", "step(-1)", "Less", id="form.less", tooltip="The next number down, or the choice before."
        ),
        Binding(
            "shift+right",
            "step(1, True)",
            "Much more",
            show=False,
            id="form.much-more",
            tooltip="A big step up.",
        ),
        Binding(
            "shift+left",
            "step(-1, True)",
            "Much less",
            show=False,
            id="form.much-less",
            tooltip="A big step down.",
        ),
        Binding(
            "space",
            "toggle",
            "Toggle",
            show=False,
            id="form.toggle",
            tooltip="True or false; the next choice.",
        ),
        Binding(
            "enter", "select", "Type", id="form.type", tooltip="Type the value; a list opens on its own."
        ),
        Binding(
            "r,delete", "reset", "Reset", id="form.reset", tooltip="Back to the default: out of the file."
        ),
        Binding(
            "slash,ctrl+f", "filter", "Filter", id="form.filter", tooltip="Find a field by its name or help."
        ),
        Binding(
            "c", "changed_only", "Changed", id="form.changed", tooltip="Only what differs from the default."
        ),
        Binding(
            "a", "add_dataset", "Add dataset", show=False, id="form.add-dataset", tooltip="Another dataset."
        ),
        Binding(
            "K,ctrl+k", "help_here", "Key help", show=False, id="form.help", tooltip="All about this field."
        ),
        Binding("u,ctrl+z", "undo", "Undo", show=False, id="form.undo", tooltip="Take the last change back."),
        Binding("ctrl+y", "redo", "Redo", show=False, id="form.redo", tooltip="Make it again."),
        Binding(
            "right_square_bracket",
            "group(1)",
            "Next group",
            show=False,
            id="form.next-group",
            tooltip="The next group.",
        ),
        Binding(
            "left_square_bracket",
            "group(-1)",
            "Previous group",
            show=False,
            id="form.previous-group",
            tooltip="The group before.",
        ),
        *cursor_keys("form", "field"),
    ]
    DEFAULT_CSS = """
    FieldList {
        & > .option-list--option-disabled { color: $text-accent; text-style: bold; }
    }
    """

    @dataclass
    class Wanted(Message):
        """A key asks for something to be done with a field.

        Attributes:
            what: step, type, reset, dataset, help, undo, redo, filter or changed.
            field: The field under the cursor, if any.
            direction: Of a step.
            big: Whether the step is a big one.
        """

        what: str
        field: Field | None = None
        direction: int = 1
        big: bool = False

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._fields: dict[str, Field] = {}
        self._signature: list[str] = []

    @property
    def field(self) -> Field | None:
        """The field under the cursor."""
        option = self.highlighted_option
        return self._fields.get(option.id or "") if option is not None else None

    def show_fields(self, groups: Sequence[tuple[str, Sequence[Field]]]) -> None:
        """Bring the lines up to date; the cursor stays on its field.

        Args:
            groups: Titles (empty for none) and fields.
        """
        width = max(30, self.size.width - 2)
        chosen = self.field
        rows: list[tuple[str, Content, bool]] = []
        self._fields = {}
        for title, fields in groups:
            if title and fields:
                rows.append((f"={title}", Content(title), True))
            for field in fields:
                self._fields[field.key] = field
                rows.append((field.key, _line(field, width, full=not title), False))
        signature = [name for name, _, _ in rows]
        if signature == self._signature:
            for index, (_, content, _) in enumerate(rows):
                if self.get_option_at_index(index).prompt != content:
                    self.replace_option_prompt_at_index(index, content)
            return
        self._signature = signature
        self.set_options(Option(content, id=name, disabled=disabled) for name, content, disabled in rows)
        if self._fields:
            key = (
                chosen.key if chosen is not None and chosen.key in self._fields else next(iter(self._fields))
            )
            self.highlighted = signature.index(key)

    def go_to(self, key: str) -> bool:
        """Put the cursor on a field; False if it is not shown."""
        if key in self._fields:
            self.highlighted = self._signature.index(key)
            return True
        return False

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        event.stop()
        self.post_message(self.Wanted("type", self.field))

    def action_step(self, direction: int, big: bool = False) -> None:
        """Step the value."""
        self.post_message(self.Wanted("step", self.field, direction, big))

    def action_toggle(self) -> None:
        """Flip or cycle; anything else is typed."""
        field = self.field
        what = "step" if field is not None and field.kind in ("bool", "enum") else "type"
        self.post_message(self.Wanted(what, field))

    def action_reset(self) -> None:
        """Back to the default."""
        self.post_message(self.Wanted("reset", self.field))

    def action_filter(self) -> None:
        """Type a field's name."""
        self.post_message(self.Wanted("filter"))

    def action_changed_only(self) -> None:
        """Only changed fields, or all."""
        self.post_message(self.Wanted("changed"))

    def action_add_dataset(self) -> None:
        """Another dataset."""
        self.post_message(self.Wanted("dataset"))

    def action_help_here(self) -> None:
        """All about the field."""
        self.post_message(self.Wanted("help", self.field))

    def action_undo(self) -> None:
        """Take the last change back."""
        self.post_message(self.Wanted("undo"))

    def action_redo(self) -> None:
        """Make it again."""
        self.post_message(self.Wanted("redo"))

    def action_group(self, direction: int) -> None:
        """Go to the first field of another group."""
        heads = [index + 1 for index, name in enumerate(self._signature) if name.startswith("=")]
        at = self.highlighted or 0
        if direction > 0:
            self.highlighted = next((head for head in heads if head > at), at)
        else:
            earlier = [head for head in heads if head < at]
            self.highlighted = earlier[-1] if earlier else at


def _line(field: Field, width: int, *, full: bool) -> Content:
    mark = "✗" if field.problem else "●" if field.changed else "○" if field.is_set else " "
    style = "$text-error" if field.problem else "$text-accent" if field.changed else "$text-muted"
    name = field.key if full else field.label
    value = ("&" if field.shared else "") + value_words(field)
    unit = f" {field.help.unit}" if field.help.unit and field.value is not None else ""
    room = max(8, width - _LABEL - 4)
    looks = "bold" if field.is_set else "$text-muted"
    return Content.assemble((f"{mark} ", style), fit(name, _LABEL), " ", (clip(value + unit, room), looks))


class ConfigForm(Vertical):
    """The fields, the help of the one under the cursor, and a line to type in.

    Args:
        folder: What paths are relative to.
    """

    DEFAULT_CSS = """
    ConfigForm {
        height: 1fr;
        & > Input { display: none; border: none; height: 1; padding: 0 1; background: $boost; }
        & > Input.-open { display: block; }
        & > #field-problem { display: none; height: auto; color: $text-error; padding: 0 1; }
        & > #field-help { height: auto; max-height: 5; padding: 0 1; border-top: solid $foreground 20%; }
    }
    """

    @dataclass
    class Typed(Message):
        """A value was typed for a field."""

        field: Field
        text: str

    def __init__(self, folder: Path, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._folder = folder
        self._groups: tuple[Group, ...] = ()
        self._typing: Field | None = None
        self._changed_only = False

    def compose(self) -> ComposeResult:
        """Filter, fields, help, value."""
        yield Input(placeholder="name of a field", compact=True, id="filter")
        yield FieldList()
        yield Input(compact=True, select_on_focus=True, id="value")
        yield Static(id="field-problem", markup=False)
        yield Static(id="field-help", markup=False)

    def on_mount(self) -> None:
        """Tab reaches the fields only."""
        for field in self.query(Input):
            field.can_focus = False

    @property
    def fields(self) -> FieldList:
        """The list."""
        return self.query_one(FieldList)

    def on_resize(self, event: events.Resize) -> None:
        """The lines are cut to the width."""
        self.call_after_refresh(self._refill)

    def show_groups(self, groups: tuple[Group, ...]) -> None:
        """Show a text's fields."""
        self._groups = groups
        self._refill()

    def _refill(self) -> None:
        query = self.query_one("#filter", Input).value.strip()
        keep = (lambda f: f.changed) if self._changed_only else (lambda f: True)
        if query:
            from config.form import filter_fields

            fields = [field for field in filter_fields(self._groups, query) if keep(field)]
            shown: list[tuple[str, Sequence[Field]]] = [("", fields)]
        else:
            shown = [(group.title, [f for f in group.fields if keep(f)]) for group in self._groups]
        self.fields.show_fields(shown)
        self._show_help()

    def _show_help(self) -> None:
        field = self.fields.field
        text = Content.styled("Nothing fits.", "dim")
        if field is not None:
            text = field_help(field.help, shared=field.shared, problem=field.problem)
        elif not self._groups:
            text = Content("")
        self.query_one("#field-help", Static).update(text)

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._show_help()

    # -- typing -----------------------------------------------------------------------------------

    def type_value(self, field: Field) -> None:
        """Let the user type a field's value."""
        self._typing = field
        line = self.query_one("#value", Input)
        line.suggester = PathSuggester(self._folder) if field.kind == "path" else None
        line.value = plain_value(field.value)
        line.border_title = field.label
        line.placeholder = field.key
        self._open(line)
        self.complain("")

    def complain(self, sentence: str) -> None:
        """Say what is wrong with what was typed; nothing if it is empty."""
        problem = self.query_one("#field-problem", Static)
        problem.update(Content(one_line(sentence)))
        problem.display = bool(sentence)

    def finish(self) -> None:
        """Close the line; the fields have the focus again."""
        self._typing = None
        self.complain("")
        line = self.query_one("#value", Input)
        if line.has_class("-open"):
            self._close(line)

    def type_filter(self) -> None:
        """Let the user type a field's name."""
        self._open(self.query_one("#filter", Input))

    def toggle_changed(self) -> None:
        """Only changed fields, or all."""
        self._changed_only = not self._changed_only
        self._refill()

    def show_all(self) -> None:
        """No filter."""
        self._changed_only = False
        line = self.query_one("#filter", Input)
        line.value = ""
        line.remove_class("-open")
        line.can_focus = False
        self._refill()

    @property
    def filtered(self) -> bool:
        """Whether some fields are hidden."""
        return self._changed_only or bool(self.query_one("#filter", Input).value)

    def _open(self, line: Input) -> None:
        line.can_focus = True
        line.add_class("-open")
        line.focus()

    def _close(self, line: Input) -> None:
        line.remove_class("-open")
        line.can_focus = False
        self.fields.focus()

    @on(Input.Changed, "#filter")
    def _filter_typed(self, event: Input.Changed) -> None:
        event.stop()
        self._refill()

    @on(Input.Submitted, "#filter")
    def _filter_done(self, event: Input.Submitted) -> None:
        event.stop()
        event.input.can_focus = False
        event.input.set_class(bool(event.value), "-open")
        self.fields.focus()

    @on(Input.Submitted, "#value")
    def _value_done(self, event: Input.Submitted) -> None:
        event.stop()
        if self._typing is not None:
            self.post_message(self.Typed(self._typing, event.value))

    def on_key(self, event: events.Key) -> None:
        """In a line, Esc leaves it, Tab completes a path, the arrows move among the fields."""
        value, wanted = self.query_one("#value", Input), self.query_one("#filter", Input)
        if event.key == "escape" and (value.has_focus or wanted.has_focus):
            event.stop()
            event.prevent_default()
            if value.has_focus:
                self.finish()
            else:
                self.show_all()
                self.fields.focus()
        elif event.key == "tab" and value.has_focus:
            event.stop()
            event.prevent_default()
            value.action_cursor_right()
        elif event.key in ("up", "down") and wanted.has_focus:
            event.stop()
            event.prevent_default()
            (self.fields.action_cursor_up if event.key == "up" else self.fields.action_cursor_down)()
