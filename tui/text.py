"""Numbers and user text as short words for a narrow screen."""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len, set_cell_size

ELLIPSIS = "…"


def duration(seconds: float) -> str:
    """``seconds`` in its two largest units: ``45s``, ``12m 30s``, ``3h 05m``, ``2d 4h``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, secs = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {secs:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h"


def age(seconds: float) -> str:
    """``seconds`` in its largest unit: ``now``, ``5m``, ``3h``, ``12d``."""
    if seconds < 60:
        return "now"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "now"


def pace(seconds_per_step: float) -> str:
    """The speed in whichever of s/step and steps/s is above one."""
    if seconds_per_step <= 0 or not math.isfinite(seconds_per_step):
        return "?"
    if seconds_per_step >= 1:
        return f"{seconds_per_step:.1f} s/step"
    return f"{1 / seconds_per_step:.1f} steps/s"


def number(value: float | None) -> str:
    """A loss or learning rate in at most seven characters; a dash for None."""
    if value is None:
        return "–"  # noqa: RUF001 - a dash, not a minus
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 10_000 or size < 0.001:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+", "e").replace("e0", "e")
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.4f}" if size < 10 else f"{value:.3f}"


def size(count: int) -> str:
    """``count`` bytes with a binary unit: ``912 B``, ``1.2 GiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def one_line(text: str) -> str:
    """``text`` without line breaks, terminal controls and invisible direction marks.

    Each of them becomes a space or nothing, so that a run's name or a prompt can never move the
    cursor, start an escape sequence or reverse its neighbours.
    """
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    for char in text:
        if char in "\n\r\t\v\f\x85\u2028\u2029":
            out.append(" ")
        elif unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn"):
            out.append(char)
    return " ".join("".join(out).split())


def fit(text: str, width: int) -> str:
    """``text`` as one line of exactly ``width`` cells: padded, or cut with an ellipsis."""
    line = one_line(text)
    if width <= 0:
        return ""
    if cell_len(line) <= width:
        return set_cell_size(line, width)
    return set_cell_size(set_cell_size(line, width - 1).rstrip() + ELLIPSIS, width)


def clip(text: str, width: int) -> str:
    """``text`` as one line of at most ``width`` cells."""
    return fit(text, width).rstrip() if width > 0 else ""


def bar(fraction: float, width: int) -> tuple[str, str]:
    """A progress bar of ``width`` cells as its done and its remaining part.

    Half cells are used, so a bar of ``n`` cells shows ``2 n`` steps. The two parts differ by shape
    (thick and thin), so they can be told apart without colour.
    """
    width = max(0, width)
    if not math.isfinite(fraction):
        fraction = 0.0
    halves = int(min(1.0, max(0.0, fraction)) * width * 2)
    full, half = divmod(halves, 2)
    done = "━" * full + ("╸" if half else "")
    return done, "─" * (width - full - half)


def plural(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
