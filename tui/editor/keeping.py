"""The editor's file: opened, kept as a draft, saved, watched for changes by others, left."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from textual import work
from textual.widgets import TextArea

from tui.configs.text import warm_up
from tui.editor.part import EditorPart
from tui.external_editor import open_outside
from tui.messages import OperationFailed
from tui.text import plural
from tui.widgets.find_bar import FindBar

if TYPE_CHECKING:
    from backend.configs.external_change import Snapshot
    from tui.widgets.yaml_area import YamlArea


_DRAFT = 1.0  # seconds between looks at what was typed; with the writing, less than two are lost
_DISK = 2.0  # seconds between looks at the disk


class FileKeeping(EditorPart):
    """Part of the editor: the file on the disk and its draft."""

    _drafted = 0  # the text's version that the draft is of
    _typed: YamlArea | None = None  # still there when the screen has no widgets any more
    _asked_about = ""  # the mark of a change on disk that the user decided to leave

    # -- opening, drafts, the disk --------------------------------------------------------------------

    @work(exclusive=True, group="open", exit_on_error=False)
    async def _open(self) -> None:
        try:
            text, draft = await asyncio.to_thread(self.file.open)
        except (OSError, ValueError) as error:
            self.post_message(OperationFailed("The config cannot be opened", str(error)))
            self.dismiss(None)
            return
        with self.prevent(TextArea.Changed):
            self.area.load_text(text)
        self._loaded = True
        if draft is not None:
            self.area.replace_all_text(draft.text)
            when = time.strftime("%H:%M", time.localtime(draft.saved_at))
            self.notify(
                f"Unsaved typing of {when} is back. Ctrl+Z takes it away, ctrl+s saves it.",
                title="Draft restored", markup=False,
            )  # fmt: skip
        self._drafted = self.area.version
        self._typed = self.area
        self.set_interval(_DRAFT, self._keep_draft)
        self.set_interval(_DISK, self._look_at_disk)
        self._text_changed()
        await asyncio.to_thread(warm_up)

    def _keep_draft(self) -> None:
        if self._loaded and self._drafted != self.area.version:
            self._drafted = self.area.version
            self._write_draft(self.area.text)

    async def keep_last(self) -> None:
        """Keep what no draft has yet, when the app ends without the editor having been left."""
        if self._loaded and self._typed is not None and self._drafted != self._typed.version:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self.file.keep_draft, self._typed.text)

    @work(thread=True, group="draft", exit_on_error=False)
    def _write_draft(self, text: str) -> None:
        try:
            self.file.keep_draft(text)
        except OSError as error:
            self.post_message(OperationFailed("The draft cannot be kept", str(error)))

    @work(exclusive=True, group="disk", exit_on_error=False)
    async def _look_at_disk(self) -> None:
        if not self.is_current:
            return
        try:
            news = await asyncio.to_thread(self.file.news)
        except (OSError, ValueError):
            return  # saving says what is wrong
        if news is not None and news.mark != self._asked_about:
            await self._ask_about(news)

    async def _ask_about(self, news: Snapshot) -> None:
        """Somebody else changed the file: ask, and do what is answered."""
        from tui.screens.config_changed import ConfigChangedScreen
        from tui.screens.config_diff import compare

        self._asked_about = news.mark
        mine, base = self.area.text, self.file.saved
        theirs = None if news.text is None else news.text.removeprefix("\ufeff")
        comparison = None
        if theirs is not None:
            comparison = await asyncio.to_thread(compare, mine, theirs, "yours", "on disk")
        answer = await self.app.push_screen_wait(
            ConfigChangedScreen(self._path.name, comparison, dirty=self.dirty)
        )
        if answer is None:
            return
        self.file.accept(news)
        if answer == "theirs" and theirs is not None:
            self.area.replace_all_text(theirs)
        elif answer == "merge" and theirs is not None:
            from config.comparing import merge

            merged = await asyncio.to_thread(merge, base, mine, theirs)
            self.area.replace_all_text(merged.text)
            if merged.conflicts:
                self.notify(
                    f"{plural(merged.conflicts, 'place')} changed on both sides: choose between the marks.",
                    severity="warning", markup=False,
                )  # fmt: skip
        self._title()

    # -- saving and leaving ---------------------------------------------------------------------------

    @work(exclusive=True, group="save", exit_on_error=False)
    async def action_save(self) -> None:
        """Write the file."""
        await self._save()

    async def _save(self) -> bool:
        from backend.configs.external_change import ChangedOnDiskError

        text = self.area.text
        try:
            await asyncio.to_thread(self.file.save, text)
        except ChangedOnDiskError as error:
            await self._ask_about(error.now)
            return False
        except OSError as error:
            self.post_message(OperationFailed("The config is not saved", str(error)))
            return False
        self._title()
        return True

    @work(exclusive=True, group="leave", exit_on_error=False)
    async def action_leave(self) -> None:
        """Back to the library; asks when something is not saved."""
        from tui.screens.choose import Choice, ChooseScreen

        if self.query_one(FindBar).has_class("-open"):
            self.query_one(FindBar).action_close()
            return
        if self.in_form and self.form.filtered:
            self.form.show_all()
            return
        if self.dirty:
            choices = [
                Choice("Save", "write the file"),
                Choice("Keep as a draft", "the file stays as it is; the typing is back when you open it"),
                Choice("Discard", "forget what was typed since the last save"),
            ]
            picked = await self.app.push_screen_wait(ChooseScreen(f"{self._path.name} is not saved", choices))
            if picked is None:
                return
            if picked == 0 and not await self._save():
                return
            if picked == 1:
                await asyncio.to_thread(self.file.keep_draft, self.area.text)
            if picked == 2:
                await asyncio.to_thread(self.file.discard_draft)
        self._loaded = False  # no draft any more
        self.dismiss(None)

    @work(exclusive=True, group="external", exit_on_error=False)
    async def action_external(self) -> None:
        """Save it, open it in the user's own editor, and take up what comes back."""
        if self.dirty and not await self._save():
            return
        if not open_outside(self, self._path):
            return
        news = await asyncio.to_thread(self.file.news)
        if news is not None and news.text is not None:
            self.file.accept(news)
            self.area.replace_all_text(news.text.removeprefix("\ufeff"))
            await asyncio.to_thread(self.file.discard_draft)
        self._title()
