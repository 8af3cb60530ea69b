"""The editor of a config: one text, seen as text or as a form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from tui.configs.file import ConfigFile
from tui.configs.worker import CheckProcess
from tui.editor.checking import Checking
from tui.editor.completing import Completing
from tui.editor.finding import Finding
from tui.editor.forming import FormEditing
from tui.editor.keeping import FileKeeping
from tui.messages import RunsChanged
from tui.screens.base import report_failure
from tui.widgets.completion_list import CompletionList
from tui.widgets.config_form import ConfigForm
from tui.widgets.config_problems import ConfigProblems
from tui.widgets.estimate_pane import EstimatePane
from tui.widgets.find_bar import FindBar
from tui.widgets.yaml_area import YamlArea

if TYPE_CHECKING:
    from textual import events
    from textual.command import Provider
    from textual.widget import Widget
    from textual.worker import Worker

_WIDE = 110  # columns from which the estimate is beside the text


def editor_commands() -> type[Provider]:
    """The command palette's entries of the editor, imported when the palette opens."""
    from tui.editor.commands import EditorCommands

    return EditorCommands


class ConfigEditorScreen(FileKeeping, Checking, Completing, Finding, FormEditing):
    """Edits one config.

    Args:
        path: Its file; a new file begins empty.
    """

    MODE = "configs"
    AUTO_FOCUS = ""
    COMMANDS: ClassVar = {editor_commands}
    HELP: ClassVar[str] = (
        "F2 changes between text and form; both are the same file, and a change in the form changes only "
        "that value. What is typed is kept as a draft within two seconds, until it is saved."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "switch_view", "Text or form", id="editor.view", tooltip="Text or form."),
        Binding("ctrl+s,f11", "save", "Save", id="editor.save", tooltip="Write the file."),
        Binding("f5", "launch", "Launch", id="editor.launch", tooltip="Review it, then train it."),
        Binding("escape", "leave", "Back", id="editor.leave", tooltip="Back to the library."),
        Binding("f8", "problem(1)", "Problem", id="editor.next-problem", tooltip="The next problem."),
        Binding("f7", "problem(-1)", "Previous problem", show=False, id="editor.previous-problem",
                tooltip="The problem before."),
        Binding("f4", "fix", "Fix", id="editor.fix", tooltip="What would mend the problem here."),
        Binding("ctrl+g", "go_to_key", "Go to", id="editor.go-to", tooltip="Go to a key by its name."),
        Binding("ctrl+f", "find(False)", "Find", show=False, id="editor.find", tooltip="Find in the text."),
        Binding("ctrl+r", "find(True)", "Replace", show=False, id="editor.replace",
                tooltip="Find and replace in the text."),
        Binding("f3", "find_next(1)", "Find next", show=False, id="editor.find-next", tooltip="Next match."),
        Binding("shift+f3,f15", "find_next(-1)", "Find previous", show=False, id="editor.find-previous",
                tooltip="The match before."),
        Binding("f9", "external", "$EDITOR", show=False, id="editor.external",
                tooltip="Save it and open it in $EDITOR."),
        Binding("f10", "diff", "Diff", show=False, id="editor.diff",
                tooltip="Compare with a preset, the saved file or a run."),
        Binding("f12", "estimate", "Estimate", show=False, id="editor.estimate",
                tooltip="Show or hide what a run would take."),
        Binding("f6", "app.focus_next", "Next pane", show=False, id="editor.next-pane", tooltip="Next pane."),
        Binding("shift+f6,f18", "app.focus_previous", "Previous pane", show=False, id="editor.previous-pane",
                tooltip="The pane before."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    ConfigEditorScreen {
        #title { height: 1; padding: 0 1; background: $boost; }
        #main { height: 1fr; }
        #views { width: 1fr; height: 1fr; }
        #here { height: 1; padding: 0 1; }
        ConfigForm { display: none; }
        &.-form ConfigForm { display: block; }
        &.-form YamlArea { display: none; }
        EstimatePane { display: none; }
        &.-estimate EstimatePane { display: block; }
        &.-estimate.-narrow #views { display: none; }
        &.-estimate.-narrow EstimatePane { width: 1fr; }
    }
    """

    # -- composition ----------------------------------------------------------------------------------

    def compose_body(self) -> Iterable[Widget]:
        """Title, views, estimate, problems, a line on what is under the cursor."""
        yield Static(id="title", markup=False)
        with Horizontal(id="main"):
            with Vertical(id="views"):
                yield YamlArea(id="text")
                yield ConfigForm(self._path.absolute().parent, id="form")
                yield FindBar(id="find-bar")
            yield EstimatePane(id="estimate")
        yield ConfigProblems(id="problems")
        yield Static(id="here", markup=False)
        yield CompletionList(id="completions")

    def on_mount(self) -> None:
        """Open the file."""
        super().on_mount()
        self.checks = CheckProcess()
        self.file = ConfigFile(self._path, self.flux.root / "drafts")
        self._fit_width()
        self._title()
        self.area.focus()
        self._open()

    async def on_unmount(self) -> None:
        """The process of checks ends with the editor; what was typed since the last draft is kept."""
        await self.keep_last()
        await self.checks.close()

    def show_runs(self, change: RunsChanged) -> None:
        """Runs are not shown here."""

    def on_resize(self, event: events.Resize) -> None:
        """The estimate is beside the text where there is room."""
        self._fit_width()

    def _fit_width(self) -> None:
        narrow = self.app.size.width < _WIDE
        self.set_class(narrow, "-narrow")
        wanted = self._estimate_wanted
        self.set_class(not narrow if wanted is None else wanted, "-estimate")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A worker that failed says so: nothing that was asked for ends in silence."""
        report_failure(self, event)

    # -- comparing, estimate, launching ---------------------------------------------------------------

    @work(exclusive=True, group="diff", exit_on_error=False)
    async def action_diff(self) -> None:
        """Choose what to compare with, then show it."""
        from tui.configs.sources import choose_source
        from tui.screens.config_diff import ConfigDiffScreen, compare

        saved = self.file.saved if self.dirty else None
        source = await choose_source(self.flux, saved=saved, not_this=self._path)
        if source is not None:
            comparison = await asyncio.to_thread(
                compare, source.text, self.area.text, source.name, self._path.name
            )
            self.app.push_screen(ConfigDiffScreen(comparison))

    def action_estimate(self) -> None:
        """Show or hide the estimate."""
        self._estimate_wanted = not self.has_class("-estimate")
        self._fit_width()
        if self.has_class("-estimate"):
            self._reckon()

    @work(exclusive=True, group="launch", exit_on_error=False)
    async def action_launch(self) -> None:
        """Save it and review what is about to be launched."""
        from tui.configs.launching import review_and_launch

        if self.dirty and not await self._save():
            return
        await review_and_launch(self.flux, self._path)
