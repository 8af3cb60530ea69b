"""When a live view may repaint without standing in the way of the keys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Holds a repaint back while keys arrive, but not for long.

    Painting a flood of lines takes the event loop for some milliseconds; doing it right after a key
    delays that key's own effect. So a repaint waits until no key came for ``quiet`` seconds, at most
    ``longest`` seconds after the last repaint that was held back.

    Attributes:
        quiet: Seconds without input that make a repaint welcome.
        longest: Seconds after which it happens anyway.
    """

    quiet: float = 0.06
    longest: float = 0.25
    _input: float = float("-inf")
    _held: float | None = None

    def note_input(self, now: float) -> None:
        """A key or mouse event arrived at ``now`` (seconds of a monotonic clock)."""
        self._input = now

    def may_paint(self, now: float, *, busy: bool = False) -> bool:
        """Whether to repaint at ``now``; ``busy`` says that events are waiting to be handled."""
        if not busy and now - self._input >= self.quiet:
            self._held = None
            return True
        if self._held is None:
            self._held = now
        if now - self._held >= self.longest:
            self._held = None
            return True
        return False
