"""One change to many captions: choose it, see what it would do, apply it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, OptionList, Static
from textual.widgets.option_list import Option

from backend.datasets.edits import (
    AddPrefix,
    AddSuffix,
    AddTag,
    Change,
    CreateMissing,
    DedupeTags,
    Edit,
    FindReplace,
    Plan,
    PutTrigger,
    RemovePrefix,
    RemoveSuffix,
    RemoveTag,
    RenameTag,
    SortTags,
    TakeTrigger,
    Trim,
    plan,
)
from backend.datasets.errors import DatasetError
from tui.text import clip, one_line, plural
from tui.widgets.radio import Tick

if TYPE_CHECKING:
    from textual.app import ComposeResult

_PAUSE = 0.12  # seconds without typing after which the preview is made
_SHOWN = 60  # changes in the preview
_LOW = 18  # lines; with fewer the edit makes do with four of them, so that the preview has some


@dataclass(frozen=True)
class _Kind:
    """One edit of the menu.

    Attributes:
        title: Its words.
        make: Makes it of the two lines and the two boxes.
        fields: What the lines are for.
        boxes: What the boxes are for.
    """

    title: str
    make: Callable[[str, str, bool, bool], Edit]
    fields: tuple[str, ...] = ()
    boxes: tuple[str, ...] = ()


_KINDS: tuple[_Kind, ...] = (
    _Kind(
        "Find and replace",
        lambda a, b, x, y: FindReplace(a, b, regex=x, ignore_case=y),
        ("Find", "Replace by"),
        ("Regular expression", "Ignore case"),
    ),
    _Kind("Add a prefix", lambda a, b, x, y: AddPrefix(a), ("Prefix",)),
    _Kind("Remove a prefix", lambda a, b, x, y: RemovePrefix(a), ("Prefix",)),
    _Kind("Add a suffix", lambda a, b, x, y: AddSuffix(a), ("Suffix",)),
    _Kind("Remove a suffix", lambda a, b, x, y: RemoveSuffix(a), ("Suffix",)),
    _Kind("Add a tag", lambda a, b, x, y: AddTag(a, first=x), ("Tag",), ("In front",)),
    _Kind("Remove a tag", lambda a, b, x, y: RemoveTag(a), ("Tag",)),
    _Kind("Rename a tag", lambda a, b, x, y: RenameTag(a, b), ("Tag", "New name")),
    _Kind(
        "Put the trigger in",
        lambda a, b, x, y: PutTrigger(a, placeholder=x),
        ("Trigger word",),
        ("As [trigger]",),
    ),
    _Kind("Take the trigger out", lambda a, b, x, y: TakeTrigger(a), ("Trigger word",)),
    _Kind("Create missing captions", lambda a, b, x, y: CreateMissing(a), ("Text",)),
    _Kind("Trim white space", lambda a, b, x, y: Trim()),
    _Kind("Remove repeated tags", lambda a, b, x, y: DedupeTags()),
    _Kind("Sort tags", lambda a, b, x, y: SortTags()),
)
_REMOVE_TAG, _RENAME_TAG = 6, 7


class BulkScreen(ModalScreen[Plan | None], inherit_bindings=False):
    """The result is what to change, or None.

    Args:
        texts: Captions by their files; None for a missing one.
        folder: The dataset, that names are shown relative to.
        trigger: The trigger word, if there is one.
        edit: An edit to begin with: a tag's removal or renaming.
        left_out: How many pictures are left out because their captions are not saved.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(  # before the line, which would copy with ctrl+c
            "escape,ctrl+c", "cancel", "Cancel", priority=True, id="bulk.cancel", tooltip="Change nothing."
        ),
        Binding("ctrl+s,f6", "apply", "Apply", id="bulk.apply", tooltip="Change the captions as shown."),
        Binding("tab", "app.focus_next", "Next", show=False, id="bulk.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="bulk.previous",
            tooltip="The line before.",
        ),
        Binding(
            "pagedown",
            "page(1)",
            "Preview down",
            show=False,
            id="bulk.page-down",
            tooltip="Further changes.",
        ),
        Binding(
            "pageup",
            "page(-1)",
            "Preview up",
            show=False,
            id="bulk.page-up",
            tooltip="Changes further up.",
        ),
    ]
    DEFAULT_CSS = """
    BulkScreen { align: center middle; }
    BulkScreen > Vertical {
        width: 110;
        max-width: 98%;
        height: 96%;
        padding: 0 1;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    BulkScreen #form { height: auto; }
    BulkScreen #kinds { width: 28; height: 9; border: none; padding: 0; scrollbar-size-vertical: 1; }
    BulkScreen #fields { width: 1fr; height: 9; padding-left: 2; }
    BulkScreen #fields Input { margin-bottom: 0; }
    BulkScreen #fields Static { height: 1; color: $text-muted; }
    BulkScreen #boxes { height: 1; }
    BulkScreen #boxes Checkbox { width: auto; margin-right: 2; }
    BulkScreen #summary { height: auto; text-style: bold; }
    BulkScreen #preview { height: 1fr; scrollbar-size-vertical: 1; }
    BulkScreen #hint { height: 1; color: $text-muted; }
    BulkScreen.-low #kinds { width: 40%; height: 4; }
    BulkScreen.-low #fields { height: 4; padding-left: 1; }
    BulkScreen.-low #boxes { layout: vertical; height: 2; }
    BulkScreen.-low #hint { display: none; }
    """

    def __init__(
        self,
        texts: Mapping[Path, str | None],
        folder: Path,
        trigger: str = "",
        *,
        edit: Edit | None = None,
        left_out: int = 0,
    ) -> None:
        super().__init__()
        self._texts, self._folder, self._trigger = dict(texts), folder, trigger
        self._left_out = left_out
        self._edit = edit
        self._kind = _KINDS[0]
        self.planned: Plan | None = None

    def compose(self) -> ComposeResult:
        """The edits, their words, what they would do."""
        with Vertical() as box:
            box.border_title = Content(f"Change {plural(len(self._texts), 'caption')}")
            with Horizontal(id="form"):
                yield OptionList(
                    *(Option(kind.title) for kind in _KINDS), id="kinds", markup=False, compact=True
                )
                with Vertical(id="fields"):
                    for number in (0, 1):
                        yield Static(id=f"label-{number}", markup=False)
                        yield Input(compact=True, id=f"field-{number}")
                    with Horizontal(id="boxes"):
                        yield Tick(compact=True, id="box-0")
                        yield Tick(compact=True, id="box-1")
            yield Static(id="summary", markup=False)
            with VerticalScroll(id="preview", can_focus=False):
                yield Static(id="changes", markup=False)
            yield Static(
                Content("ctrl+s or enter applies · tab next · pgup pgdn preview · esc cancels"), id="hint"
            )

    def on_mount(self) -> None:
        """Begin with the edit that was asked for."""
        kinds = self.query_one("#kinds", OptionList)
        match self._edit:
            case RemoveTag(tag):
                kinds.highlighted = _REMOVE_TAG
                self._set_kind(_KINDS[_REMOVE_TAG], (tag, ""))
            case RenameTag(tag, new):
                kinds.highlighted = _RENAME_TAG
                self._set_kind(_KINDS[_RENAME_TAG], (tag, new))
                self.query_one("#field-1").focus()
            case _:
                kinds.highlighted = 0
                self._set_kind(_KINDS[0])

    def _set_kind(self, kind: _Kind, values: tuple[str, str] = ("", "")) -> None:
        self._kind = kind
        if kind.fields == ("Trigger word",):
            values = (self._trigger, "")
        for number in (0, 1):
            used = number < len(kind.fields)
            label, line = (
                self.query_one(f"#label-{number}", Static),
                self.query_one(f"#field-{number}", Input),
            )
            line.display = used
            label.update(Content(kind.fields[number]) if used else "")
            with self.prevent(Input.Changed):
                line.value = values[number]
            box = self.query_one(f"#box-{number}", Checkbox)
            box.display = number < len(kind.boxes)
            if box.display:
                box.label = Content(kind.boxes[number])
        self._fit()
        self._make_plan(0.0)

    def on_resize(self) -> None:
        """Another height."""
        self.set_class(self.size.height < _LOW, "-low")
        self._fit()

    def _fit(self) -> None:
        """In a low window what a line is for stands in it, not over it."""
        low = self.size.height < _LOW
        for number in (0, 1):
            used = number < len(self._kind.fields)
            self.query_one(f"#label-{number}").display = used and not low
            self.query_one(f"#field-{number}", Input).placeholder = (
                self._kind.fields[number] if used and low else ""
            )

    # What it would do

    @on(Input.Changed)
    @on(Checkbox.Changed)
    def _changed(self) -> None:
        self.planned = None  # what is shown is not what is typed
        self._make_plan(_PAUSE)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another edit."""
        at = event.option_list.highlighted  # an older message must not take back a newer choice
        kind = _KINDS[at] if at is not None else self._kind
        if kind is not self._kind:
            self._set_kind(kind)

    def edit(self) -> Edit:
        """The edit as it is typed."""
        lines = [self.query_one(f"#field-{number}", Input).value for number in (0, 1)]
        boxes = [self.query_one(f"#box-{number}", Checkbox).value for number in (0, 1)]
        return self._kind.make(lines[0], lines[1], boxes[0], boxes[1])

    @work(exclusive=True, group="plan", exit_on_error=False)
    async def _make_plan(self, pause: float) -> None:
        self.planned = None
        if pause:
            await asyncio.sleep(pause)
        empty = not self.query_one("#field-0", Input).value and bool(self._kind.fields)
        try:
            planned = await asyncio.to_thread(plan, self.edit(), self._texts)
        except DatasetError as error:
            style = "$text-muted" if empty else "$text-error"
            text = str(error)
            self._show(
                Content.styled(f"{one_line(text[:1].upper() + text[1:])}.".replace("..", "."), style), []
            )
            return
        self.planned = planned
        count = plural(len(planned.changes), "caption")
        left = f" · {self._left_out} with unsaved changes left out" if self._left_out else ""
        self._show(
            Content(f"{count} would change, {planned.unchanged} stay as they are{left}"), planned.changes
        )

    def _show(self, summary: Content, changes: tuple[Change, ...] | list[Change]) -> None:
        self.query_one("#summary", Static).update(summary)
        lines: list[Content] = []
        for change in changes[:_SHOWN]:
            lines.append(Content.styled(clip(self._relative(change.path), 100), "bold"))
            before, after = _around(change.before or "", change.after)
            if change.before is not None:
                lines.append(Content.assemble(("- ", "$text-error"), (one_line(before), "$text-error")))
            lines.append(
                Content.assemble(("+ ", "$text-success"), (one_line(after) or "(empty)", "$text-success"))
            )
        if len(changes) > _SHOWN:
            lines.append(Content.styled(f"and {len(changes) - _SHOWN} more", "dim"))
        self.query_one("#changes", Static).update(Content("\n").join(lines))
        self.query_one("#preview").scroll_home(animate=False)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else path.name

    # Keys

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        if event.input.id == "field-0" and len(self._kind.fields) > 1:
            self.query_one("#field-1").focus()
        else:
            self.action_apply()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go to its words, or apply it if it has none."""
        event.stop()
        if self._kind.fields:
            self.query_one("#field-0").focus()
        else:
            self.action_apply()

    def action_apply(self) -> None:
        """Close with what is shown."""
        if self.planned is not None and self.planned.changes:
            self.dismiss(self.planned)

    def action_page(self, pages: int) -> None:
        """Look at further changes."""
        preview = self.query_one("#preview", VerticalScroll)
        preview.scroll_relative(y=pages * max(1, preview.size.height - 1), animate=False)

    def action_cancel(self) -> None:
        """Change nothing."""
        self.dismiss(None)


def _around(before: str, after: str, most: int = 400) -> tuple[str, str]:
    """The two texts, cut down to what surrounds their first difference if they are long."""
    if len(before) <= most and len(after) <= most:
        return before, after
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    start = max(0, first - most // 4)
    lead = "…" if start else ""
    return lead + before[start : start + most], lead + after[start : start + most]
