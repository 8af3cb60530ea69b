"""Putting numbered things in order that come from two places, in any order, some of them never.

Lines of the log are numbered within a container ("boot"), events by ``boot * SEQ_STRIDE + number``: both are
series of pairs (boot, number) without holes within a boot. Nothing here does any input or output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")

OVERHEAD = 200
"""Bytes that an item costs in memory beyond its content, roughly."""


class Fate(Enum):
    """What became of an item."""

    TAKEN = "taken"
    KNOWN = "known"
    """It is there already, or waits already."""
    LATE = "late"
    """It belongs behind what an older boot has given, and a newer boot's items are through."""
    REFUSED = "refused"
    """There is no room for it."""


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """An item that may go now.

    Attributes:
        boot: Its boot.
        number: Its number in the boot.
        item: The item.
        missing: How many before it never came.
    """

    boot: int
    number: int
    item: T
    missing: int = 0


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    item: T
    size: int
    at_us: int


class Series(Generic[T]):
    """One series: what comes is let through in order, and held back behind a gap.

    A boot is never left for the next, and no gap is passed over, before :meth:`complete_below` says that
    nothing more is to be expected of it.

    Args:
        boot: Boot of the last item that went; 0 if none did.
        number: Its number.
        highest: The last numbers of older boots that went.
        limit: Bytes that may be held back.
    """

    def __init__(
        self, boot: int = 0, number: int = 0, highest: Mapping[int, int] | None = None, limit: int = 64 << 20
    ) -> None:
        self.boot, self.number = boot, number
        self.highest: dict[int, int] = dict(highest or {})
        self.newest = boot
        self.refused = False
        self._limit = limit
        self._complete_below = 0
        self._held: dict[int, dict[int, _Held[T]]] = {}
        self._weak: dict[int, dict[int, T]] = {}
        self._bytes = 0

    @property
    def waiting(self) -> bool:
        """Whether anything is held back."""
        return bool(self._held or self._weak)

    @property
    def oldest_us(self) -> int | None:
        """The least time stamp of what is held back, of those that have one."""
        times = [held.at_us for items in self._held.values() for held in items.values() if held.at_us]
        return min(times, default=None)

    def offer(
        self, boot: int, number: int, item: T, size: int, at_us: int = 0, *, weak: bool = False
    ) -> Fate:
        """Take an item in.

        Args:
            boot: Its boot, from 1.
            number: Its number in the boot, from 1.
            item: The item.
            size: Bytes of its content.
            at_us: When it was said, if that is known.
            weak: Whether it is to go only if nobody else has it, when its boot is complete.
        """
        if boot < self.boot:
            return Fate.LATE if number > self.highest.get(boot, 0) else Fate.KNOWN
        if boot == self.boot and number <= self.number:
            return Fate.KNOWN
        self.newest = max(self.newest, boot)
        held = self._held.get(boot)
        if held is not None and number in held:
            return Fate.KNOWN
        if weak:
            self._weak.setdefault(boot, {})[number] = item
            return Fate.TAKEN
        is_next = boot == self.boot and number == self.number + 1
        if self._bytes + size + OVERHEAD > self._limit and not is_next:
            self.refused = True
            return Fate.REFUSED
        self._held.setdefault(boot, {})[number] = _Held(item, size, at_us)
        self._bytes += size + OVERHEAD
        return Fate.TAKEN

    def complete_below(self, boot: int) -> None:
        """All that there is of the boots below ``boot`` has been offered; nobody waits for them any more."""
        self._complete_below = max(self._complete_below, boot)

    def went_late(self, boot: int, number: int) -> None:
        """A late item was dealt with after all; it is known from now on."""
        self.highest[boot] = max(self.highest.get(boot, 0), number)

    def take(self) -> list[Placed[T]]:
        """What may go now, in order."""
        going: list[Placed[T]] = []
        while self._held or self._weak:
            self._take_next(going)
            if self.boot >= self._complete_below:
                break
            self._take_rest(going)
            boots = self._held.keys() | self._weak.keys()
            nearest = min(boots, default=None)
            if nearest is None or nearest > self._complete_below:
                break
            if self.boot:
                self.highest[self.boot] = self.number
            self.boot, self.number = nearest, 0
        return going

    def _take_next(self, going: list[Placed[T]]) -> None:
        """Items of the present boot up to the next gap."""
        held = self._held.get(self.boot)
        while held and (entry := held.pop(self.number + 1, None)) is not None:
            self.number += 1
            self._bytes -= entry.size + OVERHEAD
            going.append(Placed(self.boot, self.number, entry.item))
        self._tidy()

    def _take_rest(self, going: list[Placed[T]]) -> None:
        """All that there is of the present boot, over all gaps."""
        held, weak = self._held.pop(self.boot, {}), self._weak.pop(self.boot, {})
        for number in sorted(held.keys() | weak.keys()):
            entry = held.get(number)
            if entry is not None:
                self._bytes -= entry.size + OVERHEAD
            item = entry.item if entry is not None else weak[number]
            going.append(Placed(self.boot, number, item, number - self.number - 1))
            self.number = number

    def _tidy(self) -> None:
        """Drop what is empty, and weak items that somebody else had."""
        if not self._held.get(self.boot, True):
            del self._held[self.boot]
        weak = self._weak.get(self.boot)
        if weak is not None:
            for number in [n for n in weak if n <= self.number]:
                del weak[number]
            if not weak:
                del self._weak[self.boot]
