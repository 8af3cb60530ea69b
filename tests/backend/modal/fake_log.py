"""An app's output without Modal: what was printed, streams that break, history that may be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from backend.launchers.modal.remote import LogPiece, OfflineError

START_US = 1_760_000_000_000_000


class FakeLog:
    """A :class:`backend.launchers.modal.remote.LogSource`.

    Args:
        replays: Whether a stream begins with all that was printed before.
    """

    def __init__(self, *, replays: bool = False) -> None:
        self.replays = replays
        self.kept: list[LogPiece] = []
        self.now_us = START_US
        self.done = False
        self.online = True
        self.deaf = False  # streams deliver nothing, without breaking
        self.no_history: Exception | None = None
        self.streams = self.fetches = 0
        self.open_streams = 0
        self._changed = asyncio.Condition()

    async def change(self, act: Callable[[], None] = lambda: None) -> None:
        """Do something to the log and tell the streams."""
        async with self._changed:
            act()
            self._changed.notify_all()

    async def say(
        self, text: str, container: str = "ta-1", source: str = "stdout", later_us: int = 1_000
    ) -> None:
        """A piece arrives at Modal."""
        self.now_us += later_us
        piece = LogPiece(text, self.now_us, source, container)
        await self.change(lambda: self.kept.append(piece))

    async def cut(self) -> None:
        """The network goes."""
        await self.change(lambda: setattr(self, "online", False))

    async def heal(self) -> None:
        """The network comes back."""
        await self.change(lambda: setattr(self, "online", True))

    async def end(self) -> None:
        """The app is done."""
        await self.change(lambda: setattr(self, "done", True))

    async def stream(self) -> AsyncIterator[LogPiece]:
        self.streams += 1
        self.open_streams += 1
        try:
            await asyncio.sleep(0)
            place = 0 if self.replays else len(self.kept)
            while True:
                if not self.online:
                    raise OfflineError("reading the log: Modal cannot be reached")
                if place < len(self.kept) and not self.deaf:
                    place += 1
                    yield self.kept[place - 1]
                    continue
                if self.done:
                    return
                seen = len(self.kept)
                async with self._changed:
                    await self._changed.wait_for(
                        lambda seen=seen: (
                            (len(self.kept) > seen and not self.deaf) or self.done or not self.online
                        )
                    )
        finally:
            self.open_streams -= 1

    async def fetch(self, since_us: int | None = None) -> list[LogPiece]:
        self.fetches += 1
        await asyncio.sleep(0)
        if not self.online:
            raise OfflineError("reading the kept log: Modal cannot be reached")
        if self.no_history is not None:
            raise self.no_history
        return [piece for piece in self.kept if since_us is None or piece.at_us >= since_us]
