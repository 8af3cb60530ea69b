"""A run's log and events as they lie on the volume, read on from where the last reading ended.

The volume shows what was committed last, file by file: a log is read before the list of containers that
says whose its lines are, since every container is in that list before it prints anything.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import IO, cast

from backend.launchers.modal.mirror import KeptLine
from backend.launchers.modal.remote import MissingError, RemoteError, RemoteVolume
from backend.launchers.modal.wire import SEQ_STRIDE

LOG, EVENTS, BOOTS, SAMPLER = "log.txt", "events.jsonl", "state/boots.json", "state/sampler.jsonl"

_IN_MEMORY = 8 << 20  # bytes of new content beyond which it is kept on the disk meanwhile
_PORTION = 2_000  # lines that are passed on together


@dataclass(frozen=True, slots=True)
class Boot:
    """A container of the run: its number, Modal's id of it, and the log's size when it began."""

    number: int
    task: str
    log_offset: int


@dataclass
class Portion:
    """Some of what was read; of the heads, what the files say of the time before the first container.

    Attributes:
        boots: The run's containers so far; in the first portion only.
        log_head: Whole lines.
        event_head: Whole lines.
        lines: Lines of containers.
        events: Events of containers.
        sampler_events: Events of the sampler.
    """

    boots: list[Boot] = field(default_factory=list)
    log_head: bytes = b""
    event_head: bytes = b""
    lines: list[KeptLine] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    sampler_events: list[bytes] = field(default_factory=list)


class VolumeReader:
    """Reads a run's files; what has been read is not read again, unless :meth:`rewind` is called.

    Args:
        volume: The volume.
        folder: The run's folder on it.
    """

    def __init__(self, volume: RemoteVolume, folder: str) -> None:
        self._volume = volume
        self._folder = folder.strip("/")
        self._done: dict[str, int] = {}  # bytes of whole lines that were read, by file
        self._sizes: dict[str, int] = {}  # bytes of the file when it was read last
        self._number = 0  # of the last line read, in its container
        self._boot = 0

    def rewind(self) -> None:
        """Read everything again next time."""
        self._done.clear()
        self._sizes.clear()
        self._number = self._boot = 0

    async def read(self) -> AsyncGenerator[Portion, None]:
        """What is new, in portions; there is always a first one.

        Raises:
            RemoteError: It could not be read. What was passed on before stays read.
        """
        sizes = await self._list()
        with _spool() as log, _spool() as events, _spool() as sampler:
            new_log = await self._fetch(LOG, sizes, log)
            new_events = await self._fetch(EVENTS, sizes, events)
            new_sampler = await self._fetch(SAMPLER, sizes, sampler)
            boots = await self._boots()
            first = Portion(boots=boots)
            if new_log and not self._done.get(LOG):
                first.log_head = self._log_head(log, boots)
            if new_events and not self._done.get(EVENTS):
                first.event_head = self._event_head(events)
            yield first
            if new_log and boots:
                for lines in self._log_lines(log, boots):
                    yield Portion(lines=lines)
            if new_events:
                for found in self._event_lines(events, EVENTS):
                    yield Portion(events=found)
            if new_sampler:
                for found in self._event_lines(sampler, SAMPLER):
                    yield Portion(sampler_events=found)
        self._sizes = sizes

    async def _list(self) -> dict[str, int]:
        """The sizes of the run's files, by their place in the run's folder."""
        sizes: dict[str, int] = {}
        for folder in (self._folder, f"{self._folder}/state"):
            try:
                entries = await self._volume.list(folder)
            except MissingError:
                continue
            for entry in entries:
                if not entry.is_folder:
                    sizes[entry.path.removeprefix(f"{self._folder}/")] = entry.bytes
        return sizes

    async def _fetch(self, name: str, sizes: dict[str, int], into: IO[bytes]) -> bool:
        """Get what a file has beyond what was read; whether there is anything to work through."""
        size = sizes.get(name)
        if size is None:
            return False
        done = self._done.get(name, 0)
        if size < done:  # it was replaced
            self._done.pop(name)
            if name == LOG:
                self._number = self._boot = 0
            done = 0
        elif size == done or size == self._sizes.get(name):
            return False
        try:
            got = await self._volume.read_into(f"{self._folder}/{name}", into, done)
        except MissingError:
            return False
        into.seek(0)
        return got > 0

    async def _boots(self) -> list[Boot]:
        try:
            document = json.loads(await self._volume.read(f"{self._folder}/{BOOTS}"))
            entries = document["boots"]
            return [Boot(int(e["boot"]), str(e.get("task", "")), int(e["log_offset"])) for e in entries]
        except MissingError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RemoteError(f"{self._folder}/{BOOTS} on Modal is damaged: {error}") from error

    # Whole lines only: what follows the last newline is read again next time.

    def _log_head(self, log: IO[bytes], boots: list[Boot]) -> bytes:
        """The lines before the first container's; where there was none yet, all lines."""
        end = boots[0].log_offset if boots else -1
        data = log.read(end)
        log.seek(0)
        return data[: data.rfind(b"\n") + 1]

    def _log_lines(self, log: IO[bytes], boots: list[Boot]) -> Iterator[list[KeptLine]]:
        place = self._done.get(LOG, 0)
        if not place:
            place = boots[0].log_offset
            log.seek(place)
        lines: list[KeptLine] = []
        index = 0
        for raw in log:
            if not raw.endswith(b"\n"):
                break
            while index + 1 < len(boots) and boots[index + 1].log_offset <= place:
                index += 1
            boot = boots[index]
            if boot.number != self._boot:
                self._boot, self._number = boot.number, 0
            self._number += 1
            place += len(raw)
            last_of_a_dead_one = index + 1 < len(boots) and boots[index + 1].log_offset == place
            text = raw.rstrip(b"\r\n").decode("utf-8", "replace")
            lines.append(KeptLine(boot.number, self._number, text, last_of_a_dead_one))
            if len(lines) >= _PORTION:
                yield lines
                lines = []
                self._done[LOG] = place
        yield lines
        self._done[LOG] = place

    def _event_head(self, events: IO[bytes]) -> bytes:
        """The lines before the first event of a container."""
        head = []
        for raw in events:
            if not raw.endswith(b"\n") or _seq(raw) >= SEQ_STRIDE:
                break
            head.append(raw)
        events.seek(0)
        return b"".join(head)

    def _event_lines(self, events: IO[bytes], name: str) -> Iterator[list[bytes]]:
        place = self._done.get(name, 0)
        lines: list[bytes] = []
        for raw in events:
            if not raw.endswith(b"\n"):
                break
            place += len(raw)
            lines.append(raw)
            if len(lines) >= _PORTION:
                yield lines
                lines = []
                self._done[name] = place
        yield lines
        self._done[name] = place


def _seq(line: bytes) -> int:
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, TypeError, KeyError):
        return 0


def _spool() -> IO[bytes]:
    return cast("IO[bytes]", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))
