"""Datasets: the folders of pictures that are known, and what is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static
from textual.worker import get_current_worker

from backend.datasets.errors import DatasetError
from backend.datasets.importing import import_pictures, parse_paths
from backend.datasets.library import Library
from backend.datasets.watch import watch_many
from tui.datasets.counts import Counts, count
from tui.datasets.known import look_round
from tui.messages import OperationFailed, RunsChanged
from tui.screens.ask_text import TextScreen
from tui.screens.base import MainScreen
from tui.screens.confirm import ConfirmScreen, Question
from tui.text import one_line, plural
from tui.widgets.dataset_list import DatasetList

if TYPE_CHECKING:
    from textual.widget import Widget

    from backend.datasets.library import Entry
    from backend.datasets.uses import RunUse


class DatasetsScreen(MainScreen):
    """The library of datasets; opening one shows its browser."""

    MODE = "datasets"
    AUTO_FOCUS = "DatasetList"
    DEFAULT_CSS = """
    DatasetsScreen #no-datasets {
        height: 1fr;
        border: round $foreground 30%;
        border-title-color: $foreground;
        padding: 1 2;
        display: none;
    }
    """
    HELP: ClassVar[str] = (
        "A dataset is a folder of pictures with a caption beside each: `fox.png` and `fox.txt`. "
        "Drop a folder on the terminal, or press `a` and type its path."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "Add", id="datasets.add", tooltip="Add a folder by its path."),
        Binding("n", "rename", "Rename", id="datasets.rename", tooltip="Give it another name in this list."),
        Binding(
            "D",
            "remove",
            "Remove",
            id="datasets.remove",
            tooltip="Take it off this list; its files stay. Asks first.",
        ),
        Binding("i", "bring", "Import", id="datasets.import", tooltip="Copy pictures into the dataset."),
        Binding(
            "f5",
            "reload",
            "Count again",
            show=False,
            id="datasets.reload",
            tooltip="Look at all folders again.",
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._counts: dict[Path, Counts] = {}
        self._again = False
        self._uses: dict[Path, RunUse] = {}
        self._stop: asyncio.Event | None = None
        self._one_count, self._one_change = asyncio.Lock(), asyncio.Lock()

    @property
    def _library(self) -> Library:
        return Library(self.flux.root)

    def compose_body(self) -> Iterable[Widget]:
        """The list, or what to do when it is empty."""
        empty = Static(id="no-datasets", markup=False)
        empty.border_title = "Datasets"
        yield empty
        yield DatasetList()

    def on_mount(self) -> None:
        """Read the library."""
        super().on_mount()
        self._reload()

    def on_screen_resume(self) -> None:
        """Back from a dataset: much may have changed there."""
        self._reload()

    def show_runs(self, change: RunsChanged) -> None:
        """Runs are not shown here."""

    # Reading

    def _reload(self, choose: Path | None = None) -> None:
        self._read(choose)

    @work(exclusive=True, group="library", exit_on_error=False)
    async def _read(self, choose: Path | None) -> None:
        library = self._library
        try:
            self._entries = await asyncio.to_thread(library.entries)
        except (DatasetError, OSError) as error:
            self.post_message(OperationFailed("The datasets", str(error)))
            return
        self._show()
        again, self._again = self._again, False
        try:
            self._entries, self._uses = await asyncio.to_thread(look_round, self.flux.root, Path.cwd())
        except (DatasetError, OSError) as error:
            self.post_message(OperationFailed("Runs and configs", str(error)))
        self._show()
        paths = [entry.path for entry in self._entries]
        if choose in paths:
            self.query_one(DatasetList).highlighted = paths.index(choose)
        self._stop_watching()
        if not get_current_worker().is_cancelled and self.is_current:
            self._watch(paths)  # before they are counted, so that nothing falls between
        await self._count(paths, again=again)

    async def _count(self, paths: Iterable[Path], *, again: bool) -> None:
        for path in paths:
            async with self._one_count:  # else an older count could come last
                try:
                    self._counts[path] = await asyncio.to_thread(
                        partial(count, self.flux.root, path, self._uses.get(path), again=again)
                    )
                except (DatasetError, OSError) as error:
                    self.post_message(OperationFailed(f"The dataset {path.name}", str(error)))
            self._show()

    @work(exclusive=True, group="watch", exit_on_error=False)
    async def _watch(self, paths: list[Path]) -> None:
        """Count what changes while the library is looked at."""
        stop = self._stop = asyncio.Event()
        try:
            async for changed in watch_many(paths, stop):
                if stop.is_set():
                    return
                await self._count(sorted(changed), again=True)
        except (DatasetError, OSError, RuntimeError) as error:
            self.post_message(OperationFailed("Changes of the folders are not seen", str(error)))
        finally:
            stop.set()

    def _stop_watching(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def on_screen_suspend(self) -> None:
        """Nobody looks: the browser has a watch of its own."""
        self._stop_watching()

    def on_unmount(self) -> None:
        """Let the watching thread go."""
        self._stop_watching()

    def _show(self) -> None:
        known = self.query_one(DatasetList)
        empty = self.query_one("#no-datasets", Static)
        known.display, empty.display = bool(self._entries), not self._entries
        if not self._entries:
            empty.update(_EMPTY)
        elif not self.focused:
            known.focus()
        known.show_entries(self._entries, self._counts, self._uses)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a dataset there is nothing to rename, remove or fill."""
        if action in ("rename", "remove", "bring"):
            return True if self._entries else None
        return True

    # Keys

    def on_dataset_list_opened(self, message: DatasetList.Opened) -> None:
        """Show its pictures."""
        from tui.screens.dataset_browser import DatasetBrowserScreen

        self.app.push_screen(DatasetBrowserScreen(message.path))

    def action_add(self) -> None:
        """Ask for a folder."""

        def answered(text: str | None) -> None:
            if text is not None:
                self._add(text)

        self.app.push_screen(
            TextScreen(
                "Add a dataset",
                "A folder of pictures. You can drop it on the terminal.",
                placeholder="path/to/pictures",
            ),
            answered,
        )

    def on_paste(self, event: events.Paste) -> None:
        """Folders dropped on the terminal are added; pictures go into the dataset under the cursor."""
        event.stop()
        self._add(event.text)

    @work(group="change", exit_on_error=False)
    async def _add(self, text: str) -> None:
        paths = await asyncio.to_thread(parse_paths, text)
        if not paths:
            self.post_message(OperationFailed("Nothing was added", "There is no path in what was pasted."))
            return
        folders = [path for path in paths if await asyncio.to_thread(path.is_dir)]
        others = [path for path in paths if path not in folders]
        added: list[Path] = []
        for path in folders:
            try:
                async with self._one_change:
                    added.append((await asyncio.to_thread(self._library.add, path)).path)
            except (DatasetError, OSError) as error:
                self.post_message(OperationFailed("The folder was not added", str(error)))
        if others:
            entry = self.query_one(DatasetList).current
            existing = [path for path in others if await asyncio.to_thread(path.is_file)]
            self._say_missing([path for path in others if path not in existing])
            if existing and entry is not None:
                self._ask_import(existing, entry)
            elif existing:
                self.post_message(
                    OperationFailed("Nothing was added", "Add a folder first; pictures are copied into one.")
                )
        if added:
            self._reload(added[-1])

    def _say_missing(self, paths: list[Path]) -> None:
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            words = f"{one_line(str(paths[0]))}{more}: no such folder or file."
            self.post_message(OperationFailed("Nothing is there", words))

    def action_bring(self) -> None:
        """Ask for pictures to copy into the dataset."""
        entry = self.query_one(DatasetList).current
        if entry is None:
            return

        def answered(text: str | None) -> None:
            if text is not None:
                self._bring(text, entry)

        self.app.push_screen(
            TextScreen(
                f"Import into {entry.name}",
                "Pictures, or folders of them; they are copied with their captions.",
                placeholder="paths; you can drop them on the terminal",
            ),
            answered,
        )

    def _ask_import(self, paths: list[Path], entry: Entry) -> None:
        question = Question(
            f"Copy {plural(len(paths), 'picture')} into {entry.name}?",
            f"They go to {one_line(str(entry.path))}; the originals stay where they are.",
            "Copy",
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._bring(paths, entry)

        self.app.push_screen(ConfirmScreen(question), answered)

    @work(group="change", exit_on_error=False)
    async def _bring(self, wanted: str | list[Path], entry: Entry) -> None:
        paths = await asyncio.to_thread(parse_paths, wanted) if isinstance(wanted, str) else wanted
        there = [path for path in paths if await asyncio.to_thread(path.exists)]
        self._say_missing([path for path in paths if path not in there])
        if not there:
            return
        try:
            use = self._uses.get(entry.path)
            captions = (use.caption_ext,) if use is not None else ()
            copied = await asyncio.to_thread(import_pictures, there, entry.path, *captions)
        except (DatasetError, OSError) as error:
            self.post_message(OperationFailed("The import stopped", str(error)))
            return
        if not copied:
            self.post_message(OperationFailed("Nothing was copied", "There is no picture among these."))
            return
        self.notify(f"{plural(len(copied), 'picture')} copied.", title=entry.name, markup=False)
        self._reload(entry.path)

    def action_rename(self) -> None:
        """Ask for another name."""
        entry = self.query_one(DatasetList).current
        if entry is None:
            return

        def answered(name: str | None) -> None:
            if name is not None:
                self._change("rename", entry.path, name.strip())

        self.app.push_screen(
            TextScreen("Rename", "The name in this list; the folder keeps its own.", entry.name), answered
        )

    def action_remove(self) -> None:
        """Take it off the list, after a question."""
        entry = self.query_one(DatasetList).current
        if entry is None:
            return
        question = Question(
            f"Take {entry.name} off the list?", f"Its files stay in {one_line(str(entry.path))}.", "Take off"
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._change("remove", entry.path)

        self.app.push_screen(ConfirmScreen(question), answered)

    @work(group="change", exit_on_error=False)
    async def _change(self, what: str, path: Path, *values: str) -> None:
        try:
            async with self._one_change:
                await asyncio.to_thread(getattr(self._library, what), path, *values)
        except (DatasetError, OSError) as error:
            self.post_message(OperationFailed("The list of datasets", str(error)))
        self._reload(path)

    def action_reload(self) -> None:
        """Look at all folders again."""
        self._again = True
        self._counts.clear()
        self._uses.clear()
        self._reload()


_EMPTY = Content("\n").join(
    [
        Content.styled("No datasets yet.", "bold"),
        Content(""),
        Content.assemble("Press ", ("a", "bold $text-accent"), " and type the path of a folder of pictures,"),
        Content("or drop the folder on this window."),
        Content(""),
        Content.styled("Each picture has its caption beside it: fox.png and fox.txt.", "dim"),
    ]
)
