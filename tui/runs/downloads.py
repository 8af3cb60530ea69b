"""Bringing files of runs home, one download a run, with its progress for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.messages import OperationFailed
from tui.runs.files import chosen, is_product
from tui.text import clip, plural

if TYPE_CHECKING:
    from textual.app import App
    from textual.worker import Worker

    from backend.launchers.base import RunFile
    from tui.runs.feed import RunFeed


@dataclass
class Download:
    """One download; ``done`` and ``total`` are bytes, 0 while nothing is known."""

    run_id: str
    name: str
    done: int = 0
    total: int = 0
    worker: Worker[None] | None = None

    def progress(self, done: int, total: int) -> None:
        """Told by the launcher, from whatever thread."""
        self.done, self.total = done, total


class Downloads:
    """The downloads that go on.

    Args:
        app: Runs the workers and shows messages.
        feed: The runs.
    """

    def __init__(self, app: App[Any], feed: RunFeed) -> None:
        self._app = app
        self._feed = feed
        self._going: dict[str, Download] = {}

    def get(self, run_id: str) -> Download | None:
        """The download of a run, while one goes on."""
        return self._going.get(run_id)

    def start(
        self,
        run_id: str,
        done: Callable[[], None] | None = None,
        *,
        files: Sequence[RunFile] | None = None,
        destination: Path | None = None,
    ) -> None:
        """Bring files of a run home.

        Args:
            run_id: The run.
            done: Told at the end.
            files: Which; its newest LoRA and its pictures if None.
            destination: The folder; the run's own if None.
        """
        run = self._feed.get(run_id)
        if run is None or run_id in self._going:
            return
        download = self._going[run_id] = Download(run_id, run.name)
        download.worker = self._app.run_worker(
            self._bring(download, done, files, destination),
            name=f"download {run_id}",
            group="downloads",
            exit_on_error=False,
        )

    def cancel(self, run_id: str) -> None:
        """Stop a run's download; what has come stays, and the next one goes on there."""
        download = self._going.get(run_id)
        if download is not None and download.worker is not None:
            download.worker.cancel()
            self._app.notify(
                "The download was stopped; the next one goes on where it ended.",
                title=clip(download.name, 40),
                markup=False,
            )

    async def _bring(
        self,
        download: Download,
        done: Callable[[], None] | None,
        files: Sequence[RunFile] | None,
        destination: Path | None,
    ) -> None:
        try:
            said = await self._fetch(download, files, destination)
            self._app.notify(said, title=clip(download.name, 40), markup=False)
        except Exception as error:
            self._app.post_message(OperationFailed("Download failed", str(error) or type(error).__name__))
        finally:
            del self._going[download.run_id]
            if done is not None:
                done()

    async def _fetch(
        self, download: Download, wanted: Sequence[RunFile] | None, destination: Path | None
    ) -> str:
        service = await self._feed.service()
        run = await service.record(download.run_id)
        launcher = service.launcher(run)
        if wanted is not None:
            paths = await launcher.download(run, wanted, destination or run.path, download.progress)
            return f"{plural(len(paths), 'file')}: in {destination or run.path}"
        files = [file for file in chosen(await launcher.files(run), run.name) if is_product(file)]
        if not files:
            return "There is nothing to bring home yet: no LoRA, no picture."
        paths = await launcher.download(run, files, run.path, download.progress)
        loras = [path.name for path in paths if path.suffix == ".safetensors"]
        pictures = len(paths) - len(loras)
        parts = loras + ([plural(pictures, "picture")] if pictures else [])
        return f"{' and '.join(parts)}: in {run.path}"
