"""Captions by a model: starts the job, shows how far it is, takes up its drafts as they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from backend.captioning.job import CaptionJob, Progress, Result, make_job, running_job
from backend.captioning.request import CaptioningError
from backend.datasets.errors import DatasetError
from tui.messages import OperationFailed
from tui.screens.confirm import ConfirmScreen, Question
from tui.text import clip, one_line, plural, size

if TYPE_CHECKING:
    from tui.screens.caption_job import Asked
    from tui.screens.dataset_browser import DatasetBrowserScreen

_LOOK = 0.3  # seconds between two looks at a job


class DatasetCaptioning:
    """Part of :class:`~tui.screens.dataset_browser.DatasetBrowserScreen`.

    Attributes:
        captioning: How far the job is, in a few words; empty without one.
    """

    captioning: str = ""
    _job: CaptionJob | None = None

    @property
    def _captioned(self) -> DatasetBrowserScreen:
        return cast("DatasetBrowserScreen", self)

    def action_auto_caption(self) -> None:
        """Have a model write captions; while it does, stop it."""
        screen = self._captioned
        if self._job is not None:
            self._ask_to_stop(self._job)
            return
        from tui.screens.caption_job import CaptionJobScreen

        session = screen.session

        def answered(asked: Asked | None) -> None:
            if asked is not None:
                self._begin_captioning(asked)

        dialog = CaptionJobScreen(
            session.folder,
            session.training.trigger,
            session.training.caption_ext,
            screen.shelf.chosen,
            len(session.items),
        )
        screen.app.push_screen(dialog, answered)

    def _ask_to_stop(self, job: CaptionJob) -> None:
        def answered(yes: bool | None) -> None:
            if yes:
                job.stop()

        question = Question(
            "Stop captioning?",
            "It stops after the picture in hand. The same choice in this box goes on from there.",
            "Stop",
        )
        self._captioned.app.push_screen(ConfirmScreen(question), answered)

    def _begin_captioning(self, asked: Asked) -> None:
        self._captioned.run_worker(self._caption(asked), group="captioning", exit_on_error=False)

    def look_for_captioning(self) -> None:
        """Follow a job that goes on since before the browser was opened."""
        self._captioned.run_worker(self._caption(None), group="captioning", exit_on_error=False)

    async def _caption(self, asked: Asked | None) -> None:
        screen = self._captioned
        root = screen.session.places.root
        try:
            job = await asyncio.to_thread(running_job, screen.session.folder, root)
            if job is None and asked is not None:
                job = await asyncio.to_thread(make_job, asked.request, root, asked.place)
                await asyncio.to_thread(job.start)
            if job is None or self._job is not None:
                return
        except (CaptioningError, OSError) as error:
            screen.post_message(OperationFailed("Captioning", str(error)))
            return
        self._job = job
        try:
            progress = await self._follow_job(job)
        finally:
            self._job, self.captioning = None, ""
        if screen.is_attached:
            screen.show_titles()
            self._tell_end(progress)

    async def _follow_job(self, job: CaptionJob) -> Progress:
        screen, follower = self._captioned, job.follow()
        while True:
            new = await asyncio.to_thread(follower.read)
            await self._take_up(new)
            self.captioning = _words(follower.progress)
            if not screen.is_attached:
                return follower.progress
            screen.show_titles()
            if follower.progress.ended:
                return follower.progress
            await asyncio.sleep(_LOOK)

    async def _take_up(self, new: list[Result]) -> None:
        screen = self._captioned
        session = screen.session
        names = {result.name for result in new if result.caption is not None}
        names = {name for name in names if name in session.items and name not in screen.dirty}
        if not names:
            return
        try:
            drafts = await asyncio.to_thread(session.read_drafts)
        except (DatasetError, OSError) as error:
            screen.post_message(OperationFailed("Captioning", str(error)))
            return
        if not screen.is_attached:
            return
        paths = {session.items[name].caption_path: name for name in names if name in session.items}
        fresh = {path: draft for path, draft in drafts.items() if path in paths}
        for path in fresh:
            session.desk.drop(paths[path])
        session.put_drafts(fresh)
        screen.show_all()

    def _tell_end(self, progress: Progress) -> None:
        screen = self._captioned
        if progress.state == "failed":
            screen.post_message(OperationFailed("Captioning", progress.detail))
            return
        captions = len(progress.results) - len(progress.problems)
        words = f"{plural(captions, 'draft')}; in the caption, ctrl+s accepts and ctrl+r refuses."
        if not captions:
            words = "No picture needed a caption."
        if progress.state == "stopped":
            words = f"Stopped. {words}"
        if progress.problems:
            first = progress.problems[0]
            words += f" {plural(len(progress.problems), 'picture')} without: {first.name}: {first.problem}."
        screen.notify(one_line(words), title="Captioning", markup=False)


def _words(progress: Progress) -> str:
    if progress.state == "downloading" and progress.total:
        return f"downloading {size(progress.done)} of {size(progress.total)}"
    if progress.state == "captioning":
        return f"captioning {progress.done} of {progress.total}"
    if progress.state == "uploading" and progress.total:
        return f"sending {size(progress.done)} of {size(progress.total)}"
    words = f"{progress.state} {progress.detail}" if progress.state == "waiting" else progress.state
    return "" if progress.ended else f"captioning: {clip(words, 24)}"
