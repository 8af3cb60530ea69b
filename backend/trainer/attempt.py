"""A trainer process from its start to its exit code: every way a run can end, said clearly.

This module imports no torch, so that a missing library is a message and not a traceback.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from backend.credentials.redaction import redact
from backend.events import Status
from backend.files import write_text
from backend.runs.folder import RunFolder
from backend.runs.stop_request import StopRequest
from backend.runs.stream import EventWriter
from backend.trainer.control import StopControl
from backend.trainer.environment import Surroundings
from backend.trainer.errors import INSTALL_HINT, StopRequested, TrainingError, is_disk_full
from backend.trainer.inbox import Inbox
from backend.trainer.report import LibraryMessages, Reporter

if TYPE_CHECKING:
    from backend.trainer.session import Session
    from config.schema import RunConfig

GOOD, FAILED, BAD_INPUT = 0, 1, 2

# Failures that leave the weights of the last whole step sound and the disk writable.
_SAVE_AFTER = frozenset({"internal", "out_of_memory", "cache_gone"})

_CRASH_FILE = "crash.txt"
_EXTRA = frozenset(
    {
        "torch",
        "diffusers",
        "transformers",
        "peft",
        "accelerate",
        "safetensors",
        "huggingface_hub",
        "numpy",
        "PIL",
    }
)


def run_attempt(path: Path) -> int:
    """Take up the run in the folder ``path``, from its resume state if it has one.

    Returns:
        The process's exit code: 0 finished, stopped or preempted, 1 failed, 2 bad config or no run folder.
    """
    folder = RunFolder(path.absolute())
    if not folder.config.is_file():
        print(f"{folder.config} does not exist; give the folder of a run", file=sys.stderr)
        return BAD_INPUT
    try:
        surroundings = Surroundings.read()
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    try:
        folder.create()
        attempt = _attempts(folder.events) + 1
        writer = EventWriter(folder.events, first=surroundings.first_seq)
    except OSError as error:
        print(f"the run folder {folder.path} cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED
    with writer:
        report = Reporter(writer)
        stop = StopControl(
            folder.stop_file,
            lambda: report.status(Status.STOPPING, _what_now(stop.request)),
            inbox=Inbox(folder, report),
            deadline=surroundings.deadline,
        )
        report.status(Status.STARTING)
        with stop, LibraryMessages(report):
            code = _Attempt(folder, report, stop, attempt).run()
        with contextlib.suppress(OSError):
            folder.stop_file.unlink(missing_ok=True)
        return code


def _what_now(request: StopRequest | None) -> str:
    """What a run that was asked to stop does first."""
    sentence = request.sentence if request is not None else ""
    return f"{sentence or 'asked to stop'}: saving, then stopping"


def _attempts(events: Path) -> int:
    """How many processes took the run up before."""
    try:
        return events.read_bytes().count(b'"type":"attempt"')
    except FileNotFoundError:
        return 0


class _Attempt:
    def __init__(self, folder: RunFolder, report: Reporter, stop: StopControl, number: int) -> None:
        self._folder = folder
        self._report = report
        self._stop = stop
        self._number = number
        self._session: Session | None = None

    def run(self) -> int:
        try:
            config = read_config(self._folder, self._report)
            from backend.trainer.session import Session

            self._session = Session(self._folder, config, self._report, self._stop, self._number)
            status = self._session.run()
        except StopRequested:
            status = Status.STOPPED
        except KeyboardInterrupt:
            self._refuse_commands("the run was ended at once")
            self._report.status(Status.INTERRUPTED, "ended at once by a second Ctrl-C, without saving")
            return FAILED
        except Exception as error:
            return self._fail(explain(error, self._folder))
        if status is Status.STOPPED:
            self._stopped()
            return GOOD
        loop = self._session.loop if self._session is not None else None
        self._refuse_commands("the run has finished; resume it with a larger train.steps")
        self._report.status(status, loop.reason if loop else None)
        return GOOD

    def _stopped(self) -> None:
        """Say why and where the run stopped."""
        request = self._stop.settled()
        step = self._step()
        where = f"stopped after step {step}" if step else "stopped before the first step"
        if request.goes_on:  # what still waits is for the process that goes on
            self._report.line(where)
            self._report.status(Status.INTERRUPTED, request.sentence)
            return
        self._refuse_commands("the run was stopped")
        if request.sentence:
            where = f"{request.sentence} ({where})"
        elif step:
            where += "; resume goes on from there"
        self._report.status(Status.STOPPED, where)

    def _refuse_commands(self, why: str) -> None:
        if self._stop.inbox is not None:
            self._stop.inbox.refuse(why)

    def _step(self) -> int:
        """Updates done."""
        session = self._session
        if session is None:
            return 0
        return session.done if session.loop is None else session.loop.step

    def _fail(self, error: TrainingError) -> int:
        loop = self._session.loop if self._session is not None else None
        if loop is not None and error.code in _SAVE_AFTER and loop.save_after_failure():
            self._report.line(f"step {loop.step} was saved; resume goes on from there")
        self._refuse_commands("the run failed")
        self._report.error(str(error), error.code)
        self._report.status(Status.FAILED, str(error))
        return BAD_INPUT if error.bad_input else FAILED


def read_config(folder: RunFolder, report: Reporter) -> RunConfig:
    """The config of the run in ``folder``; its errors are log lines.

    Raises:
        TrainingError: It has errors.
    """
    from config.load import load_config
    from config.problems import ConfigError

    try:
        return load_config(folder.config).config
    except ConfigError as error:
        problems = [p.describe(folder.config.name) for p in error.problems if p.severity == "error"]
        for problem in problems:
            report.line(problem, level="ERROR")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise TrainingError(
            f"the config is not valid: {problems[0]}{more}", "bad_config", bad_input=True
        ) from None


def explain(error: Exception, folder: RunFolder) -> TrainingError:
    """The sentence for an exception that ended the work on the run in ``folder``."""
    if isinstance(error, TrainingError):
        return error
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _EXTRA:
        return TrainingError(
            f"training needs libraries that are not installed ({error.name}): {INSTALL_HINT}",
            "missing_train_extra",
        )
    if _is_out_of_memory(error):
        return TrainingError(
            "out of memory; try train.gradient_checkpointing: true, a smaller train.batch_size, smaller "
            "datasets.resolution, or a smaller network.linear",
            "out_of_memory",
        )
    if is_disk_full(error):
        where = getattr(error, "filename", None) or folder.path
        return TrainingError(f"the disk is full: {where}; make room and resume the run", "disk_full")
    return _unexpected(error, folder)


def _unexpected(error: Exception, folder: RunFolder) -> TrainingError:
    file = folder.state / _CRASH_FILE
    details = f"; details are in {file}"
    try:
        write_text(file, redact("".join(traceback.format_exception(error))))
    except OSError:
        details = ""
    first = (str(error).strip() or "no message").splitlines()[0]
    return TrainingError(f"unexpected {type(error).__name__}: {first}{details}", "internal")


def _is_out_of_memory(error: Exception) -> bool:
    """Torch's own error on GPUs, Python's, or the allocator's message on the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )
