"""One picture, drawn by half cells or by the terminal's own graphics."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.style import Style
from textual import work
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget
from textual.worker import get_current_worker

from tui.widgets.half_cells import Frame, PictureError, cells_of, framed, open_picture

if TYPE_CHECKING:
    from PIL import Image
    from textual import events
    from textual.geometry import Region

    from tui.terminal import Protocol

_CELL = (10, 20)  # pixels; a guess that is only used to bound what is sent to the terminal


@dataclass(eq=False)
class PictureDecoded(Message, bubble=False):
    """A picture is ready to be drawn, or cannot be."""

    path: Path
    size: tuple[int, int]
    frame: Frame | None = None
    image: Image.Image | None = None
    strips: list[Strip] | None = None
    problem: str = ""


@dataclass(eq=False)
class PixelsDecoded(Message, bubble=False):
    """A picture is ready for the terminal's own graphics, or cannot be shown."""

    path: Path
    frame: Frame | None = None
    image: Any = None
    shown: Any = None
    problem: str = ""


class HalfCellPicture(Widget):
    """A picture of half cells; decoded in a thread, kept until its size changes."""

    ALLOW_SELECT = False
    DEFAULT_CSS = "HalfCellPicture { height: 1fr; width: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._path: Path | None = None
        self._frame: Frame | None = None
        self._decoded: tuple[tuple[int, int], Image.Image] | None = None  # cells, and the picture for them
        self._strips: list[Strip] = []
        self._lines: dict[int, Strip] = {}  # painted lines, kept while nothing they depend on changes
        self._painted_for: tuple[object, ...] = ()
        self._base = Style()
        self._problem = ""

    def show_picture(self, path: Path | None, *, again: bool = False, frame: Frame | None = None) -> None:
        """Draw the picture in ``path``, or nothing.

        Args:
            path: The picture.
            again: Though it was tried before.
            frame: The part of it that counts; the rest is drawn dark.
        """
        if path != self._path or again:
            self._path, self._frame, self._strips, self._problem = path, frame, [], ""
            self._decoded = None
            self.refresh()
            self._decode_again()
        elif frame != self._frame:
            self._frame = frame
            self._decode_again()

    def on_resize(self, event: events.Resize) -> None:
        """Another size needs other cells."""
        self._decode_again()

    def _decode_again(self) -> None:
        if self._path is not None and self.size.area:
            size = (self.size.width, self.size.height)
            known = self._decoded[1] if self._decoded is not None and self._decoded[0] == size else None
            self._decode(self._path, size, self._frame, known)

    @work(thread=True, exclusive=True, group="decode", exit_on_error=False)
    def _decode(
        self, path: Path, size: tuple[int, int], frame: Frame | None, known: Image.Image | None
    ) -> None:
        try:
            image = known or open_picture(path, size[0], size[1] * 2)
            message = PictureDecoded(path, size, frame, image, cells_of(framed(image, frame)))
        except PictureError as error:
            message = PictureDecoded(path, size, frame, problem=str(error))
        if not get_current_worker().is_cancelled:
            self.post_message(message)

    def on_picture_decoded(self, message: PictureDecoded) -> None:
        """Show it, if it is still wanted."""
        size = (self.size.width, self.size.height)
        if (message.path, message.size, message.frame) == (self._path, size, self._frame):
            self._strips, self._problem = message.strips or [], message.problem
            self._decoded = (size, message.image) if message.image is not None else None
            self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The visible lines; the style is looked up once."""
        self._base = self.rich_style
        state = (self._base, self.size, id(self._strips), self._problem, self._path)
        if state != self._painted_for:
            self._painted_for = state
            self._lines.clear()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """A line of the picture, which stands in the middle."""
        line = self._lines.get(y)
        if line is None:
            line = self._lines[y] = self._line(y)
        return line

    def _line(self, y: int) -> Strip:
        width, height = self.size
        base = self._base
        blank = Strip.blank(width, base)
        if not self._strips:
            words = f"({self._problem})" if self._problem else ("…" if self._path else "")
            if y != height // 2:
                return blank
            from rich.segment import Segment

            return Strip([Segment(words[:width].center(width), base)], width)
        row = y - (height - len(self._strips)) // 2
        if not 0 <= row < len(self._strips):
            return blank
        strip = self._strips[row]
        if row == len(self._strips) - 1:  # its lower half may be open
            strip = strip.apply_style(base)
        left = max(0, (width - strip.cell_length) // 2)
        line = Strip.join([Strip.blank(left, base), strip])
        return line.adjust_cell_length(width, base)


class GraphicsPicture(Widget):
    """A picture drawn by the terminal's own protocol, through ``textual_image``."""

    ALLOW_SELECT = False
    DEFAULT_CSS = """
    GraphicsPicture { height: 1fr; width: 1fr; align: center middle; }
    """

    def __init__(self, protocol: Protocol, *, forced: bool) -> None:
        super().__init__()
        # Imported already before the app took the terminal over: see tui.terminal.
        from textual_image import widget as images

        kinds = {"kitty": images.TGPImage, "sixel": images.SixelImage} if forced else {}
        self._picture: Any = kinds.get(protocol, images.Image)()
        self._picture.styles.width = "auto"
        self._picture.styles.height = "100%"
        self._path: Path | None = None
        self._frame: Frame | None = None
        self._decoded: Any = None
        self._room = (0, 0)  # pixels that it was decoded for

    def compose(self) -> Any:
        """The picture itself."""
        yield self._picture

    def show_picture(self, path: Path | None, *, again: bool = False, frame: Frame | None = None) -> None:
        """Draw the picture in ``path``, or nothing; see :meth:`HalfCellPicture.show_picture`."""
        if path != self._path or again:
            self._path, self._frame, self._decoded = path, frame, None
        elif frame != self._frame:
            self._frame = frame
        else:
            return
        if path is None:
            self._picture.image = None
            return
        self._decode_again()

    def on_resize(self, event: events.Resize) -> None:
        """There is room for more pixels, or for fewer."""
        self._decode_again()

    def _decode_again(self) -> None:
        if self._path is not None and self.size.area:
            room = (self.size.width * _CELL[0], self.size.height * _CELL[1])
            if room != self._room:
                self._room, self._decoded = room, None
            self._decode(self._path, room, self._frame, self._decoded)

    @work(thread=True, exclusive=True, group="decode", exit_on_error=False)
    def _decode(self, path: Path, pixels: tuple[int, int], frame: Frame | None, known: Any) -> None:
        try:
            image = known or open_picture(path, *pixels)
            message = PixelsDecoded(path, frame, image, framed(image, frame))
        except PictureError as error:
            message = PixelsDecoded(path, frame, problem=str(error))
        if not get_current_worker().is_cancelled:
            self.post_message(message)

    def on_pixels_decoded(self, message: PixelsDecoded) -> None:
        """Show it, if it is still wanted."""
        if (message.path, message.frame) == (self._path, self._frame):
            self._decoded = message.image
            self._picture.image = message.shown
            self.tooltip = message.problem or None


def make_picture(protocol: Protocol, *, forced: bool) -> HalfCellPicture | GraphicsPicture:
    """A widget for pictures; ``forced``: the user named the protocol, so nothing is detected."""
    if protocol in ("kitty", "sixel"):
        return GraphicsPicture(protocol, forced=forced)
    return HalfCellPicture()
