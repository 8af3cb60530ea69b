"""The pictures of a dataset as a grid of thumbnails, in one view however many there are."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Region
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
_TOGETHER = 0.04  # seconds in which thumbnails gather before they are painted


class Thumbnail(NamedTuple):
    """Which thumbnail: of which file in which state, for how many cells."""

    path: Path
    stamp: object
    width: int
    height: int


class _Look(NamedTuple):
    """Everything that a tile's lines depend on but the theme."""

    name: str
    marks: str
    severity: str
    chosen: bool
    at_cursor: bool
    width: int
    height: int
    state: str
    thumbnail: Thumbnail | None


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
        self._rows: dict[int, list[Strip]] = {}  # rows of tiles, while they are painted
        self._arriving = False

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

    def region_of(self, index: int) -> Region:
        """The tile."""
        tiles = self.tiles
        return Region(*tiles.place(index), tiles.tile_width, tiles.tile_height)

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
        """Show what is ready, soon: several together cost one painting."""
        if not self._arriving:
            self._arriving = True
            self.set_timer(_TOGETHER, self._show_ready)

    def _show_ready(self) -> None:
        self._arriving = False
        arrived = set()
        while self._ready:
            key, result = self._ready.popleft()
            self._strips[key] = None if isinstance(result, Exception) else result
            self._strips.move_to_end(key)
            arrived.add(key)
        while len(self._strips) > _KEPT:
            self._strips.popitem(last=False)
        tiles = self.tiles
        seen = self._keys(tiles.seen(self.scroll_offset.y, self.size.height), tiles)
        self.refresh_pictures(*(index for key, index in seen.items() if key in arrived))

    def _key(self, row: PictureRow, tiles: Tiles) -> Thumbnail:
        return Thumbnail(row.path, row.stamp, tiles.tile_width - 2, tiles.tile_height - 1)

    def _keys(self, indexes: Iterable[int], tiles: Tiles) -> dict[Thumbnail, int]:
        rows = ((index, self.row_of(self.shelf.names[index])) for index in indexes)
        return {self._key(row, tiles): index for index, row in rows if row is not None}

    def ask_for_thumbnails(self) -> None:
        """Have loaded what is seen and is not there, then what is a page away."""
        if not self._pictures or not self.display or not self.size.area:
            return
        tiles, top, height = self.tiles, self.scroll_offset.y, self.size.height
        seen = tiles.seen(top, height)
        near = tiles.seen(top, height, around=height)
        order = [*seen, *range(seen.stop, near.stop), *range(near.start, seen.start)]
        keys = self._keys(order, tiles)
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
        keys = self._keys(tiles.seen(self.scroll_offset.y, self.size.height), tiles)
        return all(key in self._strips for key in keys)

    # Painting

    def render_lines(self, crop: Region) -> list[Strip]:
        """The visible lines; each row of tiles is looked up once."""
        self._rows.clear()
        return super().render_lines(crop)

    def painted(self, y: int) -> Strip:
        """A line through a row of tiles."""
        tiles = self.tiles
        row_of_tiles, line = divmod(y, tiles.tile_height)
        strips = self._rows.get(row_of_tiles)
        if strips is None:
            strips = self._rows[row_of_tiles] = self._row_lines(row_of_tiles, tiles)
        return strips[line] if strips else Strip.blank(self.size.width, self._base)

    def _row_lines(self, row_of_tiles: int, tiles: Tiles) -> list[Strip]:
        first = row_of_tiles * tiles.columns
        looks = [self._look_of(i, tiles) for i in range(first, min(first + tiles.columns, len(self.shelf)))]
        if not looks:
            return []

        def joined() -> list[Strip]:
            parts = [self.kept(look, partial(self._tile, look)) for look in looks]
            lines = [Strip.join(strips) for strips in zip(*parts, strict=True)]
            return [line.adjust_cell_length(self.size.width, self._base) for line in lines]

        return self.kept((self.size.width, *looks), joined)

    def _look_of(self, index: int, tiles: Tiles) -> _Look:
        name = self.shelf.names[index]
        row = self.row_of(name)
        key = self._key(row, tiles) if row is not None and self._pictures else None
        state = "none" if key is None else "waits" if key not in self._strips else "there"
        if state == "there" and self._strips[key] is None:  # type: ignore[index]
            state = "none"
        return _Look(
            _stem(name),
            row.marks.strip() if row is not None else "",
            row.severity if row is not None else "",
            self.shelf.is_chosen(name),
            index == self.shelf.cursor,
            tiles.tile_width,
            tiles.tile_height,
            state,
            key,
        )

    def _tile(self, look: _Look) -> list[Strip]:
        """All lines of a tile."""
        base, width = self._base, look.width - 2
        above = look.height - 1
        bar = Segment("┃" if look.at_cursor else " ", base + self.look("chosen"))
        gap = Segment(" ", base)
        empty = Strip([bar, Segment(" " * (width + 1), base)], look.width)
        pictures = self._strips.get(look.thumbnail) if look.thumbnail is not None else None
        lines = [empty] * above
        if pictures:
            top = (above - len(pictures)) // 2
            for at, picture in enumerate(pictures):
                if at == len(pictures) - 1:  # its lower half may be open
                    picture = picture.apply_style(base)
                left = (width - picture.cell_length) // 2
                right = width - left - picture.cell_length + 1
                before = [bar, Segment(" " * left, base)] if left else [bar]
                lines[top + at] = Strip([*before, *picture, Segment(" " * right, base)], look.width)
        elif self._pictures:
            words = "…" if look.state == "waits" else "no picture"
            muted = base + self.look("muted")
            lines[above // 2] = Strip([bar, Segment(words.center(width)[:width], muted), gap], look.width)
        style = base + self.look("cursor") if look.at_cursor else base
        tick = "✓" if look.chosen else ""
        words = (f"{tick}{look.marks} " if tick or look.marks else "")[:width]
        severity = style + self.look(look.severity) if look.severity else style
        name = Segment(fit(look.name, width - len(words)), style)
        return [*lines, Strip([bar, Segment(words, severity), name, gap] if words else [bar, name, gap])]


def _stem(name: str) -> str:
    """The file's name without its folders, which all tiles would begin with."""
    return name.rsplit("/", 1)[-1]
