"""Asks for a Modal token, in one of three ways, tries it and saves it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, RadioSet, Static

from backend.credentials.modal_command import (
    PasteIncompleteError,
    PasteRefusedError,
    parse_modal_command,
    token_problem,
)
from backend.credentials.redaction import redact
from backend.credentials.secret import Secret
from tui.browser import open_page
from tui.setup import LoginPage, Setup, SetupError
from tui.text import duration, one_line
from tui.widgets.radio import Radio
from tui.widgets.setup_secret import SHOWN, SecretInput

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.timer import Timer

Way = Literal["paste", "type", "browser"]
WAYS: tuple[tuple[Way, str], ...] = (
    ("paste", "Paste the command"),
    ("type", "Type it"),
    ("browser", "Log in with a browser"),
)
TOKENS_PAGE = "https://modal.com/settings/tokens"


@dataclass(frozen=True)
class _Token:
    """A token that looks right."""

    token_id: str
    secret: Secret
    profile: str | None = None
    activate: bool = True


class ModalTokenScreen(ModalScreen[str | None], inherit_bindings=False):
    """The result is what to tell about the saved token, or None.

    Args:
        setup: Tries and saves it.
    """

    AUTO_FOCUS = "#command"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "cancel", "Cancel", id="modal-token.cancel", tooltip="Save nothing."),
        Binding("tab", "app.focus_next", "Next", show=False, id="modal-token.next", tooltip="The next line."),
        Binding(
            "shift+tab",
            "app.focus_previous",
            "Previous",
            show=False,
            id="modal-token.previous",
            tooltip="The line before.",
        ),
        Binding("ctrl+n", "next_way", "Another way", id="modal-token.way", tooltip="Another way to do it."),
        Binding(
            "ctrl+r",
            "reveal",
            "Show",
            id="modal-token.reveal",
            tooltip="Show what is in the line for ten seconds, or hide it.",
        ),
        Binding("ctrl+y", "copy", "Copy address", id="modal-token.copy", tooltip="Copy the page's address."),
    ]
    DEFAULT_CSS = """
    ModalTokenScreen { align: center middle; }
    ModalTokenScreen > Vertical {
        width: 84;
        max-width: 96%;
        height: auto;
        max-height: 96%;
        padding: 1 2;
        border: round $border;
        border-title-style: bold;
        background: $surface;
    }
    ModalTokenScreen RadioSet { layout: horizontal; width: 1fr; height: 1; margin-bottom: 1; }
    ModalTokenScreen RadioSet > Radio { width: auto; margin-right: 3; }
    ModalTokenScreen .way { height: auto; display: none; }
    ModalTokenScreen.-paste #paste, ModalTokenScreen.-type #type, ModalTokenScreen.-browser #browser {
        display: block;
    }
    ModalTokenScreen .field { height: 1; margin-top: 1; }
    ModalTokenScreen .field Label { width: 14; }
    ModalTokenScreen .field Input { width: 1fr; }
    ModalTokenScreen #page { height: auto; }
    ModalTokenScreen #start { margin-top: 1; }
    ModalTokenScreen RadioSet:blur > Radio.-selected > .toggle--label { background: transparent; }
    ModalTokenScreen #verdict { height: auto; min-height: 2; margin-top: 1; }
    ModalTokenScreen #hint { color: $text-muted; }
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self._setup = setup
        self._way: Way = "paste"
        self._untried: str | None = None  # what may be saved though Modal was not reached
        self._page: LoginPage | None = None
        self._began = 0.0
        self._ticking: Timer | None = None
        self._busy = False

    # Layout

    def compose(self) -> ComposeResult:
        """The ways, the lines of each, what is to be said of them."""
        with Vertical() as box:
            box.border_title = "Modal token"
            yield RadioSet(
                *(Radio(title, value=way == "paste", id=way_id(way)) for way, title in WAYS),
                compact=True,
            )
            with Vertical(id="paste", classes="way"):
                yield Static(
                    Content(f"Make a token at {TOKENS_PAGE} and paste the command that the page shows.")
                )
                yield self._field("command", "Command:")
            with Vertical(id="type", classes="way"):
                yield Static(Content("Both parts of the token."))
                yield self._field("token-id", "Id, ak-…:")
                yield self._field("token-secret", "Secret, as-…:")
            with Vertical(id="browser", classes="way"):
                yield Static(id="page", markup=False)
                yield Button("Start", id="start", variant="primary", compact=True)
            yield Static(id="verdict", markup=False)
            yield Static(id="hint", markup=False)

    @staticmethod
    def _field(name: str, label: str) -> Horizontal:
        field = SecretInput(id=name)
        field.compact = True
        return Horizontal(Label(label), field, classes="field")

    def on_mount(self) -> None:
        """Begin with pasting."""
        self._choose("paste")

    def _choose(self, way: Way) -> None:
        self._way, self._untried = way, None
        for other, _ in WAYS:
            self.set_class(other == way, f"-{other}")
        self._say("")
        if way == "browser":
            self._show_page()
        else:
            self._stop_login()
            self._judge()
        hints = {
            "paste": "enter saves it · ctrl+r shows it",
            "type": "enter saves it · ctrl+r shows it",
            "browser": "enter opens it · ctrl+y copies it",
        }
        self.query_one("#hint", Static).update(Content(f"{hints[way]} · ctrl+n another way · esc cancels"))

    @on(RadioSet.Changed)
    def _way_changed(self, event: RadioSet.Changed) -> None:
        self._choose(WAYS[event.index][0])

    def action_next_way(self) -> None:
        """Go on to the next way, ready to be filled in."""
        names = [way for way, _ in WAYS]
        way = names[(names.index(self._way) + 1) % len(names)]
        self.query_one(f"#{way_id(way)}", Radio).value = True
        first = {"paste": "#command", "type": "#token-id", "browser": "#start"}[way]
        self.call_after_refresh(lambda: self.query_one(first).focus())

    # What is typed

    def _text(self, name: str) -> str:
        return self.query_one(f"#{name}", SecretInput).text.strip()

    def _read(self) -> _Token:
        """The token that was entered.

        Raises:
            PasteRefusedError: It is none.
        """
        if self._way == "paste":
            pasted = parse_modal_command(self.query_one("#command", SecretInput).text)
            return _Token(pasted.token_id, pasted.token_secret, pasted.profile, pasted.activate)
        token_id, secret = self._text("token-id"), self._text("token-secret")
        if (problem := token_problem(token_id, secret)) is not None:
            raise PasteRefusedError(problem)
        return _Token(token_id, Secret(secret))

    @property
    def _entered(self) -> str:
        return "\0".join(field.value for field in self.query(SecretInput))

    @on(Input.Changed)
    def _line_changed(self) -> None:
        self._untried = None
        if not self._busy:
            self._judge()

    def _judge(self) -> None:
        """Say at once whether it is a token."""
        if not self._entered.strip("\0"):
            self._say("")
            return
        try:
            token = self._read()
        except PasteIncompleteError as error:
            self._say(f"… {error}", "$text-warning")
        except PasteRefusedError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            known = Secret(token.token_id).masked
            name = f", for profile {token.profile}" if token.profile else ""
            self._say(f"✓ a token, {known}{name}: enter tries it and saves it", "$text-success")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self._busy:
            return
        for field in self.query(SecretInput):
            field.conceal()
        try:
            token = self._read()
        except PasteIncompleteError as error:
            if self._way == "paste" and isinstance(event.input, SecretInput):
                event.input.break_line()
            self._say(f"… {error}", "$text-warning")
        except PasteRefusedError as error:
            if self._way == "type" and event.input.id == "token-id" and not self._text("token-secret"):
                self.query_one("#token-secret").focus()
            else:
                self._say(f"✗ {error}", "$text-error")
        else:
            self._save(token, tried=self._untried != self._entered)

    @work(exclusive=True, group="modal-token", exit_on_error=False)
    async def _save(self, token: _Token, *, tried: bool) -> None:
        self._busy = True
        workspace = ""
        try:
            if tried:
                self._say("Asking Modal whose token it is…")
                workspace = await self._setup.try_modal(token.token_id, token.secret)
            saved = await self._setup.save_modal(
                token.token_id, token.secret, workspace, profile=token.profile, activate=token.activate
            )
        except SetupError as error:
            if error.unreachable and tried:
                self._untried = self._entered
                self._say(f"✗ Not saved: {error}. Press enter again to save it untried.", "$text-error")
            else:
                self._say(f"✗ Not saved: {error}.", "$text-error")
        else:
            self.dismiss(redact(saved.text))
        finally:
            self._busy = False

    # The browser

    def _show_page(self) -> None:
        button = self.query_one("#start", Button)
        if self._page is None:
            text = Content(
                "Modal makes a token after you agree on a web page, in a browser here or on another machine."
            )
            button.label = "Start"
        else:
            parts = [Content("Agree to the login on this page:\n\n"), Content.styled(self._page.url, "bold")]
            if self._page.code:
                parts.append(
                    Content.assemble("\n\nIf it asks for a code: ", (one_line(self._page.code), "bold"))
                )
            text = Content("").join(parts)
            button.label = "Open it again"
        self.query_one("#page", Static).update(text)

    @on(Button.Pressed, "#start")
    def _start_pressed(self) -> None:
        if self._page is not None:
            self._open()
        elif not self._busy:
            self._log_in()

    @work(exclusive=True, group="modal-token", exit_on_error=False)
    async def _log_in(self) -> None:
        self._busy, self._began = True, time.monotonic()
        self._tick()
        self._ticking = self.set_interval(1.0, self._tick)

        def told(page: LoginPage) -> None:
            self._page = LoginPage(one_line(page.url), page.code)
            self._show_page()
            self._open()
            self._tick()

        try:
            saved = await self._setup.log_in(told)
        except SetupError as error:
            self._forget_login()
            self._say(f"✗ {error}.", "$text-error")
        else:
            self.dismiss(redact(saved.text))
        finally:
            self._forget_login()

    def _tick(self) -> None:
        waited = duration(time.monotonic() - self._began)
        what = (
            "Waiting for you to agree in the browser" if self._page is not None else "Asking Modal for a page"
        )
        self._say(f"{what}… {waited}")

    def _forget_login(self) -> None:
        if self._ticking is not None:
            self._ticking.stop()
            self._ticking = None
        self._busy, self._page = False, None
        if self.is_attached and self._way == "browser":
            self._show_page()

    def _stop_login(self) -> None:
        if self._ticking is not None:
            self.workers.cancel_group(self, "modal-token")
            self._forget_login()

    def _open(self) -> None:
        if self._page is not None:
            self.run_worker(open_page(self._page.url), group="browser", exit_on_error=False)

    def action_copy(self) -> None:
        """Copy the address of the page."""
        url = self._page.url if self._page is not None else TOKENS_PAGE
        self.app.copy_to_clipboard(url)
        self.notify("The address is in the clipboard, where the terminal allows it.", markup=False)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """There is nothing to show in a browser."""
        return self._way != "browser" if action == "reveal" else True

    def action_reveal(self) -> None:
        """Show what is in the line for some seconds, or hide it."""
        field = self.focused
        if not isinstance(field, SecretInput):
            return
        if field.readable:
            field.conceal()
        else:
            field.reveal()
            self._say(f"Readable for {SHOWN:.0f} s; ctrl+r hides it.", "$text-warning")

    @on(SecretInput.Hidden)
    def _hidden(self) -> None:
        if not self._busy:
            self._judge()

    def _say(self, text: str, style: str = "") -> None:
        self.query_one("#verdict", Static).update(Content.styled(one_line(redact(text)), style))

    def action_cancel(self) -> None:
        """Save nothing."""
        self.dismiss(None)


def way_id(way: Way) -> str:
    """The id of a way's button."""
    return f"by-{way}"
