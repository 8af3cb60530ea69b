"""The pictures that are shown, in order: where the cursor is and which of them are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Shelf:
    """A list of names with a cursor and a selection; both stay with their names when the list changes.

    Names that are filtered away stay chosen and are there again when the filter goes; those that are
    gone from the dataset are forgotten by :meth:`forget_others`.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.cursor = 0
        self._at: dict[str, int] = {}
        self._chosen: set[str] = set()
        self._anchor: str | None = None

    def __len__(self) -> int:
        return len(self.names)

    def show(self, names: Sequence[str]) -> None:
        """Have these names, in this order; the cursor stays on its name, else near its place."""
        current = self.current
        self.names = tuple(names)
        self._at = {name: index for index, name in enumerate(self.names)}
        at = self._at.get(current) if current is not None else None
        self.cursor = at if at is not None else max(0, min(self.cursor, len(self.names) - 1))

    def forget_others(self, existing: Iterable[str]) -> None:
        """Nothing but ``existing`` can be chosen."""
        self._chosen &= set(existing)

    @property
    def current(self) -> str | None:
        """The name under the cursor."""
        return self.names[self.cursor] if self.cursor < len(self.names) else None

    def index(self, name: str) -> int | None:
        """Where a name stands."""
        return self._at.get(name)

    def go(self, index: int) -> bool:
        """Put the cursor on an index, or the nearest there is; whether it moved."""
        before, self.cursor = self.cursor, max(0, min(index, len(self.names) - 1))
        return self.cursor != before

    # Choosing

    @property
    def chosen(self) -> tuple[str, ...]:
        """The chosen names that are shown, in their order."""
        return tuple(name for name in self.names if name in self._chosen)

    @property
    def hidden(self) -> int:
        """How many chosen names are filtered away."""
        return len(self._chosen) - sum(name in self._at for name in self._chosen)

    def is_chosen(self, name: str) -> bool:
        """Whether a name is chosen."""
        return name in self._chosen

    def toggle(self) -> None:
        """Choose the name under the cursor, or do not any more."""
        if (name := self.current) is not None:
            self._chosen ^= {name}
            self._anchor = name

    def choose_range(self) -> None:
        """Choose everything between the last toggled name and the cursor."""
        if self.current is None:
            return
        start = self._at.get(self._anchor, self.cursor) if self._anchor is not None else self.cursor
        low, high = sorted((start, self.cursor))
        self._chosen |= set(self.names[low : high + 1])
        self._anchor = self.current

    def choose_all(self) -> None:
        """Choose all that is shown; nothing, if all was chosen already."""
        shown = set(self.names)
        if shown <= self._chosen:
            self._chosen -= shown
        else:
            self._chosen |= shown

    def invert(self) -> None:
        """Choose of what is shown what was not."""
        self._chosen ^= set(self.names)

    def choose_none(self) -> bool:
        """Choose nothing; whether there was something."""
        had = bool(self._chosen)
        self._chosen.clear()
        self._anchor = None
        return had
