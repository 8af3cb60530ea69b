"""What the screens need of the backend, and how they get it without importing it too early."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from backend.launchers.base import Launcher, LaunchRequest
    from backend.runs.folder import RunRecord
    from backend.runs.notes import Notes
    from tui.cloud import Cloud
    from tui.setup import Setup


class RunRow(Protocol):
    """A run in the table of runs: what ``backend.runs.service.RunSummary`` carries."""

    @property
    def id(self) -> str:
        """Unique id."""

    @property
    def name(self) -> str:
        """``config.name``."""

    @property
    def backend(self) -> str:
        """Name of the launcher."""

    @property
    def status(self) -> str:
        """A status, corrected by what is known of the run's process."""

    @property
    def step(self) -> int:
        """Updates done."""

    @property
    def steps(self) -> int:
        """Updates of the whole run."""

    @property
    def loss(self) -> float | None:
        """Last loss."""

    @property
    def seconds_per_step(self) -> float | None:
        """Moving average over recent steps."""

    @property
    def reason(self) -> str | None:
        """The sentence that came with the status."""

    @property
    def created(self) -> float:
        """Seconds since 1970."""

    @property
    def updated(self) -> float:
        """Time of the last event, seconds since 1970."""

    @property
    def dollars(self) -> float | None:
        """What it has cost so far; None where it costs nothing."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The user's words on it."""

    @property
    def archived(self) -> bool:
        """Whether the user has put it away."""

    @property
    def budget(self) -> float | None:
        """Dollars at which it saves and stops; None without a limit."""

    @property
    def kind(self) -> str:
        """What it does: ``train`` or ``caption``."""

    @property
    def path(self) -> Path:
        """The run's folder."""


class Runs(Protocol):
    """All runs of this user; ``backend.runs.service.RunService`` is one."""

    async def list(self) -> Sequence[RunRow]:
        """Every run, newest first."""
        ...

    def watch(self) -> AsyncIterator[Sequence[RunRow]]:
        """Every run, again after each change."""
        ...

    async def record(self, run: str) -> RunRecord:
        """The record of the run with this id."""
        ...

    def launcher(self, run: RunRecord, /) -> Launcher:
        """The launcher that holds ``run``."""
        ...

    async def launch(self, request: LaunchRequest, backend: str = "local") -> RunRecord:
        """Start a new run on a backend."""
        ...

    async def write_notes(self, run: RunRecord, notes: Notes) -> None:
        """Replace what the user has written on a run."""
        ...


class Demo(Protocol):
    """A prepared demo project; ``backend.demo.DemoProject`` is one."""

    @property
    def config(self) -> Path:
        """The config to train with."""


RunsFactory = Callable[[], Runs]
CloudFactory = Callable[[], "Cloud"]
SetupFactory = Callable[[Path], "Setup"]
DemoFactory = Callable[[Path], Demo]


def local_runs() -> Runs:
    """The runs in the user's data folder. Importing the backend takes a while: call it in a thread."""
    from backend.runs.service import RunService

    return cast("Runs", RunService())


def modal_cloud() -> Cloud:
    """The workspace of the user's Modal token."""
    from tui.cloud import ModalCloud

    return ModalCloud()


def backend_setup(root: Path) -> Setup:
    """The user's accounts and this machine; ``root`` is the data folder."""
    from tui.setup_service import BackendSetup

    return BackendSetup(root)


def local_demo(root: Path) -> Demo:
    """The demo project in the data folder, made now if there is none. Takes seconds: call it in a thread."""
    from backend.demo import prepare_demo

    return prepare_demo(root / "demo")
