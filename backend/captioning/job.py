"""A captioning job's folder: a run's folder with a request, and its progress as JSON lines.

``request.json`` is what is asked, ``progress.jsonl`` what was done (a line for each picture, appended the
moment it is known). The rest is as in any run's folder (:mod:`backend.runs.folder`): the record with who does
it, events, the log, the request to stop. So the job stands among the runs, of the kind ``caption``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.captioning.place import ModalPlace, read_place, write_place
from backend.captioning.request import CaptioningError, CaptionRequest, request_of
from backend.captioning.runs import CAPTION
from backend.datasets.drafts import Drafts
from backend.datasets.errors import reason
from backend.events import Phase, PhaseEvent, Status, StatusEvent
from backend.files import read_json, write_json
from backend.home import home
from backend.launchers.process import ask_to_stop, is_alive, spawn_detached
from backend.runs.folder import RunFolder, RunRecord, new_run_id
from backend.runs.registry import Registry
from backend.runs.stream import EventWriter
from backend.runs.tail import read_view

_ROOM = 2**16  # bytes on a disk without which not even a sentence may have been written
_PATIENCE = 10.0  # seconds for a process to leave that has said its last word

ENDED = ("finished", "stopped", "failed")

_STATUS = {state: Status(state) for state in ("queued", "captioning", *ENDED)}
_PHASES = {
    "uploading": Phase.UPLOADING,
    "building": Phase.BUILDING,
    "waiting": Phase.WAITING,
    "downloading": Phase.DOWNLOADING,
    "loading": Phase.LOADING,
    "captioning": Phase.CAPTIONING,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one picture.

    Attributes:
        name: The picture, as in a scan.
        caption: Its caption; None if there is none.
        problem: Why there is none.
    """

    name: str
    caption: str | None = None
    problem: str = ""


@dataclass
class Progress:
    """How far a job is.

    Attributes:
        state: ``queued``, ``downloading``, ``loading``, ``captioning``, or one of :data:`ENDED`; on Modal
            before that ``uploading``, ``building`` and ``waiting``.
        done: Pictures done, or bytes while it downloads.
        total: Of how many.
        detail: A few more words; why it failed.
        results: What became of the pictures so far, by name.
    """

    state: str = "queued"
    done: int = 0
    total: int = 0
    detail: str = ""
    results: dict[str, Result] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the process said that it is done."""
        return self.state in ENDED

    @property
    def problems(self) -> list[Result]:
        """Pictures without a caption."""
        return [result for result in self.results.values() if result.caption is None]


class CaptionJob:
    """One captioning job.

    Args:
        path: Its folder.
    """

    # -P: the working folder must not be searched for modules.
    CAPTIONER = (sys.executable, "-P", "-m", "backend.trainer.captioner")
    COURIER = (sys.executable, "-P", "-m", "backend.launchers.modal.captioning")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = RunFolder(path)
        self.progress_file = path / "progress.jsonl"
        self.stop_file = self.folder.stop_file

    @property
    def request(self) -> CaptionRequest:
        """What is asked.

        Raises:
            CaptioningError: The folder holds no job.
        """
        return request_of(read_json(self.path / "request.json"))

    @property
    def drafts(self) -> Path | None:
        """Where its captions are kept as drafts; the data folder's place for them if None."""
        where = read_json(self.path / "drafts.json")
        return Path(where) if isinstance(where, str) else None

    @property
    def place(self) -> ModalPlace | None:
        """Where on Modal it works; None for this machine."""
        return read_place(self.path)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        record = self.folder.read_record()
        return record is not None and is_alive(record.handle)

    def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Start the process, which outlives this one; it goes on where an earlier one stopped.

        A job that had finished begins anew; drafts of it that nobody accepted or refused yet stay. Nothing
        happens if it runs.

        Args:
            environment: The process's variables; this one's, with the Hugging Face token, if None.

        Raises:
            CaptioningError: It cannot be started.
        """
        until = time.monotonic() + _PATIENCE
        while self.running:
            if not read_progress(self.progress_file).ended or time.monotonic() > until:
                return
            time.sleep(0.05)  # it has said its last word and is on its way out
        try:
            self.stop_file.unlink(missing_ok=True)
            self._begin_anew()
            with ProgressWriter(self.progress_file, self.folder.events) as writer:
                writer.state("queued")
            handle = spawn_detached(
                (*(self.CAPTIONER if self.place is None else self.COURIER), str(self.path)),
                log=self.folder.log,
                folder=self.path,
                environment=_environment(self.request.folder, self.place)
                if environment is None
                else environment,
            )
            self.folder.write_record(self._record().with_handle(**handle))
        except OSError as error:
            raise CaptioningError(f"captioning cannot be started in {self.path}: {reason(error)}") from None

    def _record(self) -> RunRecord:
        record = self.folder.read_record()
        if record is None:
            name = f"captions of {self.request.folder.name}"
            if self.place is not None:
                name += " by Modal"
            record = RunRecord(
                id=new_run_id(), name=name, backend="local", steps=0, path=self.path, kind=CAPTION
            )
        return record

    def enter(self, registry: Registry) -> None:
        """Enter the job among the runs, unless it stands there.

        Raises:
            OSError: It cannot be entered.
        """
        self.folder.state.mkdir(parents=True, exist_ok=True)
        with registry.exclusive():  # two at once would enter it under two ids
            record = self._record()
            if self.folder.read_record() is None:
                self.folder.write_record(record)
            registry.add(record)

    def _begin_anew(self) -> None:
        """Forget what a finished job did, except the drafts that are still there."""
        progress = read_progress(self.progress_file)
        if progress.state != "finished":
            return
        request, drafts = self.request, Drafts(self.drafts)
        self.progress_file.unlink(missing_ok=True)
        with ProgressWriter(self.progress_file) as writer:
            for result in progress.results.values():
                draft = drafts.load(caption_path(request, result.name))
                if result.caption is not None and draft is not None and draft.source:
                    writer.result(result)

    def stop(self) -> None:
        """Ask the process to stop after the pictures it has in hand; :meth:`start` goes on from there."""
        with contextlib.suppress(OSError):
            self.stop_file.touch()
        record = self.folder.read_record()
        if record is not None:
            ask_to_stop(record.handle)

    def follow(self) -> Follower:
        """Reads its progress again and again, only what is new."""
        return Follower(self)


def make_job(
    request: CaptionRequest, root: Path | None = None, place: ModalPlace | None = None
) -> CaptionJob:
    """The job of a request: the same one for the same request, so that it goes on where it stopped.

    Args:
        request: What is asked.
        root: The data folder; the user's if None.
        place: Where on Modal it works; None for this machine.

    Raises:
        CaptioningError: The dataset is not there, or the folder cannot be made.
    """
    base = root or home()
    if not request.folder.is_dir():
        raise CaptioningError(f"the folder {request.folder} does not exist")
    stem = re.sub(r"[^\w.-]+", "-", request.folder.name)[:40].strip("-.") or "dataset"
    path = base / "captioning" / f"{stem}-{request.digest}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        job = CaptionJob(path)
        write_json(path / "request.json", request.record, escape=True)
        if not job.running:  # else it works where it works
            write_place(path, place)
        write_json(path / "drafts.json", str(base / "datasets" / "drafts"), escape=True)
        job.enter(Registry(base))
    except OSError as error:
        raise CaptioningError(f"the captioning job cannot be kept in {path}: {reason(error)}") from None
    except UnicodeEncodeError:
        raise CaptioningError(f"the name of {request.folder} is not Unicode; rename it first") from None
    return job


def running_job(folder: Path, root: Path | None = None) -> CaptionJob | None:
    """The job that is captioning a dataset right now, whoever started it."""
    for file in sorted(((root or home()) / "captioning").glob("*/request.json")):
        job = CaptionJob(file.parent)
        with contextlib.suppress(CaptioningError):
            if job.request.folder == folder and job.running and not read_progress(job.progress_file).ended:
                return job
    return None


def caption_path(request: CaptionRequest, name: str) -> Path:
    """The caption file of a picture of a job."""
    return (request.folder / name).with_suffix(request.caption_ext)


class Follower:
    """Reads a job's progress, each time only what was added.

    Args:
        job: The job.
    """

    def __init__(self, job: CaptionJob) -> None:
        self._job = job
        self._offset = 0
        self.progress = Progress()

    def read(self) -> list[Result]:
        """Take up what is new; returns the pictures that were done since the last call.

        A process that died without a word counts as failed.
        """
        alive = self._job.running  # asked first: what it says last is then in the file
        new: list[Result] = []
        try:
            with self._job.progress_file.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    if (result := _take(line, self.progress)) is not None:
                        new.append(result)
        except OSError:
            pass
        if not alive and not self.progress.ended:
            if read_view(self._job.folder).status is Status.STOPPED:
                self.progress.state = "stopped"  # ended at once, by a launcher
                return new
            self.progress.state = "failed"
            self.progress.detail = _silence(self._job.path)
        return new


def _silence(folder: Path) -> str:
    """Why a process may have ended without a word."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < _ROOM:
            return (
                f"the disk with {folder} is full; make room and start captioning again, it goes on where it "
                "stopped"
            )
    return f"it ended without a word; its output is in {folder / 'log.txt'}"


def read_progress(file: Path) -> Progress:
    """How far a job is by its ``progress.jsonl``; a torn last line is left out."""
    try:
        with file.open("rb") as lines:
            return progress_of(lines)
    except OSError:
        return Progress()


def progress_of(lines: Iterable[bytes]) -> Progress:
    """How far a job is by the lines of its ``progress.jsonl``."""
    progress = Progress()
    for line in lines:
        _take(line, progress)
    return progress


def _take(line: bytes, progress: Progress) -> Result | None:
    try:
        record = json.loads(line)
        if "name" in record:
            caption = record.get("caption")
            result = Result(
                str(record["name"]),
                caption if isinstance(caption, str) else None,
                str(record.get("problem", "")),
            )
            progress.results[result.name] = result
            return result
        progress.state, progress.detail = str(record["state"]), str(record.get("detail", ""))
        progress.done, progress.total = int(record.get("done", 0)), int(record.get("total", 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return None


class ProgressWriter:
    """Appends to a ``progress.jsonl``; what a crash left of a last line is cut off first.

    Args:
        file: The file; made if it is missing.
        events: A run's events file that is told of the states too.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, file: Path, events: Path | None = None) -> None:
        self._events = EventWriter(events) if events is not None else None
        self._status: Status | None = None
        self._file = file.open("ab+")
        self._file.seek(0)
        kept = self._file.read()
        self._file.truncate(kept.rfind(b"\n") + 1)

    def __enter__(self) -> ProgressWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # each line was flushed; what a full disk refused is refused again
            self._file.close()
        if self._events is not None:
            self._events.close()

    def state(self, state: str, done: int = 0, total: int = 0, detail: str = "") -> None:
        """What is being done."""
        self._write({"state": state, "done": done, "total": total, "detail": detail})
        if self._events is None:
            return
        status = _STATUS.get(state, Status.STARTING)
        if status is not self._status:
            self._status = status
            self._events.write(StatusEvent(status=status, reason=(detail or None) if status.ended else None))
        if (phase := _PHASES.get(state)) is not None:
            self._events.write(PhaseEvent(phase=phase, done=done, total=total, detail=detail or None))

    def result(self, result: Result) -> None:
        """What became of a picture."""
        record = {"name": result.name, "caption": result.caption, "problem": result.problem}
        self._write({key: value for key, value in record.items() if value})
        os.fsync(self._file.fileno())

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record).encode("ascii") + b"\n")
        self._file.flush()


def _environment(project: Path, place: ModalPlace | None) -> dict[str, str]:
    """The process's variables, with the tokens that it needs for a project."""
    if place is not None:
        from backend.launchers.modal.environment import with_tokens

        return with_tokens()
    from backend.credentials.hf_token import find_hf_token

    environment = dict(os.environ)
    if token := find_hf_token(environment, project):
        environment["HF_TOKEN"] = token.token.reveal()
    return environment
