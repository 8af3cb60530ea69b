"""Notices on the desktop, through the terminal: no program, no permission, and over SSH too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tui.text import clip

Kind = Literal["osc9", "osc99", "osc777", ""]

_ESC, _END = "\x1b]", "\x1b\\"


def notice_kind(environ: Mapping[str, str], *, is_tty: bool) -> Kind:
    """Which sequence this terminal shows as a notice; empty if none is known to be safe.

    kitty has its own (OSC 99), foot, urxvt and contour urxvt's (OSC 777), iTerm2, WezTerm, Ghostty and
    Windows Terminal iTerm2's (OSC 9). Multiplexers keep such sequences to themselves, and an unknown terminal
    may print them, so both get nothing: the bell rings anyway.
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if not is_tty or "TMUX" in environ or "STY" in environ or "TEXTUAL_DRIVER" in environ:
        return ""
    if term.startswith(("screen", "tmux", "dumb", "linux")):
        return ""
    if "KITTY_WINDOW_ID" in environ or term == "xterm-kitty":
        return "osc99"
    if term.startswith(("foot", "rxvt", "contour")):
        return "osc777"
    known = program in ("iTerm.app", "WezTerm", "ghostty")
    return "osc9" if known or term == "xterm-ghostty" or "WT_SESSION" in environ else ""


def notice(kind: Kind, title: str, text: str) -> str:
    """The sequence that shows a notice; user text in it can end or begin no other sequence."""
    head, body = clip(title, 80).replace(";", ","), clip(text, 200).replace(";", ",")
    match kind:
        case "osc9":
            return f"{_ESC}9;{head}: {body}{_END}"
        case "osc777":
            return f"{_ESC}777;notify;{head};{body}{_END}"
        case "osc99":
            return f"{_ESC}99;i=fluxlora:d=0:p=title;{head}{_END}{_ESC}99;i=fluxlora:d=1:p=body;{body}{_END}"
        case _:
            return ""
