"""One raw line of a log, made fit to be shown.

A log is other people's bytes: progress bars redrawn with carriage returns, colours, and now and then
sequences that would retitle the terminal or fill the clipboard. What comes out of this module holds
printable characters only; colours (SGR) survive as spans beside the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from rich.color import Color
from rich.style import Style

MAX_CHARACTERS = 4096
"""A longer line is cut here, with a mark; search still sees all of it."""

TAB = 8

# CSI; the string sequences OSC, DCS, SOS, PM, APC up to their terminator or the line's end; other ESC pairs;
# and the same in their one-character C1 forms. A sequence cut short by the line's end is removed too.
_STRING = r"[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
_ESCAPE = re.compile(
    rf"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_]{_STRING}|[ -/]*[0-~])?"
    rf"|\x9b[0-?]*[ -/]*[@-~]?|[\x90\x98\x9d\x9e\x9f]{_STRING}"
)
_SGR = re.compile(r"(?:\x1b\[|\x9b)([0-9;:]*)m")
# What is left of C0 and C1 after the sequences are gone (tab and newline apart), all of Unicode's format
# characters, line separators and surrogates (Cf, Zl, Zp, Cs: bidirectional overrides, joiners, tags, the
# signs that reach over Arabic and Syriac numbers), and others that print nothing: fillers, U+FE0F.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_FINAL_RETURNS = re.compile(r"(?m)\r+$")
_OLD_FRAMES = re.compile(r"(?m)^.*\r")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line as it is shown.

    Attributes:
        text: Printable characters only, at most :data:`MAX_CHARACTERS`.
        spans: ``(start, end, style)`` of the coloured parts, in order, in characters.
        hidden: How much was cut off the end, in characters (in bytes for what was never decoded).
    """

    text: str
    spans: tuple[tuple[int, int, Style], ...] = ()
    hidden: int = 0


def parse_line(raw: bytes, omitted: int = 0) -> LogLine:
    """What to show for ``raw``, one line without its newline.

    Only the last frame of a line redrawn with carriage returns is kept; escape sequences other than
    SGR are removed; invalid UTF-8 shows as U+FFFD; tabs become spaces.

    Args:
        raw: The line.
        omitted: Bytes that the store left out at the end; they count as hidden.
    """
    text = last_frame(raw.decode("utf-8", "replace"))
    if text.isascii() and "\x1b" not in text:
        plain = _INVISIBLE.sub("", text).expandtabs(TAB)
        return LogLine(plain[:MAX_CHARACTERS], (), max(0, len(plain) - MAX_CHARACTERS) + omitted)
    return _parse_coloured(text, omitted)


def _parse_coloured(text: str, omitted: int) -> LogLine:
    parts: list[str] = []
    spans: list[tuple[int, int, Style]] = []
    style: Style | None = None
    length = 0
    position = 0
    while position < len(text):
        escape = _ESCAPE.search(text, position)
        end = escape.start() if escape else len(text)
        piece = _INVISIBLE.sub("", text[position:end])
        if "\t" in piece:
            piece = _expand(piece, length)
        if piece:
            if style is not None and length < MAX_CHARACTERS:
                spans.append((length, min(length + len(piece), MAX_CHARACTERS), style))
            parts.append(piece)
            length += len(piece)
        if escape is None:
            break
        sgr = _SGR.fullmatch(escape[0])
        if sgr is not None:
            style = sgr_style(style, sgr[1])
        position = escape.end()
    whole = "".join(parts)
    return LogLine(whole[:MAX_CHARACTERS], tuple(spans), max(0, length - MAX_CHARACTERS) + omitted)


def _expand(piece: str, column: int) -> str:
    """Expand the tabs of ``piece``, which begins at ``column`` of its line."""
    return (" " * (column % TAB) + piece).expandtabs(TAB)[column % TAB :]


def last_frame(text: str) -> str:
    """What a terminal shows last of a line redrawn with carriage returns (CRLF endings included)."""
    text = text.rstrip("\r")
    return text[text.rfind("\r") + 1 :]


def without(line: LogLine, characters: int) -> LogLine:
    """``line`` without its first ``characters`` characters."""
    if not characters:
        return line
    spans = tuple((max(0, a - characters), b - characters, s) for a, b, s in line.spans if b > characters)
    return LogLine(line.text[characters:], spans, line.hidden)


def visible_text(text: str) -> str:
    """The text of many lines as :func:`parse_line` shows them (uncut); the number of lines stays."""
    if "\r" in text:
        text = _OLD_FRAMES.sub("", _FINAL_RETURNS.sub("", text))
    if "\x1b" in text or not text.isascii():
        text = _ESCAPE.sub("", text)
    return _INVISIBLE.sub("", text).expandtabs(TAB)


@lru_cache(maxsize=1024)
def sgr_style(style: Style | None, parameters: str) -> Style | None:
    """The style after an SGR sequence; None is the default style.

    Blinking and concealed text are left out on purpose: a log must not be able to hide its words.

    Args:
        style: The style before it.
        parameters: What stands between ``CSI`` and ``m``, e.g. ``1;38;5;208``.
    """
    codes = [int(code) if code else 0 for code in re.split("[;:]", parameters[:256])]
    codes = [min(code, 255) for code in codes]
    index = 0
    while index < len(codes):
        code = codes[index]
        index += 1
        if code == 0:
            style = None
        elif code in _ATTRIBUTES:
            style = (style or Style()) + _ATTRIBUTES[code]
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style = (style or Style()) + _foreground(code - 30 if code < 90 else code - 82)
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style = (style or Style()) + _background(code - 40 if code < 100 else code - 92)
        elif code in (39, 49):
            style = (style or Style()) + (_NO_COLOUR if code == 39 else _NO_BACKGROUND)
        elif code in (38, 48):
            make = _foreground if code == 38 else _background
            if codes[index : index + 1] == [5] and len(codes) > index + 1:
                style = (style or Style()) + make(codes[index + 1])
                index += 2
            elif codes[index : index + 1] == [2] and len(codes) > index + 3:
                red, green, blue = codes[index + 1 : index + 4]
                colour = Color.from_rgb(red, green, blue)
                style = (style or Style()) + (Style(color=colour) if code == 38 else Style(bgcolor=colour))
                index += 4
            else:
                break  # malformed: what follows cannot be told from its parameters
    return style


_NO_COLOUR = Style(color="default")
_NO_BACKGROUND = Style(bgcolor="default")
_ATTRIBUTES = {
    1: Style(bold=True),
    2: Style(dim=True),
    3: Style(italic=True),
    4: Style(underline=True),
    7: Style(reverse=True),
    9: Style(strike=True),
    22: Style(bold=False, dim=False),
    23: Style(italic=False),
    24: Style(underline=False),
    27: Style(reverse=False),
    29: Style(strike=False),
}


def _foreground(number: int) -> Style:
    return Style(color=Color.from_ansi(number))


def _background(number: int) -> Style:
    return Style(bgcolor=Color.from_ansi(number))
