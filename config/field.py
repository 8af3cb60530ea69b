"""A field of a config's form: what it is, the next value on its scale, and what was typed as a value."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from config.schema.base import DTYPES
from config.source import parse_scalar

if TYPE_CHECKING:
    from config.editing import Path
    from config.help import FieldHelp

FieldKind = Literal["number", "integer", "enum", "bool", "path", "text", "texts", "numbers", "mapping"]

_POWERS = ("rank", "alpha", "lokr_factor")
_PIXELS = ("width", "height", "resolution")


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        path: Where its value stands, from the top of the file, in the spelling that the file uses.
        key: The same inside the process, such as ``train.lr`` or ``datasets.0.resolution``.
        label: Its last part.
        kind: How it is edited; ``texts`` is a list such as the prompts, ``mapping`` anything else.
        help: From the schema.
        value: The file's value as it stands there, or the default.
        is_set: Whether the file has the key.
        changed: Whether the value differs from the default.
        shared: Whether an anchor or alias is in the way, so that others change with it.
        required: Whether it must be given.
        nullable: Whether it may be empty.
        choices: The only values, if there are just these.
        minimum, maximum: Bounds, None without.
        problem: The first thing that ``check`` says about it.
        path_kind: What sort of path it is; None if it is none.
    """

    path: Path
    key: str
    label: str
    kind: FieldKind
    help: FieldHelp
    value: Any
    is_set: bool
    changed: bool
    shared: bool
    required: bool
    nullable: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    problem: str | None
    path_kind: str | None


def step(field: Field, direction: int, *, big: bool = False) -> Any:
    """The next value up (+1) or down (-1): numbers on the scale that suits them, enums and booleans cycle.

    Learning rates and the like go 1, 2, 5, 10; rank and alpha by powers of two; pixels by 64; shares by
    0.05; counts of steps by 50 below 1,000 and by 100 above, others by one. ``big`` is ten times as far.
    A value that has no scale stays.
    """
    value = field.value
    if field.kind == "bool":
        return not bool(value)
    if field.kind == "enum":
        current = str(_dtype_name(value)).lower() if value is not None else ""
        at = field.choices.index(current) if current in field.choices else -1 if direction > 0 else 0
        chosen = field.choices[(at + direction) % len(field.choices)]
        return {"true": True, "false": False}.get(chosen, chosen)
    if field.kind not in ("number", "integer") or isinstance(value, bool):
        return value
    if value is None:
        value = field.minimum or 0
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = field.help.default or 0
    moved = _moved(field, float(value), 1 if direction > 0 else -1, 10 if big else 1)
    return _bounded(field, moved)


def _moved(field: Field, value: float, sign: int, times: int) -> float:
    name = field.help.key.rpartition(".")[2]
    if name in _POWERS and value >= 1:
        power = math.log2(value)
        exact = math.floor(power) if sign < 0 else math.ceil(power)
        return float(2 ** max(0, exact + sign)) if exact == power else float(2**exact)
    if field.kind == "number" and (name == "lr" or 0 < abs(value) < 0.001):
        for _ in range(3 if times > 1 else 1):
            value = _one_two_five(value, sign)
        return value
    if field.help.unit == "pixels" or name in _PIXELS:
        pixels = 64 * (4 if times > 1 else 1)
        return (math.floor(value / pixels) + 1 if sign > 0 else math.ceil(value / pixels) - 1) * float(pixels)
    size: float
    if field.help.unit == "steps":
        size = 10 if value < 100 else 50 if value < 1000 else 100
        if sign < 0 and value in (100, 1000):
            size = 10 if value == 100 else 50
        return value + sign * size * times
    if name == "ema_decay" and 0.5 <= value < 1:  # 0.9, 0.95, 0.98, 0.99, 0.995, ...
        return round(1 - _one_two_five(1 - value, -sign), 9)
    if field.kind == "number" and field.maximum is not None and field.maximum <= 1:
        size = 0.05 if value < 0.9 or times > 1 else 0.01
        return round(value + sign * size * (2 if times > 1 else 1), 6)
    if field.kind == "number":
        size = 0.1 if abs(value) < 1 or (sign < 0 and value == 1) else 0.5 if abs(value) < 10 else 1
        return round(value + sign * size * times, 6)
    return value + sign * times


def _one_two_five(value: float, sign: int) -> float:
    """The next of ..., 1e-4, 2e-4, 5e-4, 1e-3, ... above or below."""
    if value <= 0:
        return 1e-6
    power = math.floor(math.log10(value))
    ladder = [float(f"{digit}e{power + shift}") for shift in (-1, 0, 1) for digit in (1, 2, 5)]
    if sign > 0:
        return min(rung for rung in ladder if rung > value * (1 + 1e-9))
    return max(rung for rung in ladder if rung < value * (1 - 1e-9))


def _bounded(field: Field, value: float) -> Any:
    low, high = field.minimum, field.maximum
    range_ = field.help.range or ""
    if low is not None and value < low:
        value = low
    if low is not None and value == low and "more than" in range_:
        return field.value
    if high is not None and value > high:
        value = high
    if high is not None and value == high and "less than" in range_:
        return field.value
    return int(value) if field.kind == "integer" else float(value)


def parse_value(field: Field, typed: str) -> Any:
    """What a person typed into a field, as a value for the file.

    Raises:
        ValueError: It cannot be one; the sentence says why.
    """
    text = typed.strip()
    if not text:
        if field.nullable:
            return None
        if field.kind in ("text", "path") and not field.required:
            return ""
        raise ValueError(f"{field.label} needs a value")
    if field.kind in ("text", "path"):
        return text
    if field.kind == "bool":
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        if text.lower() not in words:
            raise ValueError(f"{field.label} must be true or false")
        return words[text.lower()]
    if field.kind == "enum":
        if text.lower() in ("true", "false") and text.lower() in field.choices:
            return text.lower() == "true"
        value = text.lower()
        if value not in field.choices and not _valid_choice(field, text):
            near = difflib.get_close_matches(value, field.choices, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it is one of {', '.join(field.choices)}"
            raise ValueError(f"{text} is no {field.label}{hint}")
        return value
    if field.kind in ("number", "integer"):
        return _number(field, text)
    if field.kind == "texts":
        if text.startswith("["):
            listed = _yaml(field, text)
            return [str(item) for item in listed] if isinstance(listed, list) else [text]
        return [line.strip() for line in typed.splitlines() if line.strip()]
    if field.kind == "numbers":
        parsed = _yaml(
            field,
            text if text.startswith("[") else f"[{text.replace(' ', ',') if ',' not in text else text}]",
        )
        numbers = parsed if isinstance(parsed, list) else [parsed]
        if not numbers or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
            raise ValueError(f"{field.label} must be numbers, separated by commas")
        return numbers
    return _yaml(field, text)


def _valid_choice(field: Field, text: str) -> bool:
    """Whether a spelling that is not in the list is understood all the same, such as ``bf16``."""
    return _dtype_name(text) in field.choices


def _dtype_name(value: Any) -> Any:
    return DTYPES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _yaml(field: Field, text: str) -> Any:
    try:
        return parse_scalar(text)
    except ValueError as error:
        raise ValueError(f"{field.label}: {error}") from None


def _number(field: Field, text: str) -> int | float:
    try:
        value = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise ValueError(f"{field.label} must be a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{field.label} must be a number")
    if field.kind == "integer" and value != int(value):
        raise ValueError(f"{field.label} must be a whole number")
    range_ = field.help.range or ""
    low, high = field.minimum, field.maximum
    if (low is not None and (value < low or (value == low and "more than" in range_))) or (
        high is not None and (value > high or (value == high and "less than" in range_))
    ):
        raise ValueError(f"{field.label} must be {range_}")
    return int(value) if field.kind == "integer" else value
