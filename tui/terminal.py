"""Which kind of pictures this terminal can show, from hints that cost no query."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Literal

Protocol = Literal["kitty", "sixel", "half", "off"]

_KITTY_PROGRAMS = {"ghostty", "kitty"}
_SIXEL_PROGRAMS = {"WezTerm", "iTerm.app", "mintty", "contour", "rio"}
_SIXEL_TERMS = ("foot", "mlterm", "contour", "yaft", "xterm-sixel")


def picture_protocol(setting: str, environ: Mapping[str, str], *, is_tty: bool) -> Protocol:
    """How pictures are drawn.

    Half cells (two pixels a cell, made of ordinary coloured text) work everywhere, so they are the
    answer whenever the hints leave a doubt: multiplexers, browsers, unknown terminals. A wrong guess
    the other way would fill the screen with rubbish.

    Args:
        setting: The user's ``images`` setting; anything but ``auto`` is taken at its word.
        environ: Environment variables.
        is_tty: Whether the app draws on a terminal at all.
    """
    if setting == "off":
        return "off"
    if setting == "half" or not is_tty:
        return "half"
    if setting in ("kitty", "sixel"):
        return "kitty" if setting == "kitty" else "sixel"
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or "STY" in environ or term.startswith(("screen", "tmux", "dumb")):
        return "half"
    if environ.get("NO_COLOR"):
        return "half"  # Textual turns these to greys; true pictures would keep their colours
    if "KITTY_WINDOW_ID" in environ or term in ("xterm-kitty", "xterm-ghostty") or program in _KITTY_PROGRAMS:
        return "kitty"
    if program in _SIXEL_PROGRAMS or term.startswith(_SIXEL_TERMS) or "KONSOLE_VERSION" in environ:
        return "sixel"
    return "half"


def import_early(setting: str) -> Protocol:
    """Import ``textual_image`` now if its protocols will be used.

    It asks the terminal for its cell size when it is imported, which works only before Textual has
    taken the terminal over. On all other terminals nothing is imported: half cells are drawn by
    :mod:`tui.widgets.half_cells`.
    """
    protocol = current_protocol(setting)
    if protocol in ("kitty", "sixel"):
        import textual_image.widget  # noqa: F401 - imported for its queries
    return protocol


def current_protocol(setting: str) -> Protocol:
    """:func:`picture_protocol` of this process."""
    if "TEXTUAL_DRIVER" in os.environ and setting != "off":
        return "half"  # in a browser: there is no terminal to ask, or to send pictures to
    return picture_protocol(setting, os.environ, is_tty=_is_tty())


def _is_tty() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stdout__))
