"""What the app knows of the terminal that it draws on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tui.setup import SetupCheck
from tui.terminal import Protocol

if TYPE_CHECKING:
    from textual.app import App

_PICTURES = {
    "kitty": "pictures (kitty)",
    "sixel": "pictures (sixel)",
    "half": "pictures in half cells",
    "off": "pictures off",
}
_COLOURS = {"truecolor": "24-bit colour", "256": "256 colours", "standard": "16 colours"}


def terminal_check(
    app: App[Any], title: str, protocol: Protocol, environ: Mapping[str, str] = os.environ
) -> SetupCheck:
    """The check of the terminal, without asking it anything."""
    width, height = app.size
    colours = _COLOURS.get(str(app.console.color_system), "no colour")
    if app.no_color:
        colours = "no colour (NO_COLOR)"
    detail = f"{width}x{height}, {colours}, {_PICTURES[protocol]}"
    encoding = (getattr(sys.__stdout__, "encoding", None) or "utf-8").lower().replace("-", "")
    fix = ""
    if width < 80 or height < 24:
        fix = "make the window at least 80x24"
    elif encoding != "utf8":
        detail, fix = f"{detail}, {encoding}", "set LANG to a UTF-8 locale"
    elif environ.get("TERM") == "dumb":
        fix = "use a terminal that can move its cursor"
    return SetupCheck("terminal", title, "warning" if fix else "ok", detail, fix)
