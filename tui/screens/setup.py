"""Setup: everything that a launch needs, looked at live, and mended from here."""

from __future__ import annotations

import time
from collections.abc import Collection, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from backend.credentials.redaction import redact
from tui.messages import OperationFailed, RunsChanged
from tui.model_download import ModelDownload
from tui.screens.base import MainScreen
from tui.setup import HF_CHECKS, MODAL_CHECKS, Backend, SetupCheck, SetupError, summary
from tui.setup_about import remedy
from tui.terminal import current_protocol
from tui.terminal_check import terminal_check
from tui.text import one_line
from tui.widgets.setup_details import SetupDetails
from tui.widgets.setup_list import CheckLine, SetupList

if TYPE_CHECKING:
    from textual import events
    from textual.widget import Widget
    from textual.widgets import OptionList

_FRESH = 300.0  # seconds for which answers are good enough when the screen is looked at again
_MODEL = "base-model"


class SetupScreen(MainScreen):
    """The checks."""

    MODE = "setup"
    AUTO_FOCUS = "SetupList"
    DEFAULT_CSS = """
    SetupScreen {
        #setup-box {
            height: auto;
            max-height: 70%;
            border: round $foreground 30%;
            border-title-color: $foreground;
            border-subtitle-color: $text-muted;
        }
        #setup-box:focus-within { border: round $primary; border-title-style: bold; }
        #setup-box:nocolor:focus-within { border: heavy $primary; }
        #welcome { height: 2; padding: 0 2; display: none; }
    }
    """
    HELP: ClassVar[str] = (
        "From two accounts to a first launch. Every row is checked by itself within ten seconds. Tokens are "
        "never shown in full, are tried before they are saved, and go into the files that Modal's and the "
        "Hub's own tools use."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "recheck", "Check again", id="setup.recheck", tooltip="Look at this row again."),
        Binding(
            "R,f5", "recheck_all", "Check all", id="setup.recheck-all", tooltip="Look at all rows again."
        ),
        Binding(
            "b",
            "other_backend",
            "Modal/here",
            id="setup.backend",
            tooltip="What training on Modal needs, or training on this machine.",
        ),
        Binding(
            "p", "profiles", "Profiles", id="setup.profiles", tooltip="Modal's profiles: switch, remove."
        ),
        Binding(
            "x",
            "stop_waiting",
            "Stop waiting",
            id="setup.stop-waiting",
            tooltip="Watch the download in the cloud no more; it goes on there.",
        ),
        Binding("y", "copy", "Copy advice", show=False, id="setup.copy", tooltip="Copy this row's advice."),
        Binding(
            "n", "new_run", "New run", show=False, id="setup.new", tooltip="Check a config and train it."
        ),
        Binding("d", "start_demo", "Demo", id="setup.demo", tooltip="Train the demo LoRA; needs no account."),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._backend: Backend = "modal"
        self._config: Path | None = None
        self._checks: dict[str, SetupCheck] = {}
        self._rounds: dict[str, object] = {}  # the round that answers each check: older answers are dropped
        self._answered_at: float | None = None
        self._download = ModelDownload(self, self._show, lambda: self._recheck({_MODEL}))
        self._demo_asked = False

    # Layout

    def compose_body(self) -> Iterable[Widget]:
        """A word of welcome while there are no runs, the rows, what the one under the cursor means."""
        yield Static(id="welcome", markup=False)
        with Vertical(id="setup-box"):
            yield SetupList(id="setup-list")
        yield SetupDetails()

    def on_mount(self) -> None:
        """Show all rows at once, then ask."""
        super().on_mount()
        self._checks = {name: SetupCheck(name, title) for name, title in self.flux.setup.titles.items()}
        self._show()
        feed = self.flux.feed
        self.show_runs(RunsChanged(feed.runs, feed.live))
        self.action_recheck_all()

    def on_screen_resume(self) -> None:
        """Ask again if the answers are old."""
        if self._answered_at is not None and time.monotonic() - self._answered_at > _FRESH:
            self.action_recheck_all()

    def on_resize(self, event: events.Resize) -> None:
        """The terminal is another one now."""
        if self._checks and self._checks["terminal"].state != "pending":
            self._check_terminal()

    def show_runs(self, change: RunsChanged) -> None:
        """Whoever has runs needs no welcome."""
        welcome = self.query_one("#welcome", Static)
        welcome.display = change.live and not change.runs
        if welcome.display:
            welcome.update(self._welcome())
        self.refresh_bindings()

    def _welcome(self) -> Content:
        if self._demo_asked:
            return Content("Preparing the demo: pictures and a tiny FLUX. The monitor opens by itself.")
        return Content.assemble(
            ("Welcome. ", "bold"),
            ("d", "bold $text-accent"),
            " tries everything with the demo, here and without an account.\n",
            "For FLUX.1 on a cloud GPU, work down this list with ",
            ("enter", "bold $text-accent"),
            ".",
        )

    # Checking

    def action_recheck_all(self) -> None:
        """Look at everything."""
        self._recheck(None)

    def action_recheck(self) -> None:
        """Look at the row under the cursor."""
        if (name := self._chosen()) is not None:
            self._recheck({name})

    def _recheck(self, only: Collection[str] | None) -> None:
        names = [name for name in self._checks if only is None or name in only]
        this_round = object()
        for name in names:
            self._rounds[name] = this_round
            self._checks[name] = self._checks[name].asked_again()
        if "terminal" in names:
            self._check_terminal()
        self._show()
        asked = [name for name in names if name != "terminal"]
        if asked:
            self._ask(this_round, asked)

    def _check_terminal(self) -> None:
        protocol = current_protocol(self.flux.settings.images)
        self._checks["terminal"] = terminal_check(self.app, self._checks["terminal"].title, protocol)
        self._show()

    @work(group="setup-checks", exit_on_error=False)
    async def _ask(self, this_round: object, names: Collection[str]) -> None:
        def told(check: SetupCheck) -> None:
            if self._rounds.get(check.id) is this_round and check.id in self._checks:
                self._checks[check.id] = check
                self._show()

        problem = "no answer came"
        try:
            await self.flux.setup.check(self._backend, self._config, told, names)
        except SetupError as error:
            problem = str(error)
        except Exception as error:  # a fault of ours; the user must hear of it all the same
            problem = f"the checks themselves failed: {type(error).__name__}: {error}"
        for name in names:  # whatever happened: no row waits for ever
            if self._rounds.get(name) is this_round and self._checks[name].state == "pending":
                self._checks[name] = replace(
                    self._checks[name], state="unknown", detail=problem, fix="look again", page=""
                )
        self._answered_at = time.monotonic()
        self._show()

    # Showing

    def _chosen(self) -> str | None:
        table = next(iter(self.query(SetupList)), None)
        return table.chosen_id if table is not None else None

    def _line(self, check: SetupCheck) -> CheckLine:
        detail = redact(check.detail)
        action = remedy(check)
        fixable = action is not None and action.kind != "copy" and check.state not in ("ok", "pending")
        if check.id == _MODEL and self._download.going:
            check, detail, fixable = replace(check, state="working"), self._download.progress, False
        return CheckLine(check, detail, fixable)

    def _show(self) -> None:
        checks = list(self._checks.values())
        self.query_one(SetupList).show_lines([self._line(check) for check in checks])
        box = self.query_one("#setup-box")
        box.border_title = (
            "Setup for training on Modal" if self._backend == "modal" else "Setup for training here"
        )
        words, ready = summary(checks, self._backend)
        style = "" if ready is None else "$text-success" if ready else "$text-warning"
        room = max(10, self.size.width - 8)
        box.border_subtitle = Content.styled(one_line(words), style).truncate(room, ellipsis=True).markup
        self._show_details()
        self.refresh_bindings()

    def _show_details(self) -> None:
        check = self._checks.get(self._chosen() or "")
        progress = ""
        if check is not None and check.id == _MODEL and self._download.going:
            check, progress = replace(check, state="working"), self._download.progress
        self.query_one(SetupDetails).show_check(check, progress)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """The cursor went to another row."""
        self._show_details()
        self.refresh_bindings()

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide what there is no use for."""
        if action == "stop_waiting":
            return self._download.going
        if action == "start_demo":
            feed = self.flux.feed
            return not self._demo_asked and (self.flux.demo is not None or (feed.live and not feed.runs))
        return True

    def action_other_backend(self) -> None:
        """Judge by the needs of the other place."""
        self._backend = "local" if self._backend == "modal" else "modal"
        self.action_recheck_all()

    def action_copy(self) -> None:
        """Copy the advice of the row under the cursor."""
        check = self._checks.get(self._chosen() or "")
        text = redact((check.page or check.fix or check.detail) if check is not None else "")
        if text:
            self.app.copy_to_clipboard(one_line(text))
            self.notify(f"Copied: {one_line(text)}", markup=False)

    def on_setup_list_chosen(self, message: SetupList.Chosen) -> None:
        """Do something about a row."""
        check = self._checks[message.check_id]
        action = remedy(check)
        if check.id == _MODEL and self._download.going:
            return
        if action is None:
            self.notify(f"{check.title}: there is nothing to do.", markup=False)
            return
        match action.kind:
            case "modal":
                self._enter_modal()
            case "profiles":
                self.action_profiles()
            case "hf":
                self._enter_hf()
            case "page":
                self._open_page(check)
            case "download":
                self._ask_download()
            case "new-run":
                self.action_new_run()
            case "repair":
                self._repair()
            case "copy":
                self.action_copy()

    def _enter_modal(self) -> None:
        from tui.screens.enter_modal_token import ModalTokenScreen

        self.app.push_screen(ModalTokenScreen(self.flux.setup), self._modal_changed)

    def _modal_changed(self, said: str | None) -> None:
        if said is not None:
            if said:
                self.notify(said, title="Modal token", timeout=10, markup=False)
            self._recheck(MODAL_CHECKS)

    def _enter_hf(self) -> None:
        from tui.screens.enter_hf_token import HfTokenScreen

        def answered(said: str | None) -> None:
            if said is not None:
                self.notify(said, title="Hugging Face token", timeout=10, markup=False)
                self._recheck(HF_CHECKS)

        self.app.push_screen(HfTokenScreen(self.flux.setup), answered)

    def _open_page(self, check: SetupCheck) -> None:
        from tui.screens.web_page import WebPageScreen

        def answered(again: bool | None) -> None:
            if again:
                self._recheck({check.id})

        about = redact(f"{check.detail}.\nTo do: {check.fix}.")
        self.app.push_screen(WebPageScreen(check.title, about, check.page), answered)

    def action_profiles(self) -> None:
        """Show Modal's profiles."""
        from tui.screens.modal_profiles import ModalProfilesScreen

        def answered(changed: bool | None) -> None:
            if changed:
                self._modal_changed("")

        self.app.push_screen(ModalProfilesScreen(self.flux.setup), answered)

    def action_new_run(self) -> None:
        """Name a config; it is what the rows are about from then on."""
        from tui.screens.new_run import NewRun, NewRunScreen

        def answered(run: NewRun | None) -> None:
            if run is not None:
                self._config = run.config
                self.flux.actions.launch(run.config, backend=run.backend, overrides=run.overrides)
                self._recheck(None)

        self.app.push_screen(NewRunScreen(self._backend), answered)

    # What takes time

    def _repair(self) -> None:
        self._do("The files were not changed", self._repair_files())

    async def _repair_files(self) -> None:
        await self.flux.setup.repair()
        self._recheck({"secret-files"})

    def _do(self, title: str, doing: Coroutine[Any, Any, None]) -> None:
        async def guarded() -> None:
            try:
                await doing
            except SetupError as error:
                self.post_message(OperationFailed(title, str(error)))

        self.run_worker(guarded(), group="setup-fixes", exit_on_error=False)

    def _ask_download(self) -> None:
        from tui.screens.confirm import ConfirmScreen, Question

        question = Question(
            "Download the base model now?",
            "A container without a GPU downloads it onto your Modal volume: some minutes, a few cents. "
            "It goes on when this screen or the app is left.",
            yes="Download",
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._download.start(self.flux.setup, self._config)

        self.app.push_screen(ConfirmScreen(question), answered)

    def action_stop_waiting(self) -> None:
        """Watch the download no more."""
        self._download.leave()

    def action_start_demo(self) -> None:
        """Prepare the demo and train it; once."""
        if not self._demo_asked:
            self._demo_asked = True
            feed = self.flux.feed
            self.show_runs(RunsChanged(feed.runs, feed.live))
            self._start_demo()

    @work(group="setup-demo", exit_on_error=False)
    async def _start_demo(self) -> None:
        try:
            demo = self.flux.demo or await self.flux.prepare_demo()
        except Exception as error:  # DemoError has a sentence for people; the rest is a fault of ours
            self.post_message(
                OperationFailed("The demo cannot be prepared", str(error) or type(error).__name__)
            )
            self._demo_ended(False)
        else:
            self.flux.actions.launch(demo.config, self._demo_ended, backend=self.flux.backend)

    def _demo_ended(self, started: bool) -> None:
        self._demo_asked = False
        feed = self.flux.feed
        self.show_runs(RunsChanged(feed.runs, feed.live))
