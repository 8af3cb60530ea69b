"""Asks for a Hugging Face token, tries it and saves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, RadioSet, Static

from backend.credentials.errors import CredentialsError
from backend.credentials.hf_token import parse_hf_token
from backend.credentials.pasted import PasteRefusedError
from backend.credentials.redaction import redact
from tui.screens.confirm import ConfirmScreen, Question
from tui.setup import HfPlace, HfPlaces, Saved, Setup, SetupError
from tui.text import one_line
from tui.widgets.radio import Radio
from tui.widgets.setup_secret import SHOWN, SecretInput

if TYPE_CHECKING:
    from pathlib import Path

    from textual.app import ComposeResult

    from backend.credentials.secret import Secret

_PATH = 40  # cells for a path
_PLACES: tuple[HfPlace, ...] = ("dotenv", "hub")


def _end_of(path: Path) -> str:
    """A path in :data:`_PATH` cells; its end tells more than its beginning."""
    text = one_line(str(path))
    while cell_len(text) > _PATH:
        text = "…" + text.removeprefix("…")[1:]
    return text


class HfTokenScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is what to tell about the saved token, or None.

    Args:
        setup: Tries and saves it.
    """

    AUTO_FOCUS = "#token"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="hf-token.cancel", tooltip="Save nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="hf-token.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="hf-token.previous",
            tooltip="The line before.",
        ),
        Binding(
            "ctrl+n", "next_place", "Other file", id="hf-token.place", tooltip="Save it in the other file."
        ),
        Binding(
            "ctrl+r",
            "reveal",
            "Show",
            id="hf-token.reveal",
            tooltip="Show what is in the line for ten seconds, or hide it.",
        ),
        Binding("ctrl+y", "copy", "Copy address", id="hf-token.copy", tooltip="Copy the page's address."),
    ]
    DEFAULT_CSS = """
    HfTokenScreen { align: center middle; }
    HfTokenScreen > Vertical {
        width: 84;
        max-width: 96%;
        height: auto;
        max-height: 96%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    HfTokenScreen .field { height: 1; margin-top: 1; }
    HfTokenScreen .field Label { width: 10; }
    HfTokenScreen .field Input { width: 1fr; }
    HfTokenScreen RadioSet { width: 1fr; height: auto; margin-top: 1; }
    HfTokenScreen RadioSet:blur > Radio.-selected > .toggle--label { background: transparent; }
    HfTokenScreen #verdict { height: auto; min-height: 2; margin-top: 1; }
    HfTokenScreen #hint { color: $text-muted; }
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self._setup = setup
        self._places: HfPlaces | None = None
        self._untried: str | None = None  # what may be saved though the Hub was not reached
        self._busy = False
        self._page = ""

    def compose(self) -> ComposeResult:
        """The line, where it goes, what is to be said of it."""
        from backend.hub_account import token_page

        self._page = token_page()
        field = SecretInput(id="token")
        field.compact = True
        with Vertical() as box:
            box.border_title = "Hugging Face token"
            yield Static(Content("Make a token on this page (all it needs is ticked) and paste it:"))
            yield Static(Content.styled(one_line(self._page), "bold"))
            yield Horizontal(Label("Token:"), field, classes="field")
            yield RadioSet(
                Radio("Save it for this project, in .env", id="dotenv"),
                Radio("Save it for everything on this machine, in the Hub's own file", value=True, id="hub"),
                compact=True,
            )
            yield Static(id="verdict", markup=False)
            yield Static(
                Content(
                    "enter saves it · ctrl+r shows it · ctrl+n other file\n"
                    "ctrl+y copies the address of the page · esc cancels"
                ),
                id="hint",
            )

    def on_mount(self) -> None:
        """Find out where tokens stand."""
        self._find_places()

    @work(exclusive=True, group="hf-places", exit_on_error=False)
    async def _find_places(self) -> None:
        places = await self._setup.hf_places()
        self._places = places
        dotenv, hub = self.query_one("#dotenv", Radio), self.query_one("#hub", Radio)
        dotenv.label = Content(f"Save it for this project: {_end_of(places.dotenv)}")
        hub.label = Content(f"Save it for this machine: {_end_of(places.hub)}")
        self.query_one(f"#{places.best}", Radio).value = True

    @property
    def _field(self) -> SecretInput:
        return self.query_one("#token", SecretInput)

    @property
    def _place(self) -> HfPlace:
        return "dotenv" if self.query_one("#dotenv", Radio).value else "hub"

    # What is typed

    @on(Input.Changed)
    def _line_changed(self) -> None:
        self._untried = None
        if not self._busy:
            self._judge()

    def _judge(self) -> None:
        """Say at once whether it is a token."""
        if not self._field.value:
            self._say("")
            return
        try:
            token = parse_hf_token(self._field.text)
        except PasteRefusedError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._say(f"✓ a token, {token.masked}: enter tries it and saves it", "$text-success")

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if self._busy:
            return
        self._field.conceal()
        try:
            token = parse_hf_token(self._field.text)
        except PasteRefusedError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._save(token, tried=self._untried != self._field.value)

    @work(exclusive=True, group="hf-token", exit_on_error=False)
    async def _save(self, token: Secret, *, tried: bool) -> None:
        self._busy = True
        whose = ""
        try:
            if tried:
                self._say("Asking the Hub whose token it is…")
                whose = await self._setup.try_hf(token)
            saved = await self._setup.save_hf(token, self._place, whose)
        except SetupError as error:
            if error.unreachable and tried:
                self._untried = self._field.value
                self._say(f"✗ Not saved: {error}. Press enter again to save it untried.", "$text-error")
            else:
                self._say(f"✗ Not saved: {error}.", "$text-error")
        else:
            self._saved(saved)
        finally:
            self._busy = False

    def _saved(self, saved: Saved) -> None:
        """Close; git is kept away from the token before, if the user likes."""
        proposal = saved.proposal
        if proposal is None:
            self.dismiss(redact(saved.text))
            return
        self._field.value = ""
        question = Question(
            "Keep the token out of git?",
            f"git would take .env along. The line {proposal.line} in {proposal.file} prevents that.",
            yes="Add the line",
            no="Leave it",
        )

        def answered(yes: bool | None) -> None:
            text = saved.text
            if yes:
                try:
                    proposal.apply()
                    text += f" {proposal.file} has the line {proposal.line} now."
                except CredentialsError as error:
                    text += f" But the line was not added: {error}."
            self.dismiss(redact(text))

        self.app.push_screen(ConfirmScreen(question), answered)

    # Keys

    def action_next_place(self) -> None:
        """Save it in the other file."""
        other = _PLACES[1 - _PLACES.index(self._place)]
        self.query_one(f"#{other}", Radio).value = True

    def action_reveal(self) -> None:
        """Show what is in the line for some seconds, or hide it."""
        if self._field.readable:
            self._field.conceal()
        elif self.focused is self._field:
            self._field.reveal()
            self._say(f"Readable for {SHOWN:.0f} s; ctrl+r hides it.", "$text-warning")

    @on(SecretInput.Hidden)
    def _hidden(self) -> None:
        if not self._busy:
            self._judge()

    def action_copy(self) -> None:
        """Copy the address of the page."""
        self.app.copy_to_clipboard(self._page)
        self.notify("The address is in the clipboard, where the terminal allows it.", markup=False)

    def _say(self, text: str, style: str = "") -> None:
        self.query_one("#verdict", Static).update(Content.styled(one_line(redact(text)), style))

    def action_cancel(self) -> None:
        """Save nothing."""
        self.dismiss(None)
