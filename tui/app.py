"""The app: its screens, the keys that work everywhere, and what the screens share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from tui.startup import quick_imports, settle

with quick_imports():
    from textual import events, work
    from textual.app import App, SystemCommand
    from textual.binding import Binding, BindingType

    from backend.home import home
    from tui.idle_collector import QUIET, TYPING, IdleCollector
    from tui.messages import EditConfig, OperationFailed, RunChosen, RunStarted
    from tui.modes import MODE_TABLE, make_screen
    from tui.quitting import quit_question
    from tui.runs.actions import RunActions
    from tui.runs.cache import cache_path
    from tui.runs.feed import RunFeed
    from tui.runs.notices import Herald
    from tui.runs.place import is_stand_in
    from tui.services import (
        CloudFactory,
        Demo,
        DemoFactory,
        RunsFactory,
        SetupFactory,
        backend_setup,
        local_demo,
        local_runs,
        modal_cloud,
    )
    from tui.settings import Settings, load_settings, settings_path
    from tui.terminal import import_early
    from tui.themes import ThemeChoice, register_themes

if TYPE_CHECKING:
    from textual.command import Provider
    from textual.screen import Screen
    from textual.widget import Widget

    from tui.cloud import Cloud
    from tui.setup import Setup
    from tui.widgets.setup_secret import SecretInput

_LISTING = 10.0  # seconds for the first list of runs


def run_commands() -> type[Provider]:
    """The command palette's entries about runs, imported when the palette opens."""
    from tui.commands import RunCommands

    return RunCommands


class FluxLoraApp(App[int], inherit_bindings=False):
    """Trains LoRAs and watches them.

    Args:
        runs: Makes the service of runs; called in a thread after the first paint.
        settings: The user's settings.
        root: The data folder.
        cloud: Makes the workspace on Modal; called when it is first asked.
        setup: Makes what the setup screen asks; called when it is first asked.
        make_demo: Prepares the demo project; called in a thread when the demo is wanted.
        greet: Whether a first start with nothing set up opens the setup screen.
        demo: A prepared demo project, ready to be started with one key.
        backend: Where the demo trains, and where a new run does unless told otherwise.
        open_run: Id of the run to open in the monitor.
        clock: The time, seconds since 1970.
    """

    TITLE = "fluxlora-tui"
    CSS = """
    Toast { width: 70; max-width: 90%; }
    """
    MODES: ClassVar[dict[str, Any]] = {mode.name: partial(make_screen, mode) for mode in MODE_TABLE}
    DEFAULT_MODE = MODE_TABLE[0].name
    COMMANDS = App.COMMANDS | {run_commands}
    PAUSE_GC_ON_SCROLL = True
    NOTIFICATION_TIMEOUT = 6
    HELP: ClassVar[str] = "Every key can be changed: see `[keymap]` in the settings file."
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(m.key, f"go('{m.name}')", m.title, show=False, id=f"app.{m.name}", tooltip=m.tooltip)
            for m in MODE_TABLE
        ),
        Binding(
            "ctrl+o", "jump", show=False, priority=True, id="app.jump-anywhere", tooltip="Jump to a pane."
        ),
        Binding(
            "o", "jump", "Jump", id="app.jump", tooltip="Letters over every pane: press one to go there."
        ),
        Binding(
            "ctrl+p",
            "command_palette",
            "Commands",
            priority=True,
            id="app.palette",
            tooltip="Search commands.",
        ),
        Binding("t", "change_theme", "Theme", show=False, id="app.theme", tooltip="Choose the colours."),
        Binding("question_mark,f1", "help", "Help", id="app.help", tooltip="All keys that work right here."),
        Binding("q", "quit", "Quit", id="app.quit", tooltip="Leave the app; runs go on."),
        Binding(
            "ctrl+q", "quit", show=False, priority=True, id="app.quit-anywhere", tooltip="Leave the app."
        ),
        Binding("ctrl+c", "quit", show=False, id="app.interrupt", tooltip="Leave the app."),
        Binding("ctrl+z", "suspend_process", show=False, id="app.suspend", tooltip="Suspend; fg comes back."),
    ]

    def __init__(
        self,
        *,
        runs: RunsFactory = local_runs,
        cloud: CloudFactory = modal_cloud,
        setup: SetupFactory = backend_setup,
        make_demo: DemoFactory = local_demo,
        greet: bool = False,
        settings: Settings | None = None,
        root: Path | None = None,
        demo: Demo | None = None,
        backend: str = "local",
        open_run: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self.root = root = root or home()
        self.settings_path = settings_path(root)
        self.settings = settings if settings is not None else load_settings(self.settings_path)
        self.demo = demo
        self.backend = backend
        self._make_cloud = cloud
        self._cloud: Cloud | None = None
        self._make_setup = setup
        self._setup: Setup | None = None
        self._make_demo = make_demo
        self._greet = greet
        self.clock = clock
        self._collector = IdleCollector()
        self.feed = RunFeed(self, runs, cache_path(root))
        self.actions = RunActions(self, self.feed)
        self._herald = Herald(self, desktop=self.settings.desktop_notices)
        self.current_run: str | None = open_run
        self.keymap = dict(self.settings.keymap)
        register_themes(self)
        self._problems = list(self.settings.problems)
        self._theme_choice = ThemeChoice(self, self.settings_path, self.settings.theme)
        if problem := self._theme_choice.apply():
            self._problems.append(problem)
        self.set_keymap(self.keymap)

    # Start

    def on_ready(self) -> None:
        """After the first paint: everything that takes time."""
        settle()
        self._collector.start()
        self.set_interval(QUIET, self._collector.look)
        self.start_loading()

    def start_loading(self) -> None:
        """Report what is wrong with the settings, watch the runs, open the run that was asked for."""
        from tui.memory import share_one_arena

        share_one_arena()  # before the first thread of many
        if self.settings.keymap:  # checking it imports every pane, so not before the first paint
            from tui.keymap import check_keymap

            self.keymap, problems = check_keymap(self.settings.keymap)
            self.set_keymap(self.keymap)
            self._problems += [f"{self.settings_path}: [keymap]: {problem}" for problem in problems]
        for problem in self._problems:
            self.notify(problem, title="Settings", severity="warning", timeout=12, markup=False)
        self._theme_choice.follow()
        self.feed.herald = self._herald.take
        self._watch_runs()
        self._watch_silence()
        self._look_round()
        if self.current_run is not None:
            self.open_run(self.current_run)

    @work(exclusive=True, group="runs", exit_on_error=False)
    async def _watch_runs(self) -> None:
        await self.feed.watch()

    @work(exclusive=True, group="silence", exit_on_error=False)
    async def _watch_silence(self) -> None:
        from tui.runs.silence import LOOK, SilenceWatch

        watch = SilenceWatch()
        while True:
            await asyncio.sleep(LOOK)
            self._herald.tell(await watch.news(self.feed.going, self.clock()))

    @work(exclusive=True, group="first-start", exit_on_error=False)
    async def _look_round(self) -> None:
        """Learn what must never be shown; greet whoever starts with nothing set up."""
        from tui.first_start import is_first_start, learn_secrets

        has_tokens = await asyncio.to_thread(learn_secrets, Path.cwd())
        await self.feed.refresh(_LISTING)
        if not (self._greet and self.feed.live):
            return
        used = has_tokens or bool(self.feed.runs)
        first = await asyncio.to_thread(partial(is_first_start, self.root, used=used))
        if first and self.current_mode == self.DEFAULT_MODE:  # whoever went elsewhere is not called back
            await self.action_go("setup")

    async def on_unmount(self) -> None:
        """Remember the table of runs for the next start."""
        self._collector.stop()
        await self.feed.close()

    async def on_event(self, event: events.Event) -> None:
        """Textual's; whoever types is not interrupted."""
        if isinstance(event, events.InputEvent):
            self._collector.touch()
        await super().on_event(event)

    @property
    def typing(self) -> bool:
        """Whether the next key is likely to come at once; for any thread."""
        return self._collector.rest < TYPING

    @property
    def cloud(self) -> Cloud:
        """The workspace on Modal."""
        if self._cloud is None:
            self._cloud = self._make_cloud()
        return self._cloud

    @property
    def setup(self) -> Setup:
        """The accounts and this machine."""
        if self._setup is None:
            self._setup = self._make_setup(self.root)
        return self._setup

    async def prepare_demo(self) -> Demo:
        """The demo project, made now if need be.

        Raises:
            Exception: It cannot be made; the message is a sentence for people.
        """
        return await asyncio.to_thread(self._make_demo, self.root)

    # What is shown holds no secret

    def notify(self, message: str, *, title: str = "", **options: Any) -> None:
        """Textual's, without tokens."""
        from backend.credentials.redaction import redact

        super().notify(redact(message), title=redact(title), **options)

    def export_screenshot(self, *, title: str | None = None, simplify: bool = False) -> str:
        """Textual's, with dots even where a secret was made readable."""
        for field in self.screen.query("SecretInput"):
            cast("SecretInput", field).conceal()
        return super().export_screenshot(title=title, simplify=simplify)

    def _fatal_error(self) -> None:
        """Textual's own report shows local variables, and with them whatever was typed."""
        from tui.crash import crash_report

        self.bell()
        self.panic(crash_report(self.root))

    # Screens

    async def action_go(self, mode: str) -> None:
        """Go to a main screen."""
        if not self.screen.is_modal:
            await self.switch_mode(mode)

    def open_run(self, run_id: str) -> None:
        """Show a run in the monitor."""
        self.current_run = run_id
        self.call_later(self.action_go, "monitor")

    def on_run_chosen(self, message: RunChosen) -> None:
        """A run was picked."""
        self.open_run(message.run_id)

    def on_run_started(self, message: RunStarted) -> None:
        """A run was launched: watch it."""
        self.open_run(message.run_id)

    async def on_edit_config(self, message: EditConfig) -> None:
        """Edit a config: in the editor where there is one, else by whatever the user edits files with."""
        await self.action_go("configs")
        open_config = getattr(self.screen, "open_config", None)
        if open_config is not None:
            open_config(message.path)
            return
        await self.action_go("jobs")
        self.actions.new_run(self.backend, str(message.path))
        self.notify(
            f"Edit {message.path}, then press enter here.", title="A copy of its config", markup=False
        )

    def on_operation_failed(self, message: OperationFailed) -> None:
        """Something did not work: say so."""
        self.notify(
            message.reason or "no reason was given",
            title=message.title,
            severity="error",
            timeout=12,
            markup=False,
        )

    # Keys that work everywhere

    async def action_quit(self) -> None:
        """Leave; asks only when something is under way."""
        from tui.screens.confirm import ConfirmScreen

        if isinstance(self.screen, ConfirmScreen):
            return  # one question at a time
        if self.feed.going:  # a run that ended this moment is nothing to ask about
            await self.feed.refresh()
        question = quit_question(len(self.feed.going), self.actions.busy, stand_in=is_stand_in())
        if question is None:
            self.exit(0)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.exit(0)

        self.push_screen(ConfirmScreen(question), answered)

    def action_help(self) -> None:
        """Show the keys of the focused pane, its screen and the app."""
        from tui.screens.help import HelpScreen, help_sections

        if not self.screen.is_modal:
            self.push_screen(HelpScreen(help_sections(self.screen, self.keymap)))

    def action_jump(self) -> None:
        """Put a letter on every pane."""
        from tui.screens.jump import JumpScreen, jump_targets

        if isinstance(self.screen, JumpScreen):
            self.screen.dismiss(None)  # the same key again leaves
            return
        if self.screen.is_modal:
            return
        screen = self.screen

        def answered(target: Widget | None) -> None:
            if target is not None and target.is_attached:
                screen.set_focus(target)

        self.push_screen(JumpScreen(jump_targets(screen)), answered)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The command palette's entries; those about runs are in :mod:`tui.commands`."""
        for mode in MODE_TABLE:
            yield SystemCommand(f"Go to {mode.title}", mode.tooltip, partial(self.action_go, mode.name))
        yield SystemCommand(
            "Theme", "Choose the colours; remembered in the settings file.", self.action_change_theme
        )
        yield SystemCommand("Help", "All keys that work here.", self.action_help)
        yield SystemCommand("Jump", "Letters over every pane: press one to go there.", self.action_jump)
        yield SystemCommand("Quit", "Leave the app; runs go on.", self.action_quit)


def run_app(*, demo: Demo | None = None, backend: str = "local", open_run: str | None = None) -> int:
    """Open the app until the user leaves it.

    Args:
        demo: A prepared demo project, offered for a start with one key.
        backend: Where the demo trains.
        open_run: Id of a run to show at once.

    Returns:
        The exit code: 0 unless the app failed.
    """
    settings = load_settings(settings_path(home()))
    import_early(settings.images)
    greet = demo is None and open_run is None
    app = FluxLoraApp(settings=settings, demo=demo, backend=backend, open_run=open_run, greet=greet)
    return app.run() or app.return_code or 0
