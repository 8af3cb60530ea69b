"""An in-memory service of runs: same methods as the real one, no processes, no files, no clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    Event,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
)
from backend.launchers.base import (
    EventBatch,
    LaunchError,
    LaunchRequest,
    LogChunk,
    RunFacts,
    RunFile,
    RunState,
)
from backend.runs.commands import Command
from backend.runs.folder import RunRecord
from backend.runs.notes import Notes, write_notes
from backend.runs.registry import RunSummary
from backend.runs.view import RunView
from tui.app import FluxLoraApp
from tui.cloud import CloudError, CloudRun, Leftover, Workspace

if TYPE_CHECKING:
    from textual.app import App
    from textual.pilot import Pilot

NOW = 1_763_906_592.0  # "now" in all tests of screens


def summary(run_id: str = "abcd2345", **fields: Any) -> RunSummary:
    """A run in the table, with sensible facts."""
    known: dict[str, Any] = {
        "name": "my-lora",
        "backend": "local",
        "path": Path("/data/runs/my-lora"),
        "created": NOW - 600,
        "steps": 1000,
        "status": Status.TRAINING,
        "step": 250,
        "loss": 0.1234,
        "seconds_per_step": 1.5,
        "updated": NOW - 1,
    }
    return RunSummary(id=run_id, **(known | fields))


def story(
    steps: int = 250, total: int = 1000, *, end: Status | None = None, samples: Sequence[SampleEvent] = ()
) -> list[Event]:
    """The events of a run that has come to step ``steps``."""
    events: list[Event] = [
        StatusEvent(status=Status.STARTING),
        AttemptEvent(attempt=1, step=0, steps=total, device="cpu", versions={"torch": "2.13.0"}),
        PhaseEvent(phase="caching latents", done=12, total=12),
        StatusEvent(status=Status.TRAINING),
        PhaseEvent(phase="training", done=0, total=total),
    ]
    for step in range(1, steps + 1):
        loss = 0.4 + 0.6 / (1 + step / 20) + 0.05 * ((step * 7919) % 13 - 6) / 6
        events.append(
            StepEvent(
                step=step,
                loss=loss,
                smoothed=0.4 + 0.6 / (1 + step / 20),
                lr=1e-4,
                grad_norm=0.5,
                seconds=1.5,
                memory=1_288_490_188,
            )
        )
        if step % 100 == 0:
            events.append(CheckpointEvent(step=step, path=f"checkpoints/my-lora_{step:09}.safetensors"))
    events += samples
    if end is not None:
        events.append(StatusEvent(status=end))
    return [replace(e, seq=i, t=NOW - 600 + i) for i, e in enumerate(events, 1)]


LOG = b"".join(
    [b"loading the model\n", b"caching latents 12/12\n"]
    + [b"step %d/1000 loss %.4f\n" % (n, 1 / n) for n in range(1, 61)]
    + [b"WARNING the disk is nearly full\n", b"saved my-lora_000000200.safetensors\n"]
)


@dataclass
class FakeRun:
    """One run's record, events and log."""

    summary: RunSummary
    events: list[Event] = field(default_factory=list)
    log: bytes = b""
    truth: RunState | None = None  # what the launcher knows better than the events
    facts: RunFacts = field(default_factory=lambda: RunFacts(where="this machine", safe_to_close=False))
    files: list[RunFile] = field(default_factory=list)

    @property
    def record(self) -> RunRecord:
        s = self.summary
        return RunRecord(
            id=s.id, name=s.name, backend=s.backend, steps=s.steps, created=s.created, path=s.path
        )


class FakeLauncher:
    """Follows runs of memory; notes what it was asked to do."""

    name = "local"

    def __init__(self, service: FakeRuns) -> None:
        self.service = service
        self.asked: list[tuple[str, ...]] = []
        self.failure: Exception | None = None
        self.commands: list[Command] = []
        self.overrides: tuple[str, ...] = ()
        self.downloading: Callable[[int, int], None] | None = None  # of the download that goes on
        self.downloaded = asyncio.Event()  # set it to let downloads end
        self.cancelled = False

    def facts(self, run: RunRecord, view: RunView) -> RunFacts:
        return self.service.runs[run.id].facts

    async def status(self, run: RunRecord) -> RunState:
        fake = self.service.runs[run.id]
        if fake.truth is not None:
            return fake.truth
        view = RunView()
        view.apply(fake.events)
        return RunState(status=view.status, reason=view.reason)

    async def events(
        self, run: RunRecord, offset: int = 0, *, follow: bool = True
    ) -> AsyncIterator[EventBatch]:
        fake = self.service.runs[run.id]
        if self.failure is not None:
            raise self.failure
        while True:
            if offset < len(fake.events):
                batch = fake.events[offset:]
                offset += len(batch)
                yield EventBatch(batch, offset)
            elif not follow or (await self.status(run)).status.ended:
                return
            else:
                await self.service.next_change()

    async def logs(self, run: RunRecord, offset: int = 0, *, follow: bool = True) -> AsyncIterator[LogChunk]:
        fake = self.service.runs[run.id]
        while True:
            if offset < len(fake.log):
                data = fake.log[offset:]
                offset += len(data)
                yield LogChunk(data, offset)
            elif not follow or (await self.status(run)).status.ended:
                return
            else:
                await self.service.next_change()

    async def stop(self, run: RunRecord, *, now: bool = False) -> None:
        self.asked.append(("stop now" if now else "stop", run.id))
        if self.failure is not None:
            raise self.failure
        self.service.update(run.id, status=Status.STOPPING)

    async def command(self, run: RunRecord, command: Command) -> None:
        self.asked.append((command.kind, run.id))
        if self.failure is not None:
            raise self.failure
        self.commands.append(command)

    async def resume(self, run: RunRecord, overrides: Sequence[str] = ()) -> RunRecord:
        self.asked.append(("resume", run.id))
        self.overrides = tuple(overrides)
        if self.failure is not None:
            raise self.failure
        self.service.runs[run.id].truth = None
        self.service.update(run.id, status=Status.STARTING)
        return run

    async def files(self, run: RunRecord) -> list[RunFile]:
        return self.service.runs[run.id].files

    async def delete(self, run: RunRecord) -> None:
        self.asked.append(("delete", run.id))
        if self.failure is not None:
            raise self.failure
        del self.service.runs[run.id]
        self.service.wake()

    async def launch(self, request: LaunchRequest) -> RunRecord:
        raise LaunchError("use the service")

    async def download(
        self,
        run: RunRecord,
        files: Sequence[RunFile],
        destination: Path,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        self.asked.append(("download", *(file.path for file in files)))
        if self.failure is not None:
            raise self.failure
        self.downloading = progress
        try:
            await self.downloaded.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return [destination / file.path for file in files]


class FakeRuns:
    """All runs, in memory. Change them with :meth:`update`, :meth:`add`, :meth:`say`."""

    def __init__(self, *runs: FakeRun | RunSummary) -> None:
        self.runs: dict[str, FakeRun] = {}
        for run in runs:
            fake = run if isinstance(run, FakeRun) else FakeRun(run)
            self.runs[fake.summary.id] = fake
        self.local = FakeLauncher(self)
        self.launched: list[LaunchRequest] = []
        self.backends: list[str] = []
        self.launch_failure: Exception | None = None
        self.list_failure: Exception | None = None
        self._changed: list[asyncio.Future[None]] = []

    async def next_change(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        await future

    def wake(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def update(self, run_id: str, **fields: Any) -> None:
        self.runs[run_id].summary = replace(self.runs[run_id].summary, **fields)
        self.wake()

    def add(self, run: FakeRun | RunSummary) -> None:
        fake = run if isinstance(run, FakeRun) else FakeRun(run)
        self.runs = {fake.summary.id: fake, **self.runs}
        self.wake()

    def say(self, run_id: str, *events: Event, log: bytes = b"") -> None:
        fake = self.runs[run_id]
        first = len(fake.events) + 1
        fake.events += [replace(e, seq=first + i) for i, e in enumerate(events)]
        fake.log += log
        self.wake()

    async def list(self) -> Sequence[RunSummary]:
        if self.list_failure is not None:
            raise self.list_failure
        return [run.summary for run in self.runs.values()]

    async def watch(self) -> AsyncIterator[Sequence[RunSummary]]:
        shown: Sequence[RunSummary] | None = None
        while True:
            waiting = asyncio.ensure_future(self.next_change())
            runs = await self.list()
            if runs != shown:
                shown = runs
                yield runs
            await waiting

    async def record(self, run: str) -> RunRecord:
        if run not in self.runs:
            raise LookupError(f"no run {run}")
        return self.runs[run].record

    async def write_notes(self, run: RunRecord, notes: Notes) -> None:
        write_notes(run.path, notes)
        self.update(run.id, tags=notes.tags, archived=notes.archived)

    def launcher(self, run: RunRecord, /) -> FakeLauncher:
        return self.local

    async def launch(self, request: LaunchRequest, backend: str = "local") -> RunRecord:
        self.launched.append(request)
        self.backends.append(backend)
        if self.launch_failure is not None:
            raise self.launch_failure
        new = summary("newrun22", name=request.config_path.stem, status=Status.STARTING, step=0, loss=None)
        self.add(FakeRun(new, [StatusEvent(seq=1, t=NOW, status=Status.STARTING)]))
        return self.runs["newrun22"].record


def write_picture(path: Path, size: tuple[int, int] = (128, 128), shift: int = 0) -> Path:
    """A small picture with a gradient and a disc."""
    from PIL import Image, ImageDraw

    width, height = size
    picture = Image.new("RGB", size)
    for x in range(width):
        for y in range(height):
            picture.putpixel((x, y), (255 * x // width, 255 * y // height, (90 + shift) % 256))
    ImageDraw.Draw(picture).ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill="orange")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def sample(step: int, index: int = 0, prompt: str = "a fox in the snow") -> SampleEvent:
    """A sample event; its file is for :func:`write_picture` to make."""
    return SampleEvent(
        step=step, index=index, prompt=prompt, seed=42 + index, path=f"samples/{step}_{index}.png"
    )


class FakeCloud:
    """A workspace in memory. Clear ``answering`` to keep it from answering."""

    def __init__(self, *runs: CloudRun, left: Sequence[Leftover] = ()) -> None:
        self.runs = runs
        self.left = list(left)
        self.failure: CloudError | None = None
        self.asked: list[str] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def _answer(self, question: str) -> None:
        self.asked.append(question)
        await self.answering.wait()
        if self.failure is not None:
            raise self.failure

    async def workspace(self) -> Workspace:
        await self._answer("workspace")
        return Workspace("my-workspace", self.runs)

    async def adopt(self, run_id: str) -> str:
        await self._answer(f"adopt {run_id}")
        return run_id

    async def leftovers(self) -> Sequence[Leftover]:
        await self._answer("leftovers")
        return list(self.left)

    async def clean(self) -> int:
        await self._answer("clean")
        gone, self.left = len(self.left), []
        return gone


@dataclass(frozen=True)
class FakeDemo:
    """A prepared demo project."""

    config: Path = Path("/data/demo/demo.yaml")


def make_app(runs: FakeRuns | None = None, *, root: Path, **options: Any) -> FluxLoraApp:
    """The app over runs in memory, with a clock that stands still."""
    service = runs or FakeRuns()
    options.setdefault("clock", lambda: NOW)
    options.setdefault("cloud", FakeCloud)
    app = FluxLoraApp(runs=lambda: service, root=root, **options)
    app.animation_level = "none"
    return app


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``condition`` holds.

    Raises:
        AssertionError: It did not within ``seconds``.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        await asyncio.sleep(0.01)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until the table of runs is live and all is drawn."""
    app = pilot.app
    assert isinstance(app, FluxLoraApp)
    await until(lambda: app.feed.live or app.feed.error)
    await pilot.pause()


async def still(pilot: Pilot[Any]) -> None:
    """Wait until the screen shows the same for some frames: lists scroll to their cursor in a later one."""
    shown, same = "", 0
    while same < 5:
        await pilot.pause(0.03)
        now = screen_text(pilot.app)
        same, shown = same + 1 if now == shown else 0, now


async def open_monitor(pilot: Pilot[Any], *wanted: str) -> None:
    """Go to the monitor as soon as runs are known, and wait until it shows all the words."""
    await settled(pilot)
    await pilot.press("2")
    await until(lambda: all(words in screen_text(pilot.app) for words in wanted))


def screen_text(app: App[Any]) -> str:
    """What the topmost screen shows, as plain lines."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def escapes(text: str) -> bool:
    """Whether ``text`` holds characters that a terminal obeys."""
    return any((ord(char) < 32 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in text)


HOSTILE = (
    "[/",
    "[b]bold[/b]",
    "[@click=app.quit]quit[/]",
    "\x1b[31mred\x1b[0m",
    "\x1b]52;c;aGFjaw==\x07",
    "line one\nline two\r\nthree\ttab",
    "👩‍👩‍👧‍👦 猫 é̂ \u202eright to left\u202c",
    "x" * 300,
    "\x00\x7f\x9b31m",
    "",
)
