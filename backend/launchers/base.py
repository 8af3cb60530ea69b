"""What every launcher can do: the seam between the app and wherever a run trains."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from backend.events import Event, Status
from backend.runs.commands import Command
from backend.runs.folder import RunRecord
from backend.runs.view import RunView


class LaunchError(Exception):
    """A run could not be launched, stopped or resumed; the message is one sentence for people."""


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """What to train.

    Attributes:
        config_path: The YAML or JSON file.
        overrides: ``key.path=value`` strings, in order.
    """

    config_path: Path
    overrides: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class LogChunk:
    """Bytes of the log, and the offset after them: pass it back to go on from there."""

    data: bytes
    offset: int


@dataclass(frozen=True)
class EventBatch:
    """Events in order, and the offset after them: pass it back to go on from there."""

    events: Sequence[Event]
    offset: int


@dataclass(frozen=True, kw_only=True)
class RunState:
    """The truth about a run at one moment: what it said last, corrected by what is known of its process.

    Attributes:
        status: Its status.
        reason: Sentence that goes with it.
        settled: Whether nothing is left to do for a run that has ended, so that nobody need look again.
    """

    status: Status
    reason: str | None = None
    settled: bool = True


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """A file that a run produced.

    Attributes:
        path: Relative to the run's folder, with forward slashes.
        bytes: Its size.
        modified: When it was written, in seconds since 1970; 0 where that is not known.
        sha256: Its checksum as its writer reckoned it, in hexadecimal; empty where nobody did.
    """

    path: str
    bytes: int
    modified: float
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a launcher knows of a run beside what the run says itself.

    Attributes:
        where: Where it trains, for people: ``this machine``, ``Modal, H100``.
        remote: Whether its files are elsewhere and have to be brought home.
        safe_to_close: Whether the run goes on when this machine is switched off.
        online: Whether the place where it trains can be reached; True where there is no way to it.
        link_since: Since when that is so, seconds since 1970; None if unknown.
        link_why: Why it cannot be reached, as a sentence.
        rate: Dollars an hour at most; None where it costs nothing.
        dollars: Dollars so far, as far as can be told from the containers' times.
        projected: Dollars at the end at the present pace; None while it is not known.
        budget: Dollars at which it saves and stops; None without a limit.
        folder: Its folder at the place where it trains; empty if it has none.
    """

    where: str
    remote: bool = False
    safe_to_close: bool = True
    online: bool = True
    link_since: float | None = None
    link_why: str = ""
    rate: float | None = None
    dollars: float | None = None
    projected: float | None = None
    budget: float | None = None
    folder: str = ""


class Launcher(Protocol):
    """Starts runs somewhere and follows them; every method may be called by any process.

    A run is named by its :class:`RunRecord`. Iterators that follow end when the run has ended and
    everything has been delivered; ``follow=False`` ends them at what there is now.
    """

    name: str

    async def launch(self, request: LaunchRequest) -> RunRecord:
        """Start a new run that outlives this process.

        Raises:
            LaunchError: It could not be started.
            ConfigError: The config has errors.
        """
        ...

    def judge(self, run: RunRecord, view: RunView) -> RunState:
        """What the run's own last word (``view``) means, given what is known of its process. No network."""
        ...

    def facts(self, run: RunRecord, view: RunView) -> RunFacts:
        """What is known of the run beside its own words (``view``). A look at small files, no network."""
        ...

    async def status(self, run: RunRecord) -> RunState:
        """The run's status now; never 'training' for a run whose process is gone."""
        ...

    def events(self, run: RunRecord, offset: int = 0, *, follow: bool = True) -> AsyncIterator[EventBatch]:
        """The run's events from byte ``offset`` on."""
        ...

    def logs(self, run: RunRecord, offset: int = 0, *, follow: bool = True) -> AsyncIterator[LogChunk]:
        """The run's log from byte ``offset`` on."""
        ...

    async def stop(self, run: RunRecord, *, now: bool = False) -> None:
        """Ask the run to finish its step, save and stop; ``now`` ends it at once, without saving.

        Returns when the request is delivered, not when the run has stopped.

        Raises:
            LaunchError: The run has ended already, or cannot be reached.
        """
        ...

    async def command(self, run: RunRecord, command: Command) -> None:
        """Ask the trainer for something; it answers with a :class:`backend.events.CommandEvent` of that id.

        Returns when the command is on its way, not when it was carried out.

        Raises:
            LaunchError: The run has ended already, cannot do that, or cannot be reached.
        """
        ...

    async def resume(self, run: RunRecord, overrides: Sequence[str] = ()) -> RunRecord:
        """Take an ended run up again from its last resume state.

        Raises:
            LaunchError: It is running, or finished with nothing left to do.
        """
        ...

    async def delete(self, run: RunRecord) -> None:
        """Delete an ended run's files wherever they are, its local folder included.

        Raises:
            LaunchError: It has not ended, or its files cannot be deleted.
        """
        ...

    async def files(self, run: RunRecord) -> list[RunFile]:
        """The run's files, checkpoints first."""
        ...

    async def download(
        self,
        run: RunRecord,
        files: Sequence[RunFile],
        destination: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Copy files of the run into ``destination``; ``progress(done, total)`` counts bytes.

        Raises:
            LaunchError: A file is gone, or the destination cannot be written.
        """
        ...
