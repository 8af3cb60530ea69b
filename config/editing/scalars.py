"""Values written as YAML or JSON, in the style of what stood there before."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from config.source import is_unquoted_text, parse_scalar

_SPECIAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_NEVER_FIRST = set("-?:,[]{}#&*!|>'\"%@`=<~")


def write(value: Any, *, style: str | None = None, flow: bool = False, is_json: bool = False) -> str:
    """A value on one line.

    Args:
        value: Plain data.
        style: Quotes that stood there before; None for none.
        flow: Whether it stands in brackets.
        is_json: Whether the file is JSON.

    Raises:
        ValueError: It has no such form, such as infinity in JSON.
    """
    if is_json:
        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False)
        except TypeError as error:
            raise ValueError(f"{value!r} cannot stand in JSON") from error
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, str):
        return _text(value, style, flow)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(write(item, style=style, flow=True) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_text(str(k), None, True)}: {write(v, flow=True)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    raise ValueError(f"{value!r} cannot stand in a config")


def number(value: float) -> str:
    """A number as people write it: ``1e-4``, ``0.05``, ``1.0``; reads back as exactly that number."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    if "e" not in text and value and abs(value) < 0.001:
        mantissa, _, exponent = f"{value:.17e}".partition("e")
        digits = text.replace("-", "").lstrip("0.").rstrip("0")
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        text = f"{'-' if value < 0 else ''}{mantissa}e{int(exponent)}"
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    return f"{mantissa}e{'+' if int(exponent) >= 0 else '-'}{abs(int(exponent))}".replace("e+", "e+")


def _text(value: str, style: str | None, flow: bool) -> str:
    if style == "'" and not _SPECIAL.search(value) and "\n" not in value and "\t" not in value:
        return "'" + value.replace("'", "''") + "'"
    if style is None and fits_unquoted(value, flow):
        return value
    return double_quoted(value)


def double_quoted(value: str) -> str:
    """Text in double quotes, as both YAML and JSON read it."""
    text = json.dumps(value, ensure_ascii=False)
    return _SPECIAL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def fits_unquoted(value: str, flow: bool) -> bool:
    """Whether text can stand without quotes and remain that text."""
    if not value or value != value.strip() or value[0] in _NEVER_FIRST or value.endswith(":"):
        return False
    if any(c in value for c in ("\n", "\t", ": ", " #", "\ufeff")) or _SPECIAL.search(value):
        return False
    if value.startswith(("---", "...")) or not is_unquoted_text(value):
        return False
    if flow and (any(c in value for c in ",[]{}") or ":" in value):
        return False
    try:
        return bool(parse_scalar(value) == value)
    except ValueError:
        return False


def block_lines(key: str | None, value: Any, indent: int, eol: str) -> str:
    """A new ``key: value`` (or ``- value`` without a key), sections below it on lines of their own."""
    pad = " " * indent
    head = pad + ("- " if key is None else f"{_text(key, None, False)}: ")
    if isinstance(value, dict) and value:
        if key is None:
            rows = eol.join(block_lines(k, v, indent + 2, eol) for k, v in value.items())
            return head + rows[indent + 2 :]
        return head.rstrip() + eol + eol.join(block_lines(k, v, indent + 2, eol) for k, v in value.items())
    long = isinstance(value, list) and any(isinstance(v, str | dict | list) for v in value)
    if long and key is not None:
        return head.rstrip() + eol + eol.join(block_lines(None, v, indent + 2, eol) for v in value)
    return head + write(value)
