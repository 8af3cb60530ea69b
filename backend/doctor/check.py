"""One check's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

Status = Literal["ok", "warning", "missing", "failed", "unknown"]


class CheckRecord(TypedDict):
    """A check as ``doctor --json`` prints it."""

    id: str
    title: str
    status: Status
    detail: str
    fix: str | None
    needed: bool


@dataclass(frozen=True)
class Check:
    """What was found out about one thing that a launch depends on.

    Attributes:
        id: A stable name: ``modal-token``, ``licence``, …
        title: What was checked, for people.
        status: ``ok``; ``warning`` (works, but look at it); ``missing`` (something is to be set up);
            ``failed`` (it is there and does not work); ``unknown`` (it could not be found out).
        detail: What was found, one line.
        fix: What to do, one sentence; None if nothing is to be done.
        needed: Whether a launch fails as long as this is not ``ok`` or ``warning``.
        repair: Does what ``fix`` says, where that is safe without asking; None where it is not.
        page: The web page on which a person mends it; None if there is none.
    """

    id: str
    title: str
    status: Status
    detail: str
    fix: str | None = None
    needed: bool = True
    repair: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    page: str | None = None

    def record(self) -> CheckRecord:
        """The check as JSON-ready fields."""
        return {
            "id": self.id,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "fix": self.fix,
            "needed": self.needed,
        }


def launch_works(checks: Iterable[Check]) -> bool:
    """Whether nothing that a launch needs is missing, broken or unknown."""
    return all(check.status in ("ok", "warning") for check in checks if check.needed)
