"""What the list and the grid of pictures have in common: the cursor, choosing, the keys for both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.pictures.shelf import Shelf
from tui.text import clip

_KEPT = 600  # painted rows or tiles in memory

if TYPE_CHECKING:
    from textual import events

    from tui.pictures.row import PictureRow


class PictureView(ScrollView, can_focus=True, inherit_bindings=False):
    """A virtual view of a :class:`Shelf`; only what is visible is looked up and painted.

    Args:
        shelf: The names, the cursor and the choice; shared between views.
        row_of: What is known of a name.
    """

    ALLOW_SELECT = False
    HELP: ClassVar[str] = (
        "The pictures of the dataset. The marks before a name: `✗` an error, `!` a warning, `·` a remark, "
        "`-` kept out of training, `⌗` cropped, `*` a caption that is not saved, `✓` chosen. "
        "What you choose stays chosen while you filter; nothing chosen means everything that is shown."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Caption", id="pictures.open", tooltip="Edit the picture's caption."),
        Binding("down,j", "step(0,1)", "Down", show=False, id="pictures.down", tooltip="One row down."),
        Binding("up,k", "step(0,-1)", "Up", show=False, id="pictures.up", tooltip="One row up."),
        Binding(
            "left,h", "step(-1,0)", "Left", show=False, id="pictures.left", tooltip="The picture before."
        ),
        Binding(
            "right,l", "step(1,0)", "Right", show=False, id="pictures.right", tooltip="The next picture."
        ),
        Binding(
            "pagedown", "page(1)", "Page down", show=False, id="pictures.page-down", tooltip="A page down."
        ),
        Binding("pageup", "page(-1)", "Page up", show=False, id="pictures.page-up", tooltip="A page up."),
        Binding("home,g", "end(False)", "First", show=False, id="pictures.first", tooltip="The first one."),
        Binding("end,G", "end(True)", "Last", show=False, id="pictures.last", tooltip="The last one."),
        Binding("space", "choose", "Choose", id="pictures.choose", tooltip="Choose it, or do not any more."),
        Binding(
            "V",
            "choose_range",
            "Range",
            show=False,
            id="pictures.range",
            tooltip="Choose everything from the last one chosen to here.",
        ),
        Binding(
            "a",
            "choose_all",
            "All",
            show=False,
            id="pictures.all",
            tooltip="Choose all that is shown; or none.",
        ),
        Binding(
            "asterisk",
            "invert",
            "Invert",
            show=False,
            id="pictures.invert",
            tooltip="Choose the others.",
        ),
        Binding(
            "escape",
            "choose_none",
            "Choose none",
            show=False,
            id="pictures.none",
            tooltip="Choose nothing.",
        ),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "pictures--cursor",
        "pictures--chosen",
        "pictures--muted",
        "pictures--error",
        "pictures--warning",
        "pictures--info",
    }
    DEFAULT_CSS = """
    PictureView {
        height: 1fr;
        width: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        background: transparent;
        & > .pictures--cursor { background: $foreground 10%; }
        & > .pictures--chosen { color: $text-accent; text-style: bold; }
        & > .pictures--muted { color: $text-muted; }
        & > .pictures--error { color: $text-error; text-style: bold; }
        & > .pictures--warning { color: $text-warning; }
        & > .pictures--info { color: $text-muted; }
        &:focus > .pictures--cursor { background: $primary-muted; text-style: bold; }
        &:nocolor:focus > .pictures--cursor { text-style: bold reverse; }
        &:ansi:focus > .pictures--cursor { background: transparent; text-style: bold reverse; }
    }
    """

    class Moved(Message):
        """The cursor stands on another picture."""

    class Opened(Message):
        """The picture under the cursor was opened."""

    class Chosen(Message):
        """Other pictures are chosen."""

    def __init__(
        self,
        shelf: Shelf,
        row_of: Callable[[str], PictureRow | None],
        *,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self.shelf = shelf
        self.row_of = row_of
        self.placeholder = ""
        self._look: dict[str, Style] = {}
        self._base = Style()
        self._kept: OrderedDict[Hashable, list[Strip]] = OrderedDict()  # what was painted, by its look

    # What the two views differ in

    def content_height(self) -> int:
        """Lines of everything."""
        raise NotImplementedError

    def index_at(self, x: int, y: int) -> int | None:
        """The picture at a cell of the whole content."""
        raise NotImplementedError

    def lines_of(self, index: int) -> tuple[int, int]:
        """First line and number of lines of a picture."""
        raise NotImplementedError

    def region_of(self, index: int) -> Region:
        """The cells of a picture in the whole content."""
        first, count = self.lines_of(index)
        return Region(0, first, self.size.width, count)

    def stepped(self, columns: int, rows: int) -> int:
        """The index so far from the cursor."""
        raise NotImplementedError

    def painted(self, y: int) -> Strip:
        """A line of the whole content."""
        raise NotImplementedError

    # Content

    def update_rows(self) -> None:
        """Names, rows or the cursor have changed: lay out and paint anew."""
        size = Size(self.scrollable_content_region.width, self.content_height())
        if size != self.virtual_size:
            # Set past the reactive: its layout pass of the whole screen is for scroll bars that come and go.
            self.set_reactive(Widget.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
            self.vertical_scrollbar.window_size = self.scrollable_content_region.height
        self.show_cursor()
        self.refresh()

    def show_cursor(self) -> None:
        """Scroll so that the cursor is seen."""
        if not len(self.shelf) or not self.size.height:
            return
        first, count = self.lines_of(self.shelf.cursor)
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        target = top
        if first < top:
            target = first
        elif first + count > top + height:
            target = first + min(count, height) - height
        if target != top:
            self.scroll_to(y=max(0, target), animate=False, force=True, immediate=True)

    def on_resize(self, event: events.Resize) -> None:
        """Another size holds other rows."""
        self.update_rows()

    def notify_style_update(self) -> None:
        """The theme or a style changed."""
        super().notify_style_update()
        self._look.clear()
        self._kept.clear()

    def look(self, name: str) -> Style:
        """A component's style, without a background that it does not name."""
        style = self._look.get(name)
        if style is None:
            style = self.get_component_rich_style(f"pictures--{name}", partial=name != "cursor")
            self._look[name] = style
        return style

    def render_lines(self, crop: Region) -> list[Strip]:
        """The visible lines; what they have in common is looked up once."""
        base = self.rich_style
        if base != self._base:
            self._base = base
            self._kept.clear()
        return super().render_lines(crop)

    def kept(self, look: Hashable, paint: Callable[[], list[Strip]]) -> list[Strip]:
        """What was painted for a look before; painted now if it was not, or was forgotten.

        The same strips again cost Textual nothing: they remember how they are filtered, cut and written.

        Args:
            look: Everything that the strips depend on but the theme.
            paint: Makes them.
        """
        strips = self._kept.get(look)
        if strips is None:
            strips = self._kept[look] = paint()
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(look)
        return strips

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        width = self.size.width
        if not len(self.shelf):
            words = clip(self.placeholder, width) if y == 0 else ""
            style = self._base + self.look("muted")
            return Strip([Segment(words, style)]).adjust_cell_length(width, self._base)
        line = self.painted(y + self.scroll_offset.y)
        return line.adjust_cell_length(width, self._base)

    # Keys

    def refresh_pictures(self, *indexes: int) -> None:
        """Paint a few pictures anew, and nothing else."""
        seen = self.size.region
        regions = [self.region_of(index).translate((0, -self.scroll_offset.y)) for index in indexes]
        if visible := [region for it in regions if (region := it.intersection(seen))]:
            self.refresh(*visible)

    def _go(self, index: int) -> None:
        before = self.shelf.cursor
        if self.shelf.go(index):
            self.show_cursor()
            self.refresh_pictures(before, self.shelf.cursor)
            self.post_message(self.Moved())

    def action_step(self, columns: int, rows: int) -> None:
        """Move the cursor."""
        self._go(self.stepped(columns, rows))

    def action_page(self, pages: int) -> None:
        """Move by what is visible."""
        if len(self.shelf):
            lines = self.lines_of(self.shelf.cursor)[1]
            self._go(self.stepped(0, pages * max(1, self.size.height // lines)))

    def action_end(self, last: bool) -> None:
        """To the first or the last picture."""
        self._go(len(self.shelf) - 1 if last else 0)

    def action_open(self) -> None:
        """Say that the picture is wanted."""
        if self.shelf.current is not None:
            self.post_message(self.Opened())

    def _choice_changed(self) -> None:
        self.refresh()
        self.post_message(self.Chosen())

    def action_choose(self) -> None:
        """Choose, or not, and go on."""
        self.shelf.toggle()
        self.refresh_pictures(self.shelf.cursor)
        self.post_message(self.Chosen())
        self.action_step(1, 0)

    def action_choose_range(self) -> None:
        """Choose from the last chosen one to here."""
        self.shelf.choose_range()
        self._choice_changed()

    def action_choose_all(self) -> None:
        """Choose all that is shown, or none of it."""
        self.shelf.choose_all()
        self._choice_changed()

    def action_invert(self) -> None:
        """Choose the others."""
        self.shelf.invert()
        self._choice_changed()

    def action_choose_none(self) -> None:
        """Choose nothing."""
        self.shelf.choose_none()
        self._choice_changed()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape belongs to the choice only while there is one."""
        if action == "choose_none":
            return bool(self.shelf.chosen or self.shelf.hidden)
        return True

    def on_click(self, event: events.Click) -> None:
        """Go to the picture under the mouse; twice opens it, with ctrl it is chosen."""
        index = self.index_at(event.x, event.y + self.scroll_offset.y)
        if index is None:
            return
        self._go(index)
        if event.ctrl:
            self.shelf.toggle()
            self._choice_changed()
        elif event.chain == 2:
            self.action_open()
