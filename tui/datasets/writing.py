"""Captions under the keys of a writer: drafts that are on disk soon after each key, saved when asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import work

from backend.datasets.captions import trained
from backend.datasets.errors import DatasetError
from tui.messages import OperationFailed
from tui.widgets.caption_editor import LONG, CaptionBox, CaptionEditor, token_words

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui.screens.dataset_browser import DatasetBrowserScreen

_DRAFT_AFTER = 0.4  # seconds without typing after which a draft is written


class DatasetWriting:
    """Part of :class:`~tui.screens.dataset_browser.DatasetBrowserScreen`: the caption editor's messages."""

    def start_writing(self) -> None:
        """Nothing is typed yet; ``dirty`` are the captions, by picture, whose draft on disk is old."""
        self.dirty: dict[str, Path] = {}
        self.one_change = asyncio.Lock()  # to files at a time: each begins with what the last one left
        self._draft_timer: Timer | None = None

    @property
    def _browser(self) -> DatasetBrowserScreen:
        return cast("DatasetBrowserScreen", self)

    def on_caption_editor_typed(self, message: CaptionEditor.Typed) -> None:
        """Keep it as a draft."""
        editor = self._browser.query_one(CaptionEditor)
        if message.picture == editor.picture:
            editor.heard = message.text
        if not self._take(message.picture, message.text):
            return
        self._browser.pictures.refresh()
        self._browser.show_titles()
        if message.picture == self._browser.shelf.current:
            self._browser.show_caption_state()

    def hear(self) -> None:
        """Take up what was typed and not told yet, before another text could take its place."""
        editor = self._browser.query_one(CaptionEditor)
        if editor.picture is not None and not editor.read_only and editor.text != editor.heard:
            editor.heard = editor.text
            self._take(editor.picture, editor.text)

    def _take(self, name: str, text: str) -> bool:
        """Keep a text as the draft of a picture; whether that is new."""
        item = self._browser.session.items.get(name)
        if item is None or not self._browser.session.desk.edit(name, item.caption, text):
            return False
        self.dirty[name] = item.caption_path
        if self._draft_timer is not None:
            self._draft_timer.stop()
        self._draft_timer = self._browser.set_timer(_DRAFT_AFTER, self._keep_drafts)
        return True

    def show_caption_state(self) -> None:
        """Show tokens, draft and what is trained of the caption."""
        browser = self._browser
        item, session, box = browser.item, browser.session, browser.query_one(CaptionBox)
        if item is None:
            box.show_state(draft=False, conflict=False)
            box.show_trained("", "")
            return
        name, trigger = item.name, session.training.trigger
        caption = session.caption(name)
        text = trained(caption[:LONG], trigger or None)
        tokens = ""
        if session.tokens is not None:
            tokens = token_words(session.tokens.count(text), part=len(caption) > LONG)
        conflict = session.desk.in_conflict(name, item.caption)
        box.show_state(
            draft=name in session.desk, conflict=conflict, problem=item.caption_problem or "", tokens=tokens
        )
        if conflict:
            box.show_theirs(item.caption or "")
        else:
            box.show_trained(text, trigger)

    def take_dirty(self) -> dict[str, Path]:
        """The caption files of pictures whose draft on disk is old; they count as written."""
        paths, self.dirty = self.dirty, {}
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
            self.dirty = paths | self.dirty  # tried again with the next key, and when the screen goes
            self._browser.failed(f"The draft is not on disk: {error}")

    def on_caption_editor_save_wanted(self) -> None:
        """Write the caption."""
        item = self._browser.item
        if item is not None and not item.caption_problem:
            self._save(item.name)

    @work(group="save", exit_on_error=False)
    async def _save(self, name: str) -> None:
        browser, session = self._browser, self._browser.session
        async with self.one_change:
            item = session.items.get(name)
            if item is None or name not in session.desk:
                return  # nothing to write, or written by the key before this one
            text = session.caption(name)
            self.dirty.pop(name, None)
            try:
                undo = await asyncio.to_thread(session.save_caption, item, text)
                read = await asyncio.to_thread(session.look_at, [item.caption_path], [item])
            except (DatasetError, OSError) as error:
                self.dirty[name] = item.caption_path
                self._keep_drafts()
                browser.post_message(OperationFailed("The caption was not saved", str(error)))
                browser.refresh_files(item.caption_path)
                return
            session.undos.append(undo)
            session.put_changes(read or {})
            session.desk.rebase(name, text)
        if browser.feed is not None:
            await browser.feed.look([item.caption_path])
        draft = session.desk.get(name)
        if draft is not None and draft.text == text:
            session.desk.drop(name)
            self.dirty[name] = item.caption_path  # a draft may have been written while it was saved
            self._keep_drafts()
        browser.show_all()

    def on_caption_editor_revert_wanted(self) -> None:
        """The saved text again."""
        item = self._browser.item
        if item is not None and self._browser.session.desk.drop(item.name):
            self.dirty[item.name] = item.caption_path
            self._keep_drafts()
            self._browser.show_all()

    def on_caption_editor_other_wanted(self, message: CaptionEditor.OtherWanted) -> None:
        """Another picture; the draft is kept."""
        if self._browser.shelf.go(self._browser.shelf.cursor + message.way):
            self._browser.pictures.update_rows()
            self._browser.show_picture()

    def on_caption_editor_left(self) -> None:
        """Back to the pictures; the filter holds for this one again."""
        self._browser.set_focus(self._browser.pictures)
        self._browser.show_all()
