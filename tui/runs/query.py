"""Which runs the table shows, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from tui.runs.status import is_live

if TYPE_CHECKING:
    from tui.services import RunRow

Order = Literal["newest", "name", "status", "loss", "progress", "cost", "sweep"]
ORDERS: tuple[Order, ...] = get_args(Order)

_FIELDS = ("status", "name", "id", "where", "tag")


@dataclass(frozen=True)
class RunQuery:
    """What the user wants to see.

    Attributes:
        text: Words that must all fit: in the name, id, status, place or a tag; ``#tag`` and ``status:failed``
            look in one of them only, ``-word`` must not fit.
        order: How the runs are sorted.
        archived: Whether those put away are shown, and only they.
    """

    text: str = ""
    order: Order = "newest"
    archived: bool = False

    def apply(self, runs: Iterable[RunRow]) -> list[RunRow]:
        """The runs to show, in order; ``runs`` are the newest first."""
        words = self.text.lower().split()
        shown = [run for run in runs if run.archived == self.archived and _fits_all(run, words)]
        if self.order == "sweep":
            return _by_sweep(shown)
        key = _KEYS.get(self.order)
        return sorted(shown, key=key) if key is not None else shown


def _fits_all(run: RunRow, words: Sequence[str]) -> bool:
    return all(
        _fits(run, word[1:]) is False if len(word) > 1 and word[0] == "-" else _fits(run, word)
        for word in words
    )


def _fits(run: RunRow, word: str) -> bool:
    field, colon, rest = word.partition(":")
    if word.startswith("#"):
        return any(tag.startswith(word[1:]) for tag in run.tags)
    values = {
        "status": (str(run.status),),
        "name": (run.name.lower(),),
        "id": (run.id,),
        "where": (run.backend,),
        "tag": run.tags,
    }
    if colon and field in _FIELDS:
        return any(rest in value for value in values[field])
    return any(word in value for group in values.values() for value in group)


def _missing_last(value: float | None) -> tuple[bool, float]:
    missing = value is None or value != value
    return missing, 0.0 if missing or value is None else value


_KEYS: dict[Order, Callable[[RunRow], Any]] = {
    "name": lambda run: run.name.casefold(),
    "status": lambda run: (not is_live(run.status), str(run.status)),
    "loss": lambda run: _missing_last(run.loss),
    "progress": lambda run: -(run.step / run.steps if run.steps else 0.0),
    "cost": lambda run: -(run.dollars or 0.0),
}


def sweep_name(run: RunRow) -> str:
    """The group of runs that ``run`` belongs to."""
    from backend.runs.compare import sweep_of  # not before the first paint

    return sweep_of(run.name, run.tags)


def _by_sweep(runs: list[RunRow]) -> list[RunRow]:
    """Runs of a group together, the groups by their newest run."""
    groups: dict[str, list[RunRow]] = {}
    for run in runs:
        groups.setdefault(sweep_name(run), []).append(run)
    return [run for group in groups.values() for run in group]


def leads(runs: Sequence[RunRow]) -> list[str]:
    """What stands before each name where runs are grouped: ``▾`` over a group of several, a branch below."""
    names = [sweep_name(run) for run in runs]
    found = []
    for place, name in enumerate(names):
        before = place > 0 and names[place - 1] == name
        after = place + 1 < len(names) and names[place + 1] == name
        found.append(("└ " if not after else "├ ") if before else "▾ " if after else "")
    return found
