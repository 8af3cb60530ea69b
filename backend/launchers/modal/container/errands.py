"""The other things that a container does: draw a round of samples, download base models, caption pictures.

Each is a child process whose events are printed and whose files are committed, like a run's, but with
nothing to continue: a failure is an answer, and an interruption only passes it on to the child.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.events import Status
from backend.files import write_json
from backend.launchers.modal import wire
from backend.launchers.modal.container.child import Child
from backend.launchers.modal.container.commits import Committer
from backend.launchers.modal.container.events import EventFollower
from backend.launchers.modal.container.interruptions import CANCELLED, PREEMPTED, work_interruptibly
from backend.launchers.modal.container.launch_file import BadLaunchError, LaunchFile, Ref
from backend.launchers.modal.container.manifest import SAMPLES_NAME, Manifest
from backend.launchers.modal.container.output import Output
from backend.launchers.modal.container.paths import BASE_MOUNT, inside, volume_root
from backend.launchers.modal.container.sdk import Volume, VolumeError, VolumeFullError, volume_of
from backend.launchers.modal.container.supervisor import base_model_environment
from backend.launchers.modal.wire import SEQ_STRIDE
from backend.runs.folder import RunFolder

SAMPLER_EVENTS = "sampler.jsonl"
"""In ``state/``: the events of all sampler containers."""

_TICK = 0.1
_EPOCH = 1_767_225_600  # 2026 in seconds since 1970: keeps numbers short
_GRACE = 15.0
_PATIENCE = {PREEMPTED: 27.0, CANCELLED: 60.0}
_LAST_COMMIT = 120.0


class PrintedLines:
    """Prints a child's lines as they are: they belong to no run's numbered log."""

    def __init__(self, output: Output, on_line: Callable[[str], None]) -> None:
        self._output = output
        self._on_line = on_line

    def add(self, lines: Sequence[str]) -> None:
        """Print lines."""
        for raw in lines:
            text = wire.clean_line(raw.replace("\0", "\ufffd"))
            # A line must not be taken for an event or for a numbered line of the trainer's.
            self._output.write(f" {text}\n" if text.startswith(("@@", "[")) else f"{text}\n")
            if text.strip():
                self._on_line(text)


@dataclass(frozen=True)
class Errand:
    """A child to run.

    Attributes:
        module: Its module.
        arguments: Its arguments.
        environment: Its environment, beyond this process's.
        events: The file to which it writes events.
        sampler: Whether they are the sampler's.
        volume: What is committed.
        prepare: Called before each commit.
        interval: Seconds between two commits.
        on_event: Called for each event.
    """

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    events: Path
    volume: Volume
    sampler: bool = False
    prepare: Callable[[], None] | None = None
    interval: float = 4.0
    on_event: Callable[[dict[str, Any]], None] = lambda _: None


@dataclass
class Outcome:
    """How an errand ended.

    Attributes:
        code: The child's exit code.
        problem: The last error or warning that it told of, or the last line that it printed.
        commit: What kept the last commit from working; None if nothing did.
    """

    code: int = 1
    problem: str = ""
    commit: VolumeError | None = None


def run_errand(errand: Errand, *, descriptor: int = 1) -> Outcome:
    """Run the child to its end, in the main thread of the container.

    Raises:
        KeyboardInterrupt: The container was preempted; the child has ended and its files are committed.
        BaseException: Modal's ``InputCancellation``, likewise.
    """
    outcome = Outcome()
    asked = threading.Event()

    def work() -> dict[str, Any]:
        _run(errand, outcome, asked, descriptor)
        return {}

    work_interruptibly(work, lambda why: asked.set(), _PATIENCE)
    return outcome


def _run(errand: Errand, outcome: Outcome, asked: threading.Event, descriptor: int) -> None:
    output = Output(descriptor)
    said: list[str] = []
    last = ""

    def on_event(record: dict[str, Any]) -> None:
        if record.get("type") in ("error", "warning"):
            said.append(str(record.get("message") or ""))
        errand.on_event(record)
        committer.changed()

    def on_line(text: str) -> None:
        nonlocal last
        last = text

    committer = Committer(errand.volume.commit, prepare=errand.prepare, interval=errand.interval)
    offset = errand.events.stat().st_size if errand.events.exists() else 0
    follower = EventFollower(errand.events, offset, output, on_event, sampler=errand.sampler)
    follower.start()
    try:
        child = Child(errand.module, errand.arguments, errand.environment, PrintedLines(output, on_line))
        ends = float("inf")
        while (code := child.wait(_TICK)) is None:
            if asked.is_set() and ends == float("inf"):
                ends = time.monotonic() + _GRACE
                child.terminate()
            if time.monotonic() >= ends:
                child.kill()
            committer.changed()
        child.finish()
        follower.stop()
        outcome.code, outcome.problem = code, said[-1] if said else last
        try:
            committer.flush(_LAST_COMMIT)
        except VolumeError as error:
            outcome.commit = error
    finally:
        committer.close()
        follower.stop()
        output.close()


def sample_round(ref: dict[str, Any]) -> dict[str, Any]:
    """Draw the samples of ``ref["step"]``; see :func:`backend.launchers.modal.container.worker.sample`."""
    step = 0
    try:
        parsed, step = Ref.parse(ref), int(ref["step"])
        root = volume_root()
        volume = volume_of(parsed.volume_id, root, parsed.volume_name)
        _reload(volume)
        folder = RunFolder(inside(root, parsed.folder))
        launch = LaunchFile.read(folder.state / "launch.json")
        base = base_model_environment(parsed, launch)
    except (BadLaunchError, KeyError, TypeError, ValueError) as error:
        return _answer(False, f"the sampler was started without what it needs: {error}", step, "bad_launch")
    arguments = [
        str(folder.path),
        "--sample",
        str(step),
        "--events",
        str(folder.state / SAMPLER_EVENTS),
    ]
    if isinstance(checkpoint := ref.get("checkpoint"), str):
        arguments += ["--checkpoint", str(inside(folder.path, checkpoint))]
    manifest = Manifest(folder, SAMPLES_NAME)
    outcome = run_errand(
        Errand(
            "backend.trainer",
            arguments,
            {
                "FLUXLORA_VOLUME": str(root),
                "FLUXLORA_HOME": str(root / ".fluxlora"),
                "FLUXLORA_FIRST_SEQ": str(_unused_number()),
                **base,
            },
            folder.state / SAMPLER_EVENTS,
            volume,
            sampler=True,
            prepare=lambda: manifest.write(only_samples=True),
        )
    )
    return _told(outcome, step, f"the samples of step {step} could not be drawn", "sampling_failed")


def _unused_number() -> int:
    """A number for the first event that no sampler before this one can have used, committed or not."""
    return int(time.time() - _EPOCH) * SEQ_STRIDE + 1


def prefetch_model(ref: dict[str, Any]) -> dict[str, Any]:
    """Download base models; see :func:`backend.launchers.modal.container.worker.prefetch`."""
    models = ref.get("models") if isinstance(ref, dict) else None
    if not isinstance(models, list) or not models:
        return _answer(False, "the download was started without naming a model", 0, "bad_launch")
    root = volume_root(BASE_MOUNT)
    volume = volume_of(ref.get("base_volume_id") or None, root, ref.get("base_volume_name"))
    _reload(volume)
    hub = root / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        outcome = run_errand(
            Errand(
                "backend.trainer.prefetch",
                [*(str(model) for model in models), "--events", str(Path(place) / "events.jsonl")],
                {"HF_HUB_CACHE": str(hub), "FLUXLORA_HOME": place},
                Path(place) / "events.jsonl",
                volume,
                interval=30.0,
            )
        )
    return _told(outcome, 0, "the base model could not be downloaded", "download_failed")


def caption_pictures(ref: dict[str, Any]) -> dict[str, Any]:
    """Caption pictures; see :func:`backend.launchers.modal.container.worker.caption`."""
    try:
        root = volume_root()
        volume = volume_of(str(ref["volume_id"]), root, str(ref["volume_name"]))
        base_root = volume_root(BASE_MOUNT)
        base = volume_of(str(ref["base_volume_id"]), base_root, str(ref["base_volume_name"]))
        _reload(volume)
        _reload(base)
        folder = inside(root, str(ref["folder"]))
        request = {**ref["request"], "folder": str(inside(root, str(ref["pictures"])))}
        if ref.get("model_folder"):
            request["model"] = str(inside(root, str(ref["model_folder"])))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "request.json", request)
        (folder / "stop").unlink(missing_ok=True)
    except (KeyError, TypeError, ValueError) as error:
        return _answer(False, f"captioning was started without what it needs: {error}", 0, "bad_launch")
    hub = base_root / "hub"
    hub.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        outcome = run_errand(
            Errand(
                "backend.trainer.captioner",
                [str(folder)],
                {"HF_HUB_CACHE": str(hub), "FLUXLORA_HOME": place},
                Path(place) / "events.jsonl",  # it writes none: its progress is a file of the job
                volume,
                interval=2.0,
            )
        )
    with contextlib.suppress(VolumeError):
        base.commit()  # the model, for the next time
    return _told(outcome, 0, "the pictures could not be captioned", "captioning_failed")


def _reload(volume: Volume) -> None:
    try:
        volume.reload()
    except VolumeError:
        return  # the mounted state is at most a little old


def _told(outcome: Outcome, step: int, what: str, code: str) -> dict[str, Any]:
    if isinstance(outcome.commit, VolumeFullError):
        return _answer(False, f"{what}: the volume is full", step, "volume_full")
    if outcome.code != 0:
        if outcome.code == -9:
            return _answer(False, f"{what}: out of main memory", step, "container_out_of_memory")
        return _answer(False, f"{what}: {outcome.problem or 'no reason was given'}", step, code)
    if outcome.commit is not None:
        return _answer(False, f"{what}: the volume cannot be committed ({outcome.commit})", step, code)
    return _answer(True, None, step, None)


def _answer(ok: bool, reason: str | None, step: int, error: str | None) -> dict[str, Any]:
    status = Status.FINISHED if ok else Status.FAILED
    return {"ok": ok, "status": status.value, "reason": reason, "step": step, "boot": 0, "error": error}
