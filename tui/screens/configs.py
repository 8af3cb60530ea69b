"""Configs: the library of a project's training configs, and the way into the editor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static

from tui.messages import OperationFailed, RunsChanged
from tui.screens.base import MainScreen, report_failure
from tui.text import age, clip, one_line, plural
from tui.widgets.config_table import ConfigTable, ConfigTableHeader

if TYPE_CHECKING:
    from textual.widget import Widget
    from textual.worker import Worker

    from backend.configs.library import ConfigEntry, ConfigLibrary


class ConfigsScreen(MainScreen):
    """The table of configs in the folder from which the app was started."""

    MODE = "configs"
    AUTO_FOCUS = "ConfigTable"
    HELP: ClassVar[str] = (
        "Every YAML or JSON file in this folder and below that is a training config. A deleted one goes to "
        "the trash; `u` brings the last one back."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="configs.new", tooltip="From a preset or from an earlier run."),
        Binding("l", "launch", "Launch", id="configs.launch", tooltip="Review it, then train it."),
        Binding("c", "duplicate", "Copy", id="configs.duplicate", tooltip="A copy with another name."),
        Binding(
            "r", "rename", "Rename", id="configs.rename", tooltip="Another name for the file and the LoRA."
        ),
        Binding("d", "diff", "Diff", id="configs.diff", tooltip="Compare with a preset, a run or another."),
        Binding("e", "external", "$EDITOR", id="configs.external", tooltip="Open it in $EDITOR."),
        Binding(
            "D,delete", "delete", "Delete", show=False, id="configs.delete", tooltip="To the trash; asks."
        ),
        Binding("u", "restore", "Undelete", show=False, id="configs.restore", tooltip="Back from the trash."),
        Binding(
            "f5", "refresh", "Refresh", show=False, id="configs.refresh", tooltip="Look at the disk again."
        ),
    ]
    DEFAULT_CSS = """
    ConfigsScreen {
        #configs-box, #none {
            height: 1fr; border: round $foreground 30%; border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        #configs-box:focus-within { border: round $primary; border-title-style: bold; }
        #configs-box:nocolor:focus-within { border: heavy $primary; }
        #none { padding: 1 2; display: none; }
        #about { height: auto; max-height: 4; padding: 0 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._library: ConfigLibrary | None = None
        self._drafts: set[Path] = set()

    def compose_body(self) -> Iterable[Widget]:
        """The table, or what to do when it is empty; a line on the config under the cursor."""
        none = Static(id="none", markup=False)
        none.border_title = "Configs"
        yield none
        with Vertical(id="configs-box") as box:
            box.border_title = "Configs"
            yield ConfigTableHeader()
            yield ConfigTable(id="configs")
        yield Static(id="about", markup=False)

    def on_mount(self) -> None:
        """Look at the disk."""
        super().on_mount()
        self._refresh()

    def on_screen_resume(self) -> None:
        """Back from the editor or another screen: the files may have changed."""
        self._refresh()

    def show_runs(self, change: RunsChanged) -> None:
        """Last runs are shown when the files are looked at."""

    @property
    def table(self) -> ConfigTable:
        """The table."""
        return self.query_one(ConfigTable)

    def library(self) -> ConfigLibrary:
        """The configs of the working folder. Imports the backend: call it in a thread."""
        if self._library is None:
            from backend.configs.project import project_configs

            demo = self.flux.demo
            also = [demo.config.parent] if demo is not None else []
            self._library = project_configs(self.flux.root, Path.cwd(), also)
        return self._library

    def _entries(self) -> list[ConfigEntry]:
        from backend.configs.drafts import Drafts

        self._drafts = {draft.path for draft in Drafts(self.flux.root / "drafts").all()}
        return self.library().entries()

    @work(exclusive=True, group="list", exit_on_error=False)
    async def _refresh(self, choose: Path | None = None) -> None:
        try:
            entries = await asyncio.to_thread(self._entries)
        except OSError as error:
            self.post_message(OperationFailed("The folder cannot be read", str(error)))
            return
        self.table.show_entries(entries, self.flux.clock(), choose)
        box = self.query_one("#configs-box")
        box.border_subtitle = Content(plural(len(entries), "config")).markup
        none = self.query_one("#none", Static)
        box.display, none.display = bool(entries), not entries
        if not entries:
            none.update(
                Content.assemble(
                    ("No configs in this folder.\n\n", "bold"),
                    "Press ",
                    ("n", "bold $text-accent"),
                    " to make one from a preset or from an earlier run.",
                )
            )
        else:
            self.table.focus()
        self._say_about()
        self.refresh_bindings()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker that failed says so."""
        report_failure(self, event)

    @on(OptionList.OptionHighlighted)
    def _moved(self, event: OptionList.OptionHighlighted) -> None:
        self._say_about()

    def _say_about(self) -> None:
        entry = self.table.entry
        text = Content("")
        if entry is not None:
            now = self.flux.clock()
            parts = [(one_line(str(entry.path)), "$text-muted")]
            if entry.path.absolute() in self._drafts:
                parts.append(("  ● a draft waits", "$text-warning"))
            if entry.problem:
                parts.append((f"\n✗ {one_line(entry.problem)}", "$text-error"))
            elif (run := entry.last_run) is not None:
                when = age(max(0.0, now - run.updated))
                parts.append((f"\nlast run {run.status}, step {run.step} of {run.steps}, {when}", ""))
            text = Content.assemble(*parts)
        self.query_one("#about", Static).update(text)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Dim what needs a config where there is none."""
        if action in ("launch", "duplicate", "rename", "diff", "external", "delete"):
            table = next(iter(self.query(ConfigTable)), None)
            return (table is not None and table.entry is not None) or None
        return True

    # -- keys -----------------------------------------------------------------------------------------

    @on(ConfigTable.Opened)
    def _opened(self, event: ConfigTable.Opened) -> None:
        event.stop()
        self.edit(event.path)

    def open_config(self, path: Path) -> None:
        """Open a config in the editor; others ask for it by :class:`tui.messages.EditConfig`."""
        self.edit(path)

    def edit(self, path: Path) -> None:
        """Open a config in the editor."""
        from tui.screens.config_editor import ConfigEditorScreen

        self.app.push_screen(ConfigEditorScreen(path))

    async def _do(self, title: str, work: Callable[[], Path]) -> Path | None:
        """Change files in a thread; say what went wrong."""
        from backend.configs.library import LibraryError

        try:
            return await asyncio.to_thread(work)
        except (LibraryError, OSError, ValueError) as error:
            self.post_message(OperationFailed(title, str(error)))
            return None

    @work(exclusive=True, group="new", exit_on_error=False)
    async def action_new(self) -> None:
        """Choose what to begin with, name it, edit it."""
        from config.presets import preset_names, preset_summary
        from tui.screens.ask_text import TextScreen
        from tui.screens.choose import Choice, ChooseScreen

        library = await asyncio.to_thread(self.library)
        presets = await asyncio.to_thread(lambda: [(name, preset_summary(name)) for name in preset_names()])
        runs = await asyncio.to_thread(lambda: library.registry.all() if library.registry else [])
        choices = [Choice(f"preset {name}", text) for name, text in presets]
        choices += [Choice(f"run {one_line(run.name)} ({run.id})", f"{run.status}") for run in runs]
        picked = await self.app.push_screen_wait(ChooseScreen("New config from", choices))
        if picked is None:
            return
        run = runs[picked - len(presets)] if picked >= len(presets) else None
        preset = presets[picked][0] if run is None else ""
        suggestion = one_line(run.name) + "_2" if run is not None else preset.replace("-", "_")
        name = await self.app.push_screen_wait(
            TextScreen("New config", "Name of the LoRA and of the file:", suggestion)
        )
        if name is None:
            return
        make = (
            partial(library.new_from_preset, preset, name)
            if run is None
            else partial(library.new_from_run, run, name)
        )
        path = await self._do("The config was not made", make)
        if path is not None:
            self._refresh(path)
            self.edit(path)

    @work(exclusive=True, group="new", exit_on_error=False)
    async def action_duplicate(self) -> None:
        """A copy with another name."""
        from tui.screens.ask_text import TextScreen

        entry = self.table.entry
        if entry is None:
            return
        name = await self.app.push_screen_wait(
            TextScreen("Copy", "Name of the copy:", f"{one_line(entry.path.stem)}_copy")
        )
        if name is not None:
            library = await asyncio.to_thread(self.library)
            path = await self._do("It was not copied", partial(library.duplicate, entry.path, name))
            self._refresh(path)

    @work(exclusive=True, group="new", exit_on_error=False)
    async def action_rename(self) -> None:
        """Another name."""
        from tui.screens.ask_text import TextScreen

        entry = self.table.entry
        if entry is None:
            return
        name = await self.app.push_screen_wait(TextScreen("Rename", "New name:", one_line(entry.path.stem)))
        if name is not None:
            library = await asyncio.to_thread(self.library)
            path = await self._do("It was not renamed", partial(library.rename, entry.path, name))
            self._refresh(path)

    @work(exclusive=True, group="new", exit_on_error=False)
    async def action_delete(self) -> None:
        """To the trash."""
        from tui.screens.confirm import ConfirmScreen, Question

        entry = self.table.entry
        if entry is None:
            return
        question = Question(
            f"Delete {clip(entry.path.name, 40)}?",
            "It goes to the trash; u brings it back. Runs made with it stay.",
            yes="Delete", danger=True,
        )  # fmt: skip
        if await self.app.push_screen_wait(ConfirmScreen(question)):
            library = await asyncio.to_thread(self.library)
            if await self._do("It was not deleted", partial(library.delete, entry.path)) is not None:
                self.notify(f"{clip(entry.path.name, 40)} is in the trash; u brings it back.", markup=False)
            self._refresh()

    @work(exclusive=True, group="new", exit_on_error=False)
    async def action_restore(self) -> None:
        """The last deleted one comes back."""
        library = await asyncio.to_thread(self.library)
        trashed = await asyncio.to_thread(library.trash)
        if not trashed:
            self.notify("The trash is empty.", markup=False)
            return
        path = await self._do("It was not restored", partial(library.restore, trashed[0]))
        self._refresh(path)

    @work(exclusive=True, group="diff", exit_on_error=False)
    async def action_diff(self) -> None:
        """Compare it with something."""
        from tui.configs.sources import choose_source
        from tui.screens.config_diff import ConfigDiffScreen, compare

        entry = self.table.entry
        if entry is None:
            return
        others = [other.path for other in self.table.entries]
        source = await choose_source(self.flux, not_this=entry.path, others=others)
        if source is None:
            return
        try:
            text = await asyncio.to_thread(entry.path.read_text, encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            self.post_message(OperationFailed("The config cannot be read", str(error)))
            return
        comparison = await asyncio.to_thread(compare, source.text, text, source.name, entry.path.name)
        self.app.push_screen(ConfigDiffScreen(comparison))

    def action_external(self) -> None:
        """Open it in the user's own editor."""
        from tui.external_editor import open_outside

        if (entry := self.table.entry) is not None:
            open_outside(self, entry.path)
            self._refresh()

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def action_launch(self) -> None:
        """Review it, then train it."""
        from tui.configs.launching import review_and_launch

        if (entry := self.table.entry) is not None:
            await review_and_launch(self.flux, entry.path)

    def action_refresh(self) -> None:
        """Look at the disk again."""
        self._refresh()
