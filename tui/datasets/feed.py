"""Keeps a :class:`DatasetSession` true to its folder: what is remembered, then a scan, then watching."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backend.datasets.errors import DatasetError
from backend.datasets.phash import Duplicates, find_duplicates
from backend.datasets.tokens import TokenCounter
from backend.datasets.watch import watch

if TYPE_CHECKING:
    from backend.datasets.problems import Problem
    from backend.datasets.scan import Batch, Item
    from tui.datasets.session import DatasetSession

What = Literal["pictures", "problems", "scanned", "gone", "compared"]

_APART = 0.25  # seconds between two pictures of a scan under way
_SHARE = 10  # at least so many times what showing the last picture took lies between two of them
_CALM = 0.3  # seconds without a change after which problems are looked for
_COMPARED = 1500  # pictures; more are not compared with each other unasked
_ASIDE = 0.002  # seconds that a scan leaves the interpreter to somebody who types, a picture
_PATIENCE = 2.0  # seconds at most that the search for problems waits for a pause of the keys
_BACK = 1.0  # seconds between looks for a folder that is gone


class DatasetFeed:
    """Reads in threads, changes the session on the event loop, and tells of it.

    Args:
        session: What to keep true.
        changed: Told what is new, on the event loop.
        failed: Told, as a sentence, what could not be read.
        typing: Whether somebody types: then reading takes its time. Asked in any thread.
    """

    def __init__(
        self,
        session: DatasetSession,
        changed: Callable[[What], None],
        failed: Callable[[str], None],
        *,
        typing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session, self._changed, self._failed, self._typing = session, changed, failed, typing
        self._stop = asyncio.Event()
        self._halt = threading.Event()
        self._one = asyncio.Lock()  # scan at a time
        self._linting: asyncio.Task[None] | None = None
        self._duplicates: Duplicates | None = None
        self._enough = threading.Event()
        self.scanning = True
        self.gone = False
        self.compared: tuple[int, int] | None = None  # how many of how many, while compare is under way

    @property
    def calm(self) -> bool:
        """Whether all is read and all problems are found."""
        return not self.scanning and self._linting is not None and self._linting.done()

    async def follow(self) -> None:
        """Load, scan, then watch until :meth:`close`."""
        session = self._session
        try:
            cut_short = await asyncio.to_thread(session.unfinished)
        except (DatasetError, OSError) as error:
            self._failed(str(error))
        else:
            for title in cut_short:
                self._failed(
                    f"The edit “{title}” was cut short: some captions are old, some new. u takes it back."
                )
        remembered = await asyncio.to_thread(session.index.load)
        if remembered:
            session.put_scan(remembered, (), ())
            self._changed("pictures")
        session.tokens = await asyncio.to_thread(TokenCounter.find)
        # The watch begins before the scan does, so that nothing falls between them.
        first = asyncio.get_running_loop().create_task(self.read_anew())
        try:
            await self._watch()
        finally:
            await first

    async def read_anew(self) -> None:
        """Read the folder, and what was left to be saved of its captions."""
        await self.scan()
        await self._take_drafts()

    async def _watch(self) -> None:
        session = self._session
        while not self._stop.is_set():
            if self.gone:
                await self._wait_for_folder()
                continue
            try:
                async for changes in watch(session.folder, self._stop):
                    if changes.gone:
                        self._lost()
                        break
                    await self.look(changes.paths)
                else:
                    if not self._stop.is_set():
                        await asyncio.sleep(_BACK)
            except (DatasetError, OSError) as error:
                if not self._session.folder.is_dir():
                    self._lost()
                else:
                    self._failed(f"Changes from outside are not seen: {error}")
                    return

    def close(self) -> None:
        """Stop everything."""
        self._stop.set()
        self._halt.set()
        if self._linting is not None:
            self._linting.cancel()

    def _lost(self) -> None:
        if not self.gone:
            self.gone = True
            self._changed("gone")

    async def _wait_for_folder(self) -> None:
        """A folder that was deleted, or a drive that was pulled out, may come back."""
        try:
            await asyncio.wait_for(self._stop.wait(), _BACK)
        except TimeoutError:
            if await asyncio.to_thread(self._session.folder.is_dir):
                self.gone = False
                await self.scan()

    def _halted(self) -> bool:
        """Asked before each picture, in the thread that reads; steps aside for whoever types."""
        if self._typing():
            time.sleep(_ASIDE)
        return self._halt.is_set()

    async def _take_drafts(self) -> None:
        try:
            self._session.put_drafts(await asyncio.to_thread(self._session.read_drafts))
        except (DatasetError, OSError) as error:
            self._failed(str(error))
        self._changed("pictures")

    # Reading

    async def scan(self) -> None:
        """Read the whole folder; what did not change is taken from the index."""
        async with self._one:
            self.scanning = True
            session, loop = self._session, asyncio.get_running_loop()
            arrived: asyncio.Queue[Batch | Exception | None] = asyncio.Queue()

            def say(batch: Batch | Exception | None) -> None:
                if not self._halt.is_set():
                    loop.call_soon_threadsafe(arrived.put_nowait, batch)

            def read() -> None:
                try:
                    for batch in session.scan(self._halted):
                        say(batch)
                except (DatasetError, OSError) as error:
                    say(error)
                say(None)

            reading = loop.run_in_executor(None, read)
            first = not session.items
            items: list[Item] = []
            orphans: list[Path] = []
            problems: list[Problem] = []
            told, apart = loop.time(), _APART
            failure: Exception | None = None
            while (batch := await arrived.get()) is not None:
                if isinstance(batch, Exception):
                    failure = batch
                    continue
                items += batch.items
                orphans += batch.orphans
                problems += batch.problems
                if first and batch.items:
                    session.put_more(batch.items)
                    if len(items) == len(batch.items) or loop.time() - told > apart:
                        began = loop.time()
                        self._changed("pictures")
                        told = loop.time()
                        apart = max(_APART, _SHARE * (told - began))
            await reading
            self.scanning = False
            if failure is not None:
                if not await asyncio.to_thread(session.folder.is_dir):
                    self._lost()
                else:
                    self._failed(str(failure))
                return
            session.put_scan(items, orphans, problems)
            self._changed("pictures")
            self._changed("scanned")
            self.lint_soon()

    async def look(self, paths: Collection[Path]) -> None:
        """Take up what changed."""
        session = self._session
        if self.scanning:  # it may have read a changed file before it changed
            await self.scan()
            return
        known = list(session.items.values())
        try:
            changes = await asyncio.to_thread(session.look_at, paths, known)
        except (DatasetError, OSError) as error:
            self._failed(str(error))
            return
        if changes is None:
            await self.scan()
        elif changes:
            session.put_changes(changes)
            self._changed("pictures")
            self.lint_soon()

    # Problems

    def lint_soon(self) -> None:
        """Look for problems once no more changes come."""
        if self._linting is not None and not self._linting.done():
            self._linting.cancel()
        self._linting = asyncio.get_running_loop().create_task(self._lint())

    async def _lint(self) -> None:
        await asyncio.sleep(_CALM)
        latest = time.monotonic() + _PATIENCE
        while self._typing() and time.monotonic() < latest:  # noqa: ASYNC110 - a pause tells nobody
            await asyncio.sleep(_CALM / 3)
        session = self._session
        items, orphans = list(session.items.values()), list(session.orphans)
        await self._find(items, orphans)
        if len(items) <= _COMPARED:
            try:
                self._duplicates = await asyncio.to_thread(
                    partial(find_duplicates, items, index=session.index, cancelled=self._halted)
                )
            except (DatasetError, OSError):
                return
            await self._find(items, orphans)

    def stop_comparing(self) -> None:
        """End :meth:`compare`; what was looked at is remembered for the next time."""
        self._enough.set()

    async def compare(self) -> Duplicates | None:
        """Look for pictures that are alike, however many there are; None if it was stopped or failed."""
        session, enough = self._session, self._enough
        items, orphans = list(session.items.values()), list(session.orphans)
        enough.clear()
        self.compared = (0, len(items))
        self._changed("compared")

        def progress(done: int, of: int) -> None:
            self.compared = (done, of)  # read by the screen now and then

        def halted() -> bool:
            return enough.is_set() or self._halt.is_set()

        try:
            found = await asyncio.to_thread(
                partial(find_duplicates, items, index=session.index, cancelled=halted, progress=progress)
            )
        except (DatasetError, OSError) as error:
            self._failed(f"The pictures were not compared: {error}")
            return None
        finally:
            self.compared = None
            self._changed("compared")
        if halted():
            return None
        self._duplicates = found
        await self._find(items, orphans)
        return found

    def _duplicates_of(self, items: list[Item]) -> Duplicates | None:
        """What was found earlier, without pictures that are gone."""
        if self._duplicates is None:
            return None
        names = {item.name for item in items}

        def left(groups: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
            kept = (tuple(name for name in group if name in names) for group in groups)
            return tuple(group for group in kept if len(group) > 1)

        return Duplicates(left(self._duplicates.exact), left(self._duplicates.near))

    async def _find(self, items: list[Item], orphans: list[Path]) -> None:
        try:
            found = await asyncio.to_thread(self._session.lint, items, orphans, self._duplicates_of(items))
        except (DatasetError, OSError) as error:
            self._failed(str(error))
            return
        self._session.put_problems(found)
        self._changed("problems")
