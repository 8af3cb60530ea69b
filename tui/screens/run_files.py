"""Files: what a run has made, with sizes; brought home one or all, and checked by their sums."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.messages import OperationFailed
from tui.runs.files import is_product
from tui.screens.run_page import RunPage
from tui.text import ELLIPSIS, clip, fit, one_line, plural, size
from tui.widgets.transfer_bar import TransferBar

if TYPE_CHECKING:
    from textual.widget import Widget

    from backend.launchers.base import RunFile
    from tui.services import RunRow

_TICK = 0.25
_COLUMNS = 23  # cells before the path
_DATE = 13
_NARROW = 60  # cells below which there is no date


class RunFilesScreen(RunPage):
    """The files of a run.

    Args:
        run: The run.
    """

    AUTO_FOCUS = "#files"
    HELP: ClassVar[str] = (
        "Files of a run on Modal come into its folder on this machine; those of a run that trained here are "
        "copied to a folder that you name. A download that was interrupted goes on where it ended, and every "
        "file is checked by its SHA-256 before it gets its name. The container reckons the sums when it "
        "saves: a file's is known before it is here."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d,enter", "download", "Download", id="files.download",
                tooltip="Bring the marked files home, or this one."),
        Binding("space", "mark", "Mark", id="files.mark", tooltip="Mark this file, or not."),
        Binding("a", "download_all", "All", id="files.download-all", tooltip="Bring all of them home."),
        Binding("x", "cancel", "Cancel", id="files.cancel",
                tooltip="Stop the download; the next one goes on there."),
        Binding("c", "checksum", "Checksum", id="files.checksum", 
                tooltip="The file's SHA-256, and whether what is here has that of its writer."),
        Binding("y", "copy_path", "Copy path", id="files.copy-path", tooltip="Copy where the file lies."),
        Binding("r,f5", "reload", "Refresh", id="files.refresh", tooltip="Read the list again."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    RunFilesScreen #columns { height: 1; color: $text-muted; }
    RunFilesScreen #said { height: auto; max-height: 3; color: $text-muted; }
    RunFilesScreen TransferBar { padding: 0; }
    """

    def __init__(self, run: RunRow) -> None:
        super().__init__(f"Files of {run.name}")
        self._run = run
        self._files: list[RunFile] = []
        self._here: set[str] = set()
        self._marked: set[str] = set()

    def compose_page(self) -> Iterable[Widget]:
        """The files, a download's progress, and what was found out."""
        yield Static(id="columns", markup=False)
        yield OptionList(id="files", markup=False)
        yield TransferBar("x cancels")
        yield Static(id="said", markup=False)

    def on_mount(self) -> None:
        """Read the list."""
        self.set_interval(_TICK, self._show_download)
        self._load()

    def _show_download(self) -> None:
        self.query_one(TransferBar).show_download(self.flux.actions.downloads.get(self._run.id))
        self.refresh_bindings()

    @work(exclusive=True, group="run-files", exit_on_error=False)
    async def _load(self, *, brought: bool = False) -> None:
        try:
            service = await self.flux.feed.service()
            run = await service.record(self._run.id)
            files = list(await service.launcher(run).files(run))
            here = await asyncio.to_thread(_those_here, self._run.path, files)
        except Exception as error:
            self.post_message(
                OperationFailed("The files cannot be listed", str(error) or type(error).__name__)
            )
            return
        self._files, self._here = files, here
        if brought:  # what did not come stays marked
            self._marked -= here
        self._marked &= {file.path for file in files}
        self._list()
        self._count()
        self.refresh_bindings()

    def _count(self) -> None:
        said = f"{plural(len(self._files), 'file')}, {size(sum(file.bytes for file in self._files))}"
        marked = self._those_marked
        if marked:
            said += f" · {len(marked)} marked, {size(sum(file.bytes for file in marked))}"
        self.say(said)

    @property
    def _those_marked(self) -> list[RunFile]:
        return [file for file in self._files if file.path in self._marked]

    def on_resize(self) -> None:
        """Paths are cut to the width."""
        if self._files:
            self.call_after_refresh(self._list)

    @property
    def _layout(self) -> tuple[int, bool]:
        """Cells for a path, and whether there is room for dates."""
        listing = self.query_one("#files", OptionList)
        region = listing.content_region
        bar = listing.styles.scrollbar_size_vertical if len(self._files) > region.height else 0
        width = region.width - bar
        dated = width >= _NARROW
        return max(1, width - _COLUMNS - (_DATE if dated else 0)), dated

    def _list(self) -> None:
        listing = self.query_one("#files", OptionList)
        before = listing.highlighted or 0
        room, dated = self._layout
        changed = f"{'Changed':<{_DATE}}" if dated else ""
        self.query_one("#columns", Static).update(f"  {'Size':>11}  {changed}  Here  File")
        listing.set_options([Option(self._row(file, room, dated=dated)) for file in self._files])
        if self._files:
            listing.highlighted = min(before, len(self._files) - 1)

    def _row(self, file: RunFile, room: int, *, dated: bool) -> Content:
        path = one_line(file.path)
        if cell_len(path) > room:  # its end tells files apart
            path = ELLIPSIS + path[-(room - 1) :] if room > 1 else ELLIPSIS
        changed = time.strftime("%m-%d %H:%M", time.localtime(file.modified)) if file.modified else ""
        return Content.assemble(
            ("● " if file.path in self._marked else "  ", "$text-accent"),
            f"{size(file.bytes):>11}  ",
            (f"{changed:<{_DATE}}" if dated else "", "dim"),
            ("  ✓     " if file.path in self._here else "  –     ", "$text-success"),  # noqa: RUF001
            (path, "bold" if file.path.endswith(".safetensors") else ""),
        )

    @property
    def _chosen(self) -> RunFile | None:
        place = self.query_one("#files", OptionList).highlighted
        return self._files[place] if place is not None and place < len(self._files) else None

    def _tell(self, text: str, style: str = "$text-muted") -> None:
        self.query_one("#said", Static).update(Content.styled(fit(text, len(text) + 1).rstrip(), style))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim what there is nothing for."""
        going = self.flux.actions.downloads.get(self._run.id) is not None
        if action == "cancel":
            return going or None
        if action in ("download", "download_all"):
            return (bool(self._files) and not going) or None
        if action in ("checksum", "copy_path", "mark"):
            return bool(self._files) or None
        return True

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A click or enter brings the file home, or those that are marked."""
        event.stop()
        self.action_download()

    def action_download(self) -> None:
        """Bring the marked files home, or this one."""
        if wanted := self._those_marked or [file for file in (self._chosen,) if file is not None]:
            self._bring(wanted)

    def action_mark(self) -> None:
        """Mark this file, or not, and go on to the next."""
        if (file := self._chosen) is None:
            return
        self._marked ^= {file.path}
        listing = self.query_one("#files", OptionList)
        place = listing.highlighted or 0
        room, dated = self._layout
        listing.replace_option_prompt_at_index(place, self._row(file, room, dated=dated))
        listing.highlighted = min(place + 1, len(self._files) - 1)
        self._count()

    def action_download_all(self) -> None:
        """Bring all files home; the rest of a run's folder is at home anyway."""
        wanted = [file for file in self._files if self._run.backend == "local" or is_product(file)]
        if wanted:
            self._bring(wanted)

    def _bring(self, files: Sequence[RunFile]) -> None:
        if self._run.backend != "local":
            self.flux.actions.downloads.start(self._run.id, self._brought, files=files)
            return
        from tui.screens.ask_text import TextScreen

        def answered(folder: str | None) -> None:
            if folder and folder.strip():
                target = Path(folder.strip()).expanduser().absolute()
                self.flux.actions.downloads.start(
                    self._run.id, self._brought, files=files, destination=target
                )

        text = f"Copy {plural(len(files), 'file')} ({size(sum(f.bytes for f in files))}) into the folder:"
        self.app.push_screen(
            TextScreen("Copy files", text, str(Path.home() / clip(self._run.name, 60))), answered
        )

    def _brought(self) -> None:
        if self.is_mounted:
            self._load(brought=True)

    def action_cancel(self) -> None:
        """Stop the download."""
        self.flux.actions.downloads.cancel(self._run.id)

    def action_checksum(self) -> None:
        """Reckon the file's sum."""
        if (file := self._chosen) is not None:
            self._sum(file)

    @work(exclusive=True, group="checksum", exit_on_error=False)
    async def _sum(self, file: RunFile) -> None:
        from backend.runs.files import checksum

        path = self._run.path / file.path
        if file.path not in self._here:
            if file.sha256:
                self._tell(f"sha256 {file.sha256}  {file.path}: checked when it comes home")
            else:
                self._tell(f"{file.path} is not on this machine: bring it home first.", "$text-warning")
            return
        self._tell("reckoning…")
        try:
            found = await asyncio.to_thread(checksum, path)
        except OSError as error:
            self._tell(f"{path} cannot be read: {error.strerror or error}", "$text-error")
            return
        if file.sha256 and found != file.sha256:
            self._tell(
                f"sha256 {found} is not that of the file on Modal ({file.sha256}): delete {path} and bring "
                "it home again.",
                "$text-error",
            )
        else:
            same = ", as on Modal" if file.sha256 else ""
            self._tell(f"sha256 {found}{same}  {path}")

    def action_copy_path(self) -> None:
        """Copy the file's path."""
        if (file := self._chosen) is not None:
            self.app.copy_to_clipboard(str(self._run.path / file.path))
            self._tell(f"copied, where the terminal allows it: {self._run.path / file.path}")

    def action_reload(self) -> None:
        """Read the list again."""
        self._load()


def _those_here(folder: Path, files: Sequence[RunFile]) -> set[str]:
    """The paths of those files that are in ``folder`` whole."""
    found = set()
    for file in files:
        try:
            if (folder / file.path).stat().st_size == file.bytes:
                found.add(file.path)
        except OSError:
            continue
    return found
