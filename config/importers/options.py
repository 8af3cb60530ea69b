"""The source's options, read one by one so that none is forgotten."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from config.importers.draft import Draft, shown

_TRUE = {"true", "1", "yes", "on", "y", "t"}
_FALSE = {"false", "0", "no", "off", "n", "f", "none", ""}
_SECRET = ("token", "api_key", "apikey", "password", "secret", "access_key")

Reasons = Mapping[str, tuple[str, str]]
"""For a key without equal: the section that its remark stands in, and the reason."""


class ImportRefusedError(Exception):
    """A file cannot be imported; the message reads on after the file's name."""


class Options:
    """Options by name; remembers which were read and which could not be understood."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._read: set[str] = set()
        self.unusable: dict[str, str] = {}

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def raw(self, *keys: str) -> Any:
        """The first of ``keys`` that has a value; None if none has. All count as read."""
        self._read.update(keys)
        return next((self._values[key] for key in keys if self._values.get(key) is not None), None)

    def text(self, *keys: str) -> str | None:
        """The same as text; None if empty."""
        value = self.raw(*keys)
        if isinstance(value, list):
            value = " ".join(map(str, value))
        return str(value).strip() or None if value is not None and not isinstance(value, bool) else None

    def number(self, *keys: str) -> float | None:
        """The same as a finite number."""
        value = self.raw(*keys)
        if value is None or value == "":
            return None
        try:
            number = float(value)
            if math.isfinite(number) and not isinstance(value, bool):
                return number
        except (TypeError, ValueError, OverflowError):
            pass
        self._unusable(keys, value, "is not a number")
        return None

    def integer(self, *keys: str) -> int | None:
        """The same as a whole number."""
        number = self.number(*keys)
        if number is None:
            return None
        if number != int(number):
            self._unusable(keys, number, "is not a whole number")
            return None
        return int(number)

    def flag(self, *keys: str, default: bool = False) -> bool:
        """The same as yes or no."""
        value = self.raw(*keys)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        self._unusable(keys, value, "is neither true nor false")
        return default

    def section(self, key: str) -> Options:
        """Options inside the option ``key``; empty if it is no mapping."""
        value = self.raw(key)
        return Options(value if isinstance(value, dict) else {})

    def _unusable(self, keys: tuple[str, ...], value: Any, what: str) -> None:
        key = next(key for key in keys if self._values.get(key) is not None)
        self.unusable[key] = f"{key}: {shown(value)} {what}; it was left out"

    def left(self) -> Iterator[tuple[str, Any]]:
        """Options that nobody read and that say something."""
        for key, value in self._values.items():
            if key not in self._read and value not in (None, False, "", [], {}, 0):
                yield key, value

    def explain_rest(
        self, draft: Draft, reasons: Reasons, quiet: Mapping[str, str], prefix: str = ""
    ) -> None:
        """Leave a comment for every option that was not taken over."""
        for text in self.unusable.values():
            draft[""].note(f"{prefix}{text}")
        for key, value in self.left():
            what = f"{prefix}{key}" if _is_secret(key) else f"{prefix}{key}: {shown(value)}"
            if key in quiet:
                draft.quiet[prefix + key] = quiet[key]
            elif key in reasons:
                section, reason = reasons[key]
                draft[section].note(f"{what}  has no equal: {reason}")
            elif _is_secret(key):
                draft.quiet[prefix + key] = "secrets belong in .env or in the environment"
            else:
                draft[""].note(f"{what}  is not known to this importer and was left out")


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in _SECRET) and not key.lower().startswith(
        ("keep_token", "max_token", "class_token", "token_warmup")
    )
