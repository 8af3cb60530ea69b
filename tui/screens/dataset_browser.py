"""One dataset: its pictures as a list or a grid, and the one under the cursor with its caption."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input

from backend.datasets.errors import DatasetError
from backend.datasets.filter import ORDERS
from backend.datasets.thumbnails import Thumbnails
from tui.datasets.captioning import DatasetCaptioning
from tui.datasets.edits import DatasetEdits
from tui.datasets.feed import DatasetFeed, What
from tui.datasets.finding import DatasetFinding
from tui.datasets.pictures import Undo
from tui.datasets.session import DatasetSession, View
from tui.datasets.training import last_training, load_training
from tui.datasets.writing import DatasetWriting
from tui.messages import OperationFailed, RunsChanged
from tui.pictures.shelf import Shelf
from tui.screens.base import MainScreen
from tui.terminal import current_protocol
from tui.text import clip, plural
from tui.widgets.caption_editor import CaptionBox, CaptionEditor
from tui.widgets.dataset_problems import DatasetProblems
from tui.widgets.picture_grid import PictureGrid, Thumbnail
from tui.widgets.picture_list import PictureList
from tui.widgets.picture_preview import PicturePreview, cut_of
from tui.widgets.picture_view import PictureView
from tui.widgets.shown import put_titles
from tui.widgets.tag_pane import TagPane

if TYPE_CHECKING:
    from PIL import Image
    from textual.timer import Timer
    from textual.widget import Widget

    from backend.datasets.scan import Item
    from tui.pictures.row import PictureRow

_FOLLOW_AFTER = 0.08  # seconds at rest after which the cursor's picture is shown large


class DatasetBrowserScreen(DatasetCaptioning, DatasetEdits, DatasetFinding, DatasetWriting, MainScreen):
    """The browser of one dataset.

    Args:
        folder: The dataset.
    """

    MODE = "datasets"
    AUTO_FOCUS = "PictureList"
    DEFAULT_CSS = """
    DatasetBrowserScreen {
        #left { width: 3fr; }
        #right { width: 2fr; min-width: 30; }
        #pictures {
            height: 1fr;
            border: round $foreground 30%;
            border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        #pictures:focus-within { border: round $primary; border-title-style: bold; }
        #pictures:nocolor:focus-within { border: heavy $primary; }
        #filter { display: none; }
        #filter.-shown { display: block; }
        PictureGrid, TagPane, DatasetProblems { display: none; }
        &.-grid PictureGrid { display: block; }
        &.-grid PictureList { display: none; }
        &.-tags TagPane, &.-problems DatasetProblems { display: block; }
        &.-tags PicturePreview, &.-problems PicturePreview { display: none; }
        &.-short CaptionBox { height: 7; }
        &.-narrow #right { width: 2fr; min-width: 20; }
    }
    """
    HELP: ClassVar[str] = (
        "What you do works on the chosen pictures; on the one under the cursor if none is chosen "
        "(bulk edits: on all that are shown). Filters are words: `missing caption`, `tiny`, `problem`, "
        "`excluded`, `tag:fox`, `width<512`, `-square`, or any text of a name or caption. "
        "Pictures that you drop on the terminal are copied into the dataset."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view", "View", id="dataset.view", tooltip="A list, or a grid of thumbnails."),
        Binding("slash", "filter", "Filter", id="dataset.filter", tooltip="Show only some pictures."),
        Binding("s", "sort", "Sort", show=False, id="dataset.sort", tooltip="Another order."),
        Binding("S", "reverse", "Reverse", show=False, id="dataset.reverse", tooltip="Turn the order round."),
        Binding("b", "bulk", "Bulk", id="dataset.bulk", tooltip="Change many captions, after a preview."),
        Binding("w", "tags", "Tags", id="dataset.tags", tooltip="How often each tag occurs."),
        Binding("p", "problems", "Problems", id="dataset.problems", tooltip="What is wrong, worst first."),
        Binding("u", "undo", "Undo", id="dataset.undo", tooltip="Take the last change back."),
        Binding("c", "crop", "Crop", show=False, id="dataset.crop", tooltip="Choose the part to train on."),
        Binding("x", "exclude", "Exclude", show=False, id="dataset.exclude",
                tooltip="Keep out of training, or not."),
        Binding("D", "delete", "Delete", show=False, id="dataset.delete",
                tooltip="Move to the trash; asks first."),
        Binding("P", "prepare", "Prepare", show=False, id="dataset.prepare",
                tooltip="Convert, turn upright, crop."),
        Binding("r", "resolution", "Resolution", show=False, id="dataset.resolution",
                tooltip="Show what the next resolution sees."),
        Binding("T", "training", "Training", show=False, id="dataset.training",
                tooltip="Resolutions and trigger word that it is checked for."),
        Binding("d", "compare", "Duplicates", show=False, id="dataset.duplicates",
                tooltip="Look for pictures that look alike; once more stops it."),
        Binding("A", "auto_caption", "Auto-caption", show=False, id="dataset.auto-caption",
                tooltip="Have a model write captions, as drafts; while it does, stop it."),
        Binding("f5", "rescan", "Rescan", show=False, id="dataset.rescan", tooltip="Read the folder again."),
        Binding("escape", "back", "Back", show=False, id="dataset.back",
                tooltip="End the filter; else leave."),
    ]  # fmt: skip

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.start_writing()
        self.folder = folder
        self.shelf = Shelf()
        self.session: DatasetSession = DatasetSession(folder)
        self.feed: DatasetFeed | None = None
        self._thumbnails: Thumbnails | None = None
        self._resolution = 99  # position among a picture's buckets; the largest at first
        self._follow_timer: Timer | None = None

    # Layout

    def compose_body(self) -> Iterable[Widget]:
        """Pictures to the left; the one under the cursor, tags or problems to the right."""
        settings = self.flux.settings
        protocol = current_protocol(settings.images)
        forced = settings.images in ("kitty", "sixel")
        with Horizontal():
            with Vertical(id="left"):
                yield Input(placeholder="missing caption · tiny · tag:fox · any text", id="filter")
                with Vertical(id="pictures"):
                    yield PictureList(self.shelf, self._row, id="picture-list")
                    yield PictureGrid(
                        self.shelf, self._row, self._decode, pictures=protocol != "off", id="picture-grid"
                    )
            with Vertical(id="right"):
                yield PicturePreview(protocol, forced=forced)
                yield TagPane()
                yield DatasetProblems()
                yield CaptionBox()

    def on_mount(self) -> None:
        """Read the dataset, and keep an eye on it."""
        super().on_mount()
        root = self.flux.root
        self.session = DatasetSession(self.folder, root, load_training(root, self.folder))
        self.feed = DatasetFeed(self.session, self._changed, self.failed, typing=lambda: self.flux.typing)
        self._thumbnails = Thumbnails(self.session.places.thumbnails)
        self.query_one(PictureList).placeholder = "Reading the pictures…"
        self.show_all()
        self._follow()
        self.look_for_captioning()

    @work(exclusive=True, group="follow", exit_on_error=False)
    async def _follow(self) -> None:
        assert self.feed is not None
        self._recall_training()
        await self.feed.follow()

    @work(exclusive=True, group="training", exit_on_error=False)
    async def _recall_training(self) -> None:
        """Check it for what it was trained for last, unless something else was chosen."""
        session, before = self.session, self.session.training
        found = await asyncio.to_thread(last_training, self.flux.root, self.folder, Path.cwd())
        if found != before and session.training is before and self.feed is not None:
            if session.train_as(found):
                await self.feed.read_anew()
            elif not self.feed.scanning:  # else the scan's end looks for problems
                self.feed.lint_soon()
            self.show_all()

    def on_unmount(self) -> None:
        """Nothing typed is lost."""
        if self.feed is not None:
            self.feed.close()
        try:
            self.write_drafts(self.take_dirty())
        except (DatasetError, OSError) as error:
            self.app.notify(str(error), title="A draft was not kept", severity="error", markup=False)

    def on_resize(self) -> None:
        """A low window has a low editor, a narrow one leaves the list most of its room."""
        self.set_class(self.size.height < 30, "-short")
        self.set_class(self.size.width < 76, "-narrow")

    def show_runs(self, change: RunsChanged) -> None:
        """Runs are not shown here."""

    @property
    def pictures(self) -> PictureView:
        """The list or the grid, whichever is shown."""
        return self.query_one(PictureGrid if self.has_class("-grid") else PictureList)

    def _row(self, name: str) -> PictureRow | None:
        return self.session.row(name)

    def _decode(self, key: Thumbnail) -> Image.Image:
        assert self._thumbnails is not None
        return self._thumbnails.get(key.path, key.width, key.height * 2)

    # What is new

    def failed(self, reason: str) -> None:
        """Say that something with the dataset did not work."""
        self.post_message(OperationFailed(f"The dataset {self.folder.name}", reason))

    def _changed(self, what: What) -> None:
        if not self.is_attached:
            return
        if what == "gone":
            self.failed(
                f"The folder {self.folder} is gone. What you typed is kept as drafts; "
                "it goes on when the folder is back."
            )
        if what == "compared":
            self.show_titles()
            return
        if what == "problems":
            self.query_one(DatasetProblems).show_problems(self.session.problems)
        self.show_all()

    @property
    def item(self) -> Item | None:
        """The picture under the cursor."""
        return self.session.items.get(self.shelf.current or "")

    def show_all(self) -> None:
        """Bring everything up to what is known now."""
        session = self.session
        self.hear()
        editor = self.query_one(CaptionEditor)
        self.shelf.show(session.names(editor.picture if self.focused is editor else None))
        if self.feed is not None and not self.feed.scanning:
            self.shelf.forget_others(session.items)
        view = self.query_one(PictureList)
        if self.feed is not None and self.feed.gone:
            words = "The folder is gone."
        elif self.feed is None or self.feed.scanning:
            words = "Reading the pictures…"
        else:
            words = "No picture matches the filter." if session.items else "There are no pictures here."
        view.placeholder = self.query_one(PictureGrid).placeholder = words
        self.pictures.update_rows()
        if self.has_class("-tags"):
            self.query_one(TagPane).show_tags(session.tag_counts(), len(session.items))
        self.show_titles()
        self.show_picture()
        self.refresh_bindings()

    def show_titles(self) -> None:
        """Bring the frame's titles up to date."""
        session, shelf = self.session, self.shelf
        box = self.query_one("#pictures")
        total = len(session.items)
        count = (
            plural(total, "picture") if len(shelf) == total else f"{len(shelf)} of {plural(total, 'picture')}"
        )
        state = " · gone" if self.feed and self.feed.gone else ""
        if self.feed is not None and self.feed.scanning:
            state = " · reading"
        elif self.feed is not None and self.feed.compared is not None:
            done, of = self.feed.compared
            state = f" · comparing {done * 100 // max(1, of)} %"
        title = Content(f"{clip(self.folder.name, 30)} · {count}{state}")
        words = [self.captioning] if self.captioning else []
        chosen = len(shelf.chosen) + shelf.hidden
        if chosen:
            hidden = f" ({shelf.hidden} not shown)" if shelf.hidden else ""
            words.append(f"{chosen} chosen{hidden}")
        if session.view.filter.text:
            words.append(f"filter {clip(session.view.filter.text, 24)}")
        if session.view.order != "name" or session.view.reverse:
            words.append(f"by {session.view.order}{', reversed' if session.view.reverse else ''}")
        if session.desk.names:
            words.append(f"{len(session.desk.names)} not saved")
        errors = len(session.problems)
        if errors and not self.has_class("-problems"):
            words.append(f"! {plural(errors, 'problem')}")
        put_titles(box, title, Content(" · ".join(words)))

    def show_picture(self) -> None:
        """Bring the right side to the picture under the cursor."""
        if self._follow_timer is not None:
            self._follow_timer.stop()
            self._follow_timer = None
        item, session = self.item, self.session
        problems = session.problems_of(item.name) if item is not None else []
        cut = cut_of(item, session.training, self._resolution) if item is not None else None
        self.query_one(PicturePreview).show_item(item, cut, problems)
        name = item.name if item is not None else None
        writable = item is not None and not item.caption_problem
        self.hear()
        editor = self.query_one(CaptionEditor)
        if self.focused is editor and editor.picture not in (None, name, *session.items):
            self.set_focus(self.pictures)  # it is gone: what is typed on is not meant for its neighbour
        editor.open_caption(name, session.caption(name) if name else "", writable=writable)
        self.show_caption_state()

    # The pictures

    def on_picture_view_moved(self) -> None:
        """The cursor stands on another picture; what is beside it follows once the keys rest."""
        if self._follow_timer is not None:
            self._follow_timer.stop()
        self._follow_timer = self.set_timer(_FOLLOW_AFTER, self._follow_cursor)

    def _follow_cursor(self) -> None:
        self.show_picture()
        self.refresh_bindings()

    def _catch_up(self) -> None:
        """Have the right side show the picture under the cursor now."""
        if self._follow_timer is not None:
            self._follow_cursor()

    def on_descendant_focus(self) -> None:
        """Whoever gets the keys gets them for the picture under the cursor."""
        self._catch_up()

    def on_picture_view_chosen(self) -> None:
        """Other pictures are chosen."""
        self.show_titles()
        self.refresh_bindings()

    def on_picture_view_opened(self) -> None:
        """Edit its caption."""
        self._catch_up()
        self.query_one(CaptionEditor).focus()

    def action_view(self) -> None:
        """The other view."""
        had_focus = self.focused is self.pictures
        self.toggle_class("-grid")
        self.pictures.update_rows()
        self.call_after_refresh(self.pictures.update_rows)
        if had_focus:
            self.pictures.focus()

    def set_view(self, **changes: object) -> None:
        """Another filter or order."""
        view = self.session.view
        values = {"filter": view.filter, "order": view.order, "reverse": view.reverse} | changes
        self.session.view = View(**values)  # type: ignore[arg-type]
        self.show_all()

    def action_sort(self) -> None:
        """The next order."""
        orders = list(ORDERS)
        self.set_view(order=orders[(orders.index(self.session.view.order) + 1) % len(orders)])

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.set_view(reverse=not self.session.view.reverse)

    def action_resolution(self) -> None:
        """The next of the picture's buckets."""
        from backend.datasets.bucketing import frames

        item = self.item
        if item is not None and item.header is not None:
            header, training = item.header, self.session.training
            count = len(frames(header.width, header.height, training.resolutions, training.kind, item.crop))
            if count:
                self._resolution = (min(self._resolution, count - 1) + 1) % count
                self.show_picture()

    def action_rescan(self) -> None:
        """Read the folder again."""
        self.refresh_files()

    @work(exclusive=True, group="rescan", exit_on_error=False)
    async def refresh_files(self, *paths: Path) -> None:
        """Take up what changed in ``paths``; in the whole folder if none is named."""
        if self.feed is not None and not self.feed.gone:
            await (self.feed.look(paths) if paths else self.feed.scan())

    def action_back(self) -> None:
        """End the filter, close the pane at the side, else go back to the library."""
        if self.query_one("#filter").has_class("-shown"):
            focus = self.focused is self.query_one("#filter")
            self.filter_by("")
            if focus or self.focused is None:
                self.pictures.focus()
        elif self.has_class("-tags") or self.has_class("-problems"):
            self.show_side("")
        else:
            self.dismiss()

    # What edits need

    def done(self, undo: Undo | None, words: str) -> None:
        """Something was changed."""
        if undo is not None:
            self.session.undos.append(undo)
        self.notify(words, title=clip(self.folder.name, 30), markup=False)
        self.refresh_files()

    @work(group="edits", exit_on_error=False)
    async def run_edit(self, title: str, change: Callable[[], tuple[Undo | None, str]]) -> None:
        """Do something in a thread; it can be taken back.

        Args:
            title: Said with the reason if it fails.
            change: Does it; returns how to take it back and a sentence.
        """
        async with self.one_change:
            try:
                undo, words = await asyncio.to_thread(change)
            except (DatasetError, OSError) as error:
                self.post_message(OperationFailed(title, str(error)))
                self.refresh_files()
                return
            self.done(undo, words)
