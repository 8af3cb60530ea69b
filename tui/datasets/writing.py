"""Captions under the keys of a writer: drafts that are on disk soon after each key, saved when asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import work

from backend.datasets.errors import DatasetError
from tui.messages import OperationFailed

if TYPE_CHECKING:
    from textual.timer import Timer

    from backend.datasets.scan import Item
    from tui.screens.dataset_browser import DatasetBrowserScreen
    from tui.widgets.caption_editor import CaptionEditor

_DRAFT_AFTER = 0.4  # seconds without typing after which a draft is written


class DatasetWriting:
    """Part of :class:`~tui.screens.dataset_browser.DatasetBrowserScreen`: the caption editor's messages."""

    def start_writing(self) -> None:
        """Nothing is typed yet; ``dirty`` are the pictures whose draft on disk is old."""
        self.dirty: set[str] = set()
        self._draft_timer: Timer | None = None

    @property
    def _browser(self) -> DatasetBrowserScreen:
        return cast("DatasetBrowserScreen", self)

    def on_caption_editor_typed(self, message: CaptionEditor.Typed) -> None:
        """Keep it as a draft."""
        item = self._browser.session.items.get(message.picture)
        if item is None or not self._browser.session.desk.edit(item.name, item.caption, message.text):
            return
        self.dirty.add(item.name)
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self._browser.set_timer(_DRAFT_AFTER, self._keep_drafts)
        self._browser.pictures.refresh()
        self._browser.show_titles()
        if message.picture == self._browser.shelf.current:
            self._browser.show_caption_state()

    def take_dirty(self) -> dict[str, Path]:
        """The caption files of pictures whose draft on disk is old; they count as written."""
        items = self._browser.session.items
        paths = {name: items[name].caption_path for name in self.dirty if name in items}
        self.dirty.clear()
        return paths

    def write_drafts(self, paths: dict[str, Path]) -> None:
        """Bring drafts on disk up to date; writes files.

        Raises:
            DatasetError, OSError: One cannot be written.
        """
        for name, path in paths.items():
            self._browser.session.keep_draft(path, self._browser.session.desk.get(name))

    @work(group="drafts", exit_on_error=False)
    async def _keep_drafts(self) -> None:
        paths = self.take_dirty()
        try:
            await asyncio.to_thread(self.write_drafts, paths)
        except (DatasetError, OSError) as error:
            self.dirty |= paths.keys()  # tried again at the next key, and when the browser is left
            self._browser.failed(f"The draft is not on disk: {error}")

    def on_caption_editor_save_wanted(self) -> None:
        """Write the caption."""
        item = self._browser.item
        if item is not None and not item.caption_problem:
            self._save(item, self._browser.session.caption(item.name))

    @work(group="save", exit_on_error=False)
    async def _save(self, item: Item, text: str) -> None:
        session = self._browser.session
        self.dirty.discard(item.name)
        try:
            undo = await asyncio.to_thread(session.save_caption, item, text)
        except (DatasetError, OSError) as error:
            self.dirty.add(item.name)
            self._keep_drafts()
            self._browser.post_message(OperationFailed("The caption was not saved", str(error)))
            self._browser.refresh_files(item.caption_path)
            return
        session.undos.append(undo)
        if self._browser.feed is not None:
            await self._browser.feed.look([item.caption_path])
        draft = session.desk.get(item.name)
        if draft is not None and draft.text == text:
            session.desk.drop(item.name)
        self._browser.show_all()

    def on_caption_editor_revert_wanted(self) -> None:
        """The saved text again."""
        item = self._browser.item
        if item is not None and self._browser.session.desk.drop(item.name):
            self.dirty.add(item.name)
            self._keep_drafts()
            self._browser.show_all()

    def on_caption_editor_other_wanted(self, message: CaptionEditor.OtherWanted) -> None:
        """Another picture; the draft is kept."""
        if self._browser.shelf.go(self._browser.shelf.cursor + message.way):
            self._browser.pictures.update_rows()
            self._browser.show_picture()

    def on_caption_editor_left(self) -> None:
        """Back to the pictures."""
        self._browser.pictures.focus()
