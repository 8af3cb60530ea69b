"""A line for a secret: masked, pasted whole, shown only on demand and for a few seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from textual import events
    from textual.timer import Timer

SHOWN = 10.0
"""Seconds for which a secret stays readable."""

_MOST = 20_000  # characters of one paste
# Line breaks and other controls stand in the line as their pictures, so that all of a paste is kept and none
# of it reaches the terminal raw.
_PICTURES = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}
_CONTROLS = {picture: code for code, picture in _PICTURES.items()}
_INVISIBLE = ((0x80, 0xA0), (0x200B, 0x2010), (0x2028, 0x202F), (0x2060, 0x206A), (0xFEFF, 0xFF00))
_GONE = {code: None for first, end in _INVISIBLE for code in range(first, end)}
LINE_BREAK = "\u240a"


class SecretInput(Input):
    """An :class:`Input` whose text is dots.

    A paste of several lines is taken whole. Nothing is ever copied out of it, and a picture of the screen
    shows dots.
    """

    ALLOW_SELECT: ClassVar[bool] = False

    class Hidden(Message):
        """The secret was readable and is not any more."""

    def __init__(self, *, placeholder: str = "", id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(password=True, placeholder=placeholder, id=id)
        self._hide: Timer | None = None

    @property
    def text(self) -> str:
        """What was typed and pasted, with its line breaks."""
        return self.value.translate(_CONTROLS)

    def on_paste(self, event: events.Paste) -> None:
        """Take all lines; Textual's own line takes the first."""
        event.stop()
        event.prevent_default()
        self._insert(event.text)

    def action_paste(self) -> None:
        """Paste what was copied in this app."""
        self._insert(self.app.clipboard)

    def _insert(self, text: str) -> None:
        plain = text[:_MOST].replace("\r\n", "\n").replace("\r", "\n").translate(_GONE).translate(_PICTURES)
        self.replace(plain, *sorted(self.selection))

    def break_line(self) -> None:
        """Go on in another line: where a terminal sends a paste as key presses, its line breaks are Enter."""
        self.replace(LINE_BREAK, *sorted(self.selection))

    def action_copy(self) -> None:
        """Secrets are not copied."""
        self.app.bell()

    def action_cut(self) -> None:
        """Secrets are deleted, not copied."""
        self.delete_selection()

    def reveal(self) -> None:
        """Make it readable for :data:`SHOWN` seconds."""
        self.conceal()
        self.password = False
        self._hide = self.set_timer(SHOWN, self.conceal)

    def conceal(self) -> None:
        """Make it dots again."""
        if self._hide is not None:
            self._hide.stop()
            self._hide = None
            self.password = True
            self.post_message(self.Hidden())

    @property
    def readable(self) -> bool:
        """Whether it is shown as it is."""
        return not self.password

    def on_blur(self) -> None:
        """Whoever looks elsewhere has read it."""
        self.conceal()
