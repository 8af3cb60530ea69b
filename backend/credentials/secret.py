"""A value that does not print itself."""

from __future__ import annotations

from typing import Any, NoReturn

from backend.credentials.redaction import remember


class Secret:
    """A token or password; only :meth:`reveal` gives the value.

    It is no ``str``: it cannot be joined, logged, put into JSON or pickled by accident. Whatever was once
    a Secret is hidden by :func:`backend.credentials.redaction.redact` for the rest of the process.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember(value)

    def reveal(self) -> str:
        """The value itself; for the request, the file or the prompt that needs it, and nothing else."""
        return self._value

    @property
    def masked(self) -> str:
        """Enough to tell two tokens apart: ``hf_…wxyz``; of short values nothing."""
        if len(self._value) < 16:
            return "…"
        head = next((p for p in ("hf_", "ak-", "as-") if self._value.startswith(p)), "")
        return f"{head}…{self._value[-4:]}"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    def __str__(self) -> str:
        return "(secret)"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
