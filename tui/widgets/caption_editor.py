"""The caption of a picture, edited beside it, and the text that it will be trained with."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea
from textual.widgets.text_area import EditHistory

from tui.text import one_line
from tui.widgets.shown import put_text, put_titles

if TYPE_CHECKING:
    from rich.style import Style
    from rich.text import Text
    from textual import events
    from textual.widget import Widget

    from backend.datasets.tokens import Tokens

_PLACEHOLDER = re.compile(r"\[(?:trigger|name)\]")
# What a terminal would obey is shown by a sign of the same length: controls, and marks that turn text round.
_VISIBLE = {
    **{code: 0x2400 + code for code in range(0x20) if code != 0x09},
    0x7F: 0x2421,
    **dict.fromkeys((*range(128, 160), *range(8234, 8239), *range(8294, 8298)), 183),
}
_HISTORIES = 50  # pictures whose undo history is kept
LONG = 20_000  # characters of a caption that are looked at with each key


class CaptionEditor(TextArea):
    """Edits one caption; ``[trigger]`` stands out."""

    HELP: ClassVar[str] = (
        "What you type is kept as a draft, on disk too, until you save it or go back to the saved text: "
        "go to other pictures as you like. `[trigger]` stands for the trigger word; below the box is the "
        "text that training will see. Undo is `ctrl+z`, redo `ctrl+y`."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s,f6", "save", "Save", id="caption.save", tooltip="Write the caption to its file."),
        Binding(
            "ctrl+down,f8",
            "other(1)",
            "Next",
            id="caption.next",
            tooltip="The next picture; what is not saved is kept.",
        ),
        Binding(
            "ctrl+up,f7",
            "other(-1)",
            "Previous",
            id="caption.previous",
            tooltip="The picture before; what is not saved is kept.",
        ),
        Binding("ctrl+r", "revert", "Revert", id="caption.revert", tooltip="Back to the text that is saved."),
        Binding("ctrl+t", "put_trigger", "[trigger]", id="caption.trigger", tooltip="Put [trigger] here."),
        Binding("escape", "leave", "Back", id="caption.leave", tooltip="Back to the pictures."),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"caption--trigger"}
    DEFAULT_CSS = """
    CaptionEditor {
        height: 1fr;
        border: none;
        padding: 0;
        background: transparent;
        scrollbar-size-vertical: 1;
        & > .caption--trigger { color: $text-accent; text-style: bold underline; }
        &:focus { border: none; }
    }
    """

    @dataclass
    class Typed(Message):
        """The user changed the caption of ``picture``."""

        picture: str
        text: str

    class SaveWanted(Message):
        """The caption is to be written."""

    class RevertWanted(Message):
        """The saved text is wanted back."""

    @dataclass
    class OtherWanted(Message):
        """Another picture is wanted."""

        way: int

    class Left(Message):
        """The user is done here."""

    def __init__(self) -> None:
        super().__init__(id="caption", soft_wrap=True, show_line_numbers=False, compact=True)
        self.picture: str | None = None
        self._left: OrderedDict[str, tuple[str, EditHistory]] = OrderedDict()  # text and undo history
        self._loaded = self._as_loaded = ""
        self.heard = ""  # the text that the screen knows; typing is told by messages, which take their time
        self.read_only = True

    def on_paste(self, event: events.Paste) -> None:
        """It is text here; what is pasted elsewhere, the screen takes for paths of pictures."""
        event.stop()

    def action_copy(self) -> None:
        """Copy the selection; without one nothing, so that ctrl+c never ends the app from within a text."""
        if self.selected_text:
            super().action_copy()

    def open_caption(self, picture: str | None, text: str, *, writable: bool = True) -> None:
        """Show the caption of a picture; what was undoable in it still is.

        Args:
            picture: Its name, or None for no picture.
            text: The caption.
            writable: Whether it may be edited.
        """
        same = picture == self.picture
        # What was loaded may read differently: other line ends, say.
        unchanged = text == self.text or (text == self._loaded and self.text == self._as_loaded)
        if same and unchanged and self.read_only == (not writable):
            return
        if not same and self.picture is not None:
            self._left[self.picture] = (self.text, self.history)
            while len(self._left) > _HISTORIES:
                self._left.popitem(last=False)
        left = None if same or picture is None else self._left.pop(picture, None)
        self.picture = picture
        self.history = EditHistory(
            max_checkpoints=self.history.max_checkpoints,
            checkpoint_timer=self.history.checkpoint_timer,
            checkpoint_max_characters=self.history.checkpoint_max_characters,
        )
        with self.prevent(TextArea.Changed):
            self.load_text(text)
        self._loaded, self._as_loaded = text, self.text
        self.heard = self.text
        if left is not None and left[0] == text:
            self.history = left[1]
        self.read_only = not writable or picture is None

    def get_line(self, line_index: int) -> Text:
        """A line with its placeholders highlighted."""
        line = super().get_line(line_index)
        if not line.plain.isprintable():
            line.plain = line.plain.translate(_VISIBLE)
        if matches := list(_PLACEHOLDER.finditer(line.plain)):
            style: Style = self.get_component_rich_style("caption--trigger", partial=True)
            for match in matches:
                line.stylize(style, *match.span())
        return line

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Something was typed."""
        event.stop()
        if self.picture is not None and not self.read_only:
            self.post_message(self.Typed(self.picture, self.text))

    def action_save(self) -> None:
        """Write it."""
        self.post_message(self.SaveWanted())

    def action_revert(self) -> None:
        """Back to what is saved."""
        self.post_message(self.RevertWanted())

    def action_other(self, way: int) -> None:
        """To another picture."""
        self.post_message(self.OtherWanted(way))

    def action_put_trigger(self) -> None:
        """Put the placeholder at the cursor."""
        if not self.read_only:
            self.insert("[trigger]")

    def action_leave(self) -> None:
        """Back to the pictures."""
        self.post_message(self.Left())


class CaptionBox(Vertical):
    """The editor over what training will see."""

    DEFAULT_CSS = """
    CaptionBox {
        height: 9;
        border: round $foreground 30%;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        &:focus-within { border: round $primary; border-title-style: bold; }
        &:nocolor:focus-within { border: heavy $primary; }
        & > #trained { height: auto; max-height: 3; color: $text-muted; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="caption-box")
        self.border_title = "Caption"

    def compose(self) -> Iterable[Widget]:
        """The editor, and the line below."""
        yield CaptionEditor()
        yield Static(id="trained", markup=False)

    def show_state(self, *, draft: bool, conflict: bool, problem: str = "", tokens: str = "") -> None:
        """Say whether it is saved, and what it costs of the encoders' room.

        Args:
            draft: Whether it has changes.
            conflict: Whether its file was changed by others meanwhile.
            problem: Why it cannot be edited, if so.
            tokens: Words for the subtitle.
        """
        title = "Caption"
        if problem:
            title = f"Caption: {one_line(problem)}"
        elif conflict:
            title = "Caption * changed outside"
        elif draft:
            title = "Caption * not saved"
        put_titles(self, Content(title), Content(tokens))

    def show_theirs(self, saved: str) -> None:
        """Show what the file says, that others wrote while this one was typed, and what to do about it."""
        words = one_line(saved[:LONG]) or "(nothing)"
        put_text(
            self.query_one("#trained", Static),
            Content.assemble(("ctrl+s keeps yours, ctrl+r takes the file's: ", "dim"), Content(words)),
        )

    def show_trained(self, trained: str, trigger: str) -> None:
        """Show the text that training will see."""
        text = one_line(trained[:LONG])
        parts: list[Content | tuple[str, str]] = [("trains as ", "dim")]
        if trigger and trigger in text:
            before, *rest = text.split(trigger)
            parts.append(Content(before))
            for piece in rest:
                parts += [(trigger, "bold $text-accent"), Content(piece)]
        else:
            parts.append(Content(text or "(nothing)"))
        put_text(self.query_one("#trained", Static), Content.assemble(*parts))


def token_words(count: Tokens, *, part: bool = False) -> str:
    """What a caption costs of the encoders' room; what matters comes first, as the frame may be narrow.

    Args:
        count: Its tokens.
        part: Whether only its beginning was counted.
    """
    about = "over " if part else "" if count.exact else "~"
    clip = f"CLIP {about}{count.clip}/{count.clip_limit}"
    t5 = f"T5 {about}{count.t5}/{count.t5_limit}"
    if count.over_t5:
        return f"! {t5}: too long · {clip}"
    return f"{clip} · {t5}{' · CLIP sees the start' if count.over_clip else ''}"
