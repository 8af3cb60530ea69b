"""What the browser's keys change: captions in bulk, marks, files. Each can be taken back with one key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from textual import events, work

from backend.datasets.edits import Edit, Plan, RemoveTag, RenameTag
from backend.datasets.errors import DatasetError
from backend.datasets.importing import parse_paths
from tui.datasets import pictures
from tui.datasets.training import store_training
from tui.messages import OperationFailed
from tui.screens.confirm import ConfirmScreen, Question
from tui.text import clip, one_line, plural

if TYPE_CHECKING:
    from pathlib import Path

    from backend.datasets.problems import Problem
    from backend.datasets.scan import Item
    from tui.datasets.pictures import Undo
    from tui.datasets.session import DatasetSession, Training
    from tui.pictures.shelf import Shelf
    from tui.screens.dataset_browser import DatasetBrowserScreen
    from tui.screens.dataset_crop import Cropped
    from tui.screens.dataset_prepare import Preparation

Change = Callable[[], "tuple[Undo | None, str]"]


class DatasetEdits:
    """Part of :class:`~tui.screens.dataset_browser.DatasetBrowserScreen`: the actions that change files."""

    session: DatasetSession
    shelf: Shelf

    @property
    def _browser(self) -> DatasetBrowserScreen:
        return cast("DatasetBrowserScreen", self)

    def targets(self) -> list[Item]:
        """The chosen pictures; the one under the cursor if none is."""
        names = self.shelf.chosen or ((self.shelf.current,) if self.shelf.current else ())
        return [self.session.items[name] for name in names if name in self.session.items]

    def _change(self, title: str, change: Change) -> None:
        """Change files of the dataset, if it is still there."""

        def careful() -> tuple[Undo | None, str]:
            if not self.session.folder.is_dir():
                raise DatasetError(f"The folder {self.session.folder} is gone; nothing was changed.")
            return change()

        self._browser.run_edit(title, careful)

    def _change_if(self, question: Question, title: str, change: Change) -> None:
        """Change files of the dataset, after a question."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._change(title, change)

        self._browser.app.push_screen(ConfirmScreen(question), answered)

    # Captions in bulk

    def action_bulk(self) -> None:
        """Choose an edit, look at what it changes, apply it."""
        self._bulk()

    def edit_tag(self, tag: str, *, rename: bool) -> None:
        """Rename or remove a tag in all captions, after a preview."""
        self._bulk(RenameTag(tag, "") if rename else RemoveTag(tag), list(self.session.items))

    def _bulk(self, edit: Edit | None = None, names: Sequence[str] | None = None) -> None:
        from tui.screens.dataset_bulk import BulkScreen

        session = self.session
        wanted = list(names if names is not None else self.shelf.chosen or self.shelf.names)
        saved = [name for name in wanted if name not in session.desk]
        texts = session.texts(saved)

        def answered(planned: Plan | None) -> None:
            if planned is not None:
                self._change("The captions", partial(self._apply, planned))

        screen = BulkScreen(
            texts, session.folder, session.training.trigger, edit=edit, left_out=len(wanted) - len(saved)
        )
        self._browser.app.push_screen(screen, answered)

    def _apply(self, planned: Plan) -> tuple[Undo | None, str]:
        applied, undo = self.session.apply(planned)
        words = f"{plural(len(applied.changed), 'caption')} changed"
        words += "; u takes it back." if undo is not None else "."
        if applied.conflicts:
            words += f" {plural(len(applied.conflicts), 'caption')} changed meanwhile and stayed as they are."
        return undo, words

    def action_undo(self) -> None:
        """Take back what was done last."""
        self._browser.run_edit("Undo", self._take_back)

    def _take_back(self) -> tuple[Undo | None, str]:
        undo = self.session.last_undo()
        if undo is None:
            return None, "There is nothing to take back."
        words = undo.back()  # if it fails it stays, and can be tried again
        if undo in self.session.undos:
            self.session.undos.remove(undo)
        return None, words

    # Marks and files

    def action_exclude(self) -> None:
        """Keep pictures out of training, or take them in again."""
        if items := self.targets():
            self._change("The pictures", partial(self._exclude, items))

    def _exclude(self, items: list[Item]) -> tuple[Undo | None, str]:
        undo = pictures.exclude(items)
        return undo, f"{undo.what}; u takes it back."

    def on_paste(self, event: events.Paste) -> None:
        """Pictures dropped on the terminal are copied into the dataset, after a question."""
        event.stop()
        self._ask_import(event.text)

    @work(group="import", exit_on_error=False)
    async def _ask_import(self, text: str) -> None:
        paths = await asyncio.to_thread(parse_paths, text)
        there = [path for path in paths if await asyncio.to_thread(path.exists)]
        if not there:
            words = f"{one_line(str(paths[0]))}: no such folder or file." if paths else "No path was pasted."
            self._browser.post_message(OperationFailed("Nothing was copied", words))
            return
        what = clip(there[0].name, 40) if len(there) == 1 else plural(len(there), "file")
        question = Question(
            f"Copy {what} into this dataset?",
            "Pictures are copied with their captions; the originals stay where they are.",
            "Copy",
        )
        self._change_if(question, "The import", partial(self._import, there))

    def _import(self, paths: list[Path]) -> tuple[Undo | None, str]:
        undo = pictures.bring(
            paths, self.session.folder, self.session.trash, self.session.training.caption_ext
        )
        return undo, f"{undo.what}; u takes it back."

    def action_crop(self) -> None:
        """Choose the part of the picture under the cursor that is trained on."""
        from tui.screens.dataset_crop import CropScreen

        item = self._browser.item
        if item is None or item.header is None:
            self._browser.notify("This picture cannot be read, so it cannot be cropped.", severity="warning")
            return

        def answered(cropped: Cropped | None) -> None:
            if cropped is not None and cropped.box != item.crop:
                self._change("The crop", partial(self._crop, item, cropped))

        self._browser.app.push_screen(CropScreen(item, self.session.training), answered)

    def _crop(self, item: Item, cropped: Cropped) -> tuple[Undo | None, str]:
        undo = pictures.crop(item, cropped.box)
        return undo, "The crop is kept beside the picture, which stays as it is; u takes it back."

    def action_delete(self) -> None:
        """Move pictures and their captions to the trash, after a question."""
        items = self.targets()
        if not items:
            return
        what = clip(items[0].name, 40) if len(items) == 1 else plural(len(items), "picture")
        question = Question(
            f"Delete {what}?",
            "The pictures and their captions go to the app's trash; u brings them back.",
            "Delete",
            danger=True,
        )
        self._change_if(question, "Deleting", partial(self._delete, items))

    def _delete(self, items: list[Item]) -> tuple[Undo | None, str]:
        undo, problem = pictures.delete(items, self.session.trash, self.session.training.caption_ext)
        words = f"{undo.what}; u brings them back."
        return undo, f"{words} Then it ended: {one_line(problem)}." if problem else words

    def action_prepare(self) -> None:
        """Convert pictures, turn them upright, make their crops."""
        from tui.screens.dataset_prepare import PrepareScreen

        items = [self.session.items[name] for name in self.shelf.chosen or self.shelf.names]
        if not items:
            return

        def answered(preparation: Preparation | None) -> None:
            if preparation is not None:
                self._change("Preparing", partial(self._prepare, items, preparation))

        self._browser.app.push_screen(PrepareScreen(len(items), self.session.folder), answered)

    def _prepare(self, items: list[Item], preparation: Preparation) -> tuple[Undo | None, str]:
        results, undo = pictures.prepare(items, preparation.options, self.session.trash)
        failed = [result for result in results if result.target is None]
        where = preparation.options.target
        words = plural(len(results) - len(failed), "picture")
        words += f" prepared{f' in {where}' if where is not None else ''}"
        words += "; u brings the originals back." if undo is not None else "."
        if failed:
            said = one_line(f"{failed[0].source.name} {failed[0].problem}")
            words += f" {plural(len(failed), 'picture')} left as they are: {said}."
        return undo, words

    # Problems

    def fix(self, problems: Sequence[Problem]) -> None:
        """Mend problems, after a question."""
        if not problems:
            return
        first = problems[0]
        where = clip(first.file, 40) if len(problems) == 1 else plural(len(problems), "file")
        question = Question(f"Mend {where}?", f"What it does: {one_line(first.fix or '')}.", "Mend")
        self._change_if(question, "Mending", partial(self._mend, problems))

    def _mend(self, problems: Sequence[Problem]) -> tuple[Undo | None, str]:
        results, undo = self.session.mend(problems)
        failed = [result for result in results if result.failure is not None]
        mended = len(results) - len(failed)
        words = f"{plural(mended, 'problem')} mended" if mended else "Nothing mended"
        words += "; u takes it back." if undo is not None else "."
        if failed:
            words += f" Not mended: {one_line(failed[0].problem.file)} {one_line(failed[0].failure or '')}."
        return undo, words

    # What it is checked for

    def action_training(self) -> None:
        """Choose resolutions and trigger word."""
        from tui.screens.dataset_options import TrainingScreen

        def answered(training: Training | None) -> None:
            if training is not None:
                self.session.training = training
                self._browser.run_edit("What is checked", partial(self._store_training, training))

        self._browser.app.push_screen(TrainingScreen(self.session.training), answered)

    def _store_training(self, training: Training) -> tuple[Undo | None, str]:
        store_training(self._browser.flux.root, self.session.folder, training)
        trigger = f", trigger word {training.trigger}" if training.trigger else ", no trigger word"
        return None, f"Checked for {' '.join(map(str, training.resolutions))}{trigger}."
