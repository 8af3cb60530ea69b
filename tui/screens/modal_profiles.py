"""The profiles of Modal's config file: switch to another one, or remove one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from backend.credentials.redaction import redact
from tui.setup import ModalProfile, ModalProfiles, Setup, SetupError
from tui.text import fit, one_line

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from textual.app import ComposeResult


class ModalProfilesScreen(ModalScreen[bool], inherit_bindings=False):
    """The result is whether anything was changed.

    Args:
        setup: Reads and changes them.
    """

    AUTO_FOCUS = "#profiles"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,ctrl+c", "close", "Close", id="profiles.close", tooltip="Back to the list."),
        Binding(
            "x,delete", "remove", "Remove", id="profiles.remove", tooltip="Remove the profile; asks first."
        ),
    ]
    DEFAULT_CSS = """
    ModalProfilesScreen { align: center middle; }
    ModalProfilesScreen > Vertical {
        width: 84;
        max-width: 96%;
        height: auto;
        max-height: 96%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    ModalProfilesScreen OptionList {
        height: auto;
        max-height: 12;
        border: none;
        padding: 0;
        &:focus { border: none; }
    }
    ModalProfilesScreen OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    ModalProfilesScreen #note { height: auto; margin-top: 1; }
    ModalProfilesScreen #hint { color: $text-muted; }
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self._setup = setup
        self._found: ModalProfiles | None = None
        self._changed = False

    def compose(self) -> ComposeResult:
        """The profiles and a note about them."""
        with Vertical() as box:
            box.border_title = "Modal profiles"
            yield OptionList(id="profiles", markup=False)
            yield Static(id="note", markup=False)
            yield Static(Content("enter switches to the profile · x removes it · esc closes"), id="hint")

    def on_mount(self) -> None:
        """Read them."""
        self._work(None)

    def _profile(self) -> ModalProfile | None:
        place = self.query_one("#profiles", OptionList).highlighted
        return self._found.profiles[place] if self._found is not None and place is not None else None

    @work(exclusive=True, group="profiles", exit_on_error=False)
    async def _work(self, change: Coroutine[Any, Any, None] | None) -> None:
        """Make a change, if there is one, and show the profiles as they are then."""
        problem = ""
        if change is not None:
            try:
                await change
                self._changed = True
            except SetupError as error:
                problem = f"Nothing was changed: {error}."
        found = await self._setup.profiles()
        self._found = found
        listing = self.query_one("#profiles", OptionList)
        before = listing.highlighted or 0
        listing.set_options([Option(_row(one)) for one in found.profiles])
        if found.profiles:
            listing.highlighted = min(before, len(found.profiles) - 1)
        empty = "" if found.profiles or found.problem else f"There are no profiles in {found.file} yet."
        self._say(problem or found.problem or empty, bad=bool(problem or found.problem))

    def _say(self, text: str, *, bad: bool) -> None:
        note = Content.styled(one_line(redact(text)), "$text-warning" if bad else "$text-muted")
        self.query_one("#note", Static).update(note)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Switch to the profile."""
        event.stop()
        if (profile := self._profile()) is not None and not profile.active:
            self._work(self._setup.activate(profile.name))

    def action_remove(self) -> None:
        """Ask whether to remove the profile."""
        from tui.screens.confirm import ConfirmScreen, Question

        profile = self._profile()
        if profile is None or self._found is None:
            return
        active = " It is the active one: no other becomes active by itself." if profile.active else ""
        question = Question(
            f"Remove the profile {one_line(profile.name)}?",
            f"Its token goes from {one_line(str(self._found.file))}; on Modal's side it stays valid.{active}",
            yes="Remove",
            danger=True,
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._work(self._setup.remove(profile.name))

        self.app.push_screen(ConfirmScreen(question), answered)

    def action_close(self) -> None:
        """Back to the list."""
        self.dismiss(self._changed)


def _row(profile: ModalProfile) -> Content:
    server = f"  {one_line(profile.server)}" if profile.server else ""
    return Content.assemble(
        ("● active  " if profile.active else "○         ", "$text-success" if profile.active else "dim"),
        (fit(profile.name, 28), "bold" if profile.active else ""),
        f"  {one_line(profile.masked)}",
        (server, "dim"),
    )
