"""The pictures of a dataset as a grid of thumbnails, in one view however many there are."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from tui.pictures.loader import Loader
from tui.pictures.tiles import Tiles
from tui.text import fit
from tui.widgets.half_cells import cells_of
from tui.widgets.picture_view import PictureView

if TYPE_CHECKING:
    from PIL import Image

    from tui.pictures.row import PictureRow
    from tui.pictures.shelf import Shelf

TILE_SIZES = ((14, 6), (18, 8), (26, 12), (38, 18))  # cells, the line of words included
_KEPT = 400  # thumbnails in memory


class Thumbnail(NamedTuple):
    """Which thumbnail: of which file in which state, for how many cells."""

    path: Path
    stamp: object
    width: int
    height: int


class PictureGrid(PictureView):
    """Tiles of a thumbnail over a name.

    Thumbnails are made in two threads of their own, those on the screen first, then a page around them;
    what was scrolled past before its turn is never begun.

    Args:
        shelf: The names, the cursor and the choice.
        row_of: What is known of a name.
        decode: Reads a picture for so many pixels at the most; called in a thread.
        pictures: Whether thumbnails are wanted at all.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "plus,equals_sign",
            "tile_size(1)",
            "Larger",
            show=False,
            id="pictures.larger",
            tooltip="Larger thumbnails.",
        ),
        Binding(
            "minus", "tile_size(-1)", "Smaller", show=False, id="pictures.smaller", tooltip="Smaller ones."
        ),
    ]
    DEFAULT_CSS = "PictureGrid { height: 1fr; }"

    class Arrived(Message, bubble=False):
        """Thumbnails are ready."""

        def can_replace(self, message: Message) -> bool:
            """One of them is enough."""
            return isinstance(message, PictureGrid.Arrived)

    def __init__(
        self,
        shelf: Shelf,
        row_of: Callable[[str], PictureRow | None],
        decode: Callable[[Thumbnail], Image.Image],
        *,
        pictures: bool = True,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(shelf, row_of, id=id)
        self._decode = decode
        self._pictures = pictures
        self._size_at = 1
        self._ready: deque[tuple[Thumbnail, list[Strip] | Exception]] = deque()
        self._strips: OrderedDict[Thumbnail, list[Strip] | None] = OrderedDict()
        self._loader: Loader[Thumbnail, list[Strip]] = Loader(self._load, self._loaded)
        self._asked: tuple[object, ...] = ()

    # Layout

    @property
    def tiles(self) -> Tiles:
        """Where the tiles stand at the present size."""
        width, height = TILE_SIZES[self._size_at]
        if not self._pictures:
            height = 2
        return Tiles(len(self.shelf), max(1, self.size.width - 1), width, height)

    def content_height(self) -> int:
        """All rows of tiles."""
        return self.tiles.height

    def index_at(self, x: int, y: int) -> int | None:
        """The tile under a cell."""
        return self.tiles.at(x, y)

    def lines_of(self, index: int) -> tuple[int, int]:
        """The tile's lines."""
        tiles = self.tiles
        return tiles.place(index)[1], tiles.tile_height

    def stepped(self, columns: int, rows: int) -> int:
        """By tiles."""
        return self.tiles.step(self.shelf.cursor, columns, rows)

    def action_tile_size(self, larger: int) -> None:
        """Make the tiles larger or smaller by a size."""
        at = max(0, min(self._size_at + larger, len(TILE_SIZES) - 1))
        if at != self._size_at:
            self._size_at = at
            self.update_rows()
            self.show_cursor()

    # Thumbnails

    def _load(self, key: Thumbnail) -> list[Strip]:
        return cells_of(self._decode(key))

    def _loaded(self, key: Thumbnail, result: list[Strip] | Exception) -> None:
        self._ready.append((key, result))
        self.post_message(self.Arrived())

    def on_picture_grid_arrived(self) -> None:
        """Show what is ready."""
        while self._ready:
            key, result = self._ready.popleft()
            self._strips[key] = None if isinstance(result, Exception) else result
            self._strips.move_to_end(key)
        while len(self._strips) > _KEPT:
            self._strips.popitem(last=False)
        self.refresh()

    def _key(self, index: int, tiles: Tiles) -> Thumbnail | None:
        row = self.row_of(self.shelf.names[index])
        if row is None:
            return None
        return Thumbnail(row.path, row.stamp, tiles.tile_width - 2, tiles.tile_height - 1)

    def ask_for_thumbnails(self) -> None:
        """Have loaded what is seen and is not there, then what is a page away."""
        if not self._pictures or not self.display or not self.size.area:
            return
        tiles, top, height = self.tiles, self.scroll_offset.y, self.size.height
        seen = tiles.seen(top, height)
        near = tiles.seen(top, height, around=height)
        order = [*seen, *range(seen.stop, near.stop), *range(near.start, seen.start)]
        keys = [key for index in order if (key := self._key(index, tiles)) is not None]
        self._loader.want([key for key in keys if key not in self._strips])
        for key in keys:
            if key in self._strips:
                self._strips.move_to_end(key)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other tiles are seen."""
        super().watch_scroll_y(old_value, new_value)
        self.ask_for_thumbnails()

    def update_rows(self) -> None:
        """Names, rows or the size have changed."""
        super().update_rows()
        self.ask_for_thumbnails()

    def on_unmount(self) -> None:
        """Begin nothing more."""
        self._loader.close()

    @property
    def complete(self) -> bool:
        """Whether every thumbnail that is seen has come."""
        tiles = self.tiles
        keys = [self._key(i, tiles) for i in tiles.seen(self.scroll_offset.y, self.size.height)]
        return all(key is None or key in self._strips for key in keys)

    # Painting

    def painted(self, y: int) -> Strip:
        """A line through a row of tiles."""
        tiles = self.tiles
        row_of_tiles, line = divmod(y, tiles.tile_height)
        first = row_of_tiles * tiles.columns
        parts = []
        for index in range(first, min(first + tiles.columns, len(self.shelf))):
            parts.append(self._tile_line(index, line, tiles))
        return Strip.join(parts) if parts else Strip.blank(self.size.width, self._base)

    def _tile_line(self, index: int, line: int, tiles: Tiles) -> Strip:
        name = self.shelf.names[index]
        at_cursor = index == self.shelf.cursor
        base = self._base
        width = tiles.tile_width - 2
        bar = Segment("┃" if at_cursor else " ", base + self.look("chosen"))
        row = self.row_of(name)
        if line == tiles.tile_height - 1:
            style = base + self.look("cursor") if at_cursor else base
            marks = row.marks.strip() if row is not None else ""
            tick = "✓" if self.shelf.is_chosen(name) else ""
            words = f"{tick}{marks} " if tick or marks else ""
            severity = style + self.look(row.severity) if row is not None and row.severity else style
            words = words[:width]
            return Strip(
                [
                    bar,
                    Segment(words, severity),
                    Segment(fit(_stem(name), width - len(words)), style),
                    Segment(" ", base),
                ]
            )
        strips = None
        key = self._key(index, tiles)
        if key is not None and self._pictures:
            strips = self._strips.get(key)
        if strips is None:
            middle = line == (tiles.tile_height - 1) // 2
            waits = key is not None and key not in self._strips
            words = ("…" if waits else "no picture") if middle and self._pictures else ""
            return Strip(
                [bar, Segment(words.center(width)[:width], base + self.look("muted")), Segment(" ", base)]
            )
        at = line - (tiles.tile_height - 1 - len(strips)) // 2
        if not 0 <= at < len(strips):
            return Strip([bar, Segment(" " * (width + 1), base)])
        picture = strips[at]
        if at == len(strips) - 1:  # its lower half may be open
            picture = picture.apply_style(base)
        left = (width - picture.cell_length) // 2
        return Strip.join(
            [
                Strip([bar, Segment(" " * left, base)]),
                picture,
                Strip([Segment(" " * (width - left - picture.cell_length + 1), base)]),
            ]
        )


def _stem(name: str) -> str:
    """The file's name without its folders, which all tiles would begin with."""
    return name.rsplit("/", 1)[-1]
