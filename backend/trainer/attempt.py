"""A trainer process from its start to its exit code: every way a run can end, said clearly.

This module imports no torch, so that a missing library is a message and not a traceback.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from backend.events import Status
from backend.files import write_text
from backend.runs.folder import RunFolder
from backend.runs.stream import EventWriter
from backend.trainer.control import StopControl
from backend.trainer.errors import INSTALL_HINT, StopRequested, TrainingError, is_disk_full
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
        The process's exit code: 0 finished or stopped, 1 failed, 2 bad config or no run folder.
    """
    folder = RunFolder(path.absolute())
    if not folder.config.is_file():
        print(f"{folder.config} does not exist; give the folder of a run", file=sys.stderr)
        return BAD_INPUT
    try:
        folder.create()
        attempt = _attempts(folder.events) + 1
        writer = EventWriter(folder.events)
    except OSError as error:
        print(f"the run folder {folder.path} cannot be written: {error.strerror or error}", file=sys.stderr)
        return FAILED
    with writer:
        report = Reporter(writer)
        stop = StopControl(
            folder.stop_file, lambda: report.status(Status.STOPPING, "asked to stop: saving, then stopping")
        )
        report.status(Status.STARTING)
        with stop, LibraryMessages(report):
            code = _Attempt(folder, report, stop, attempt).run()
        with contextlib.suppress(OSError):
            folder.stop_file.unlink(missing_ok=True)
        return code


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
            config = self._config()
            from backend.trainer.session import Session

            self._session = Session(self._folder, config, self._report, self._stop, self._number)
            status = self._session.run()
        except StopRequested:
            status = Status.STOPPED
        except KeyboardInterrupt:
            self._report.status(Status.INTERRUPTED, "ended at once by a second Ctrl-C, without saving")
            return FAILED
        except Exception as error:
            return self._fail(self._explain(error))
        loop = self._session.loop if self._session is not None else None
        reason = self._where_it_stopped() if status is Status.STOPPED else loop.reason if loop else None
        self._report.status(status, reason)
        return GOOD

    def _config(self) -> RunConfig:
        from config.load import load_config
        from config.problems import ConfigError

        try:
            loaded = load_config(self._folder.config)
        except ConfigError as error:
            problems = [p.describe(self._folder.config.name) for p in error.problems if p.severity == "error"]
            for problem in problems:
                self._report.line(problem, level="ERROR")
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise TrainingError(
                f"the config is not valid: {problems[0]}{more}", "bad_config", bad_input=True
            ) from None
        return loaded.config

    def _where_it_stopped(self) -> str:
        session = self._session
        step = 0 if session is None else session.loop.step if session.loop is not None else session.done
        return (
            f"stopped after step {step}; resume goes on from there"
            if step
            else "stopped before the first step"
        )

    def _fail(self, error: TrainingError) -> int:
        loop = self._session.loop if self._session is not None else None
        if loop is not None and error.code in _SAVE_AFTER and loop.save_after_failure():
            self._report.line(f"step {loop.step} was saved; resume goes on from there")
        self._report.error(str(error), error.code)
        self._report.status(Status.FAILED, str(error))
        return BAD_INPUT if error.bad_input else FAILED

    def _explain(self, error: Exception) -> TrainingError:
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
            where = getattr(error, "filename", None) or self._folder.path
            return TrainingError(f"the disk is full: {where}; make room and resume the run", "disk_full")
        return self._unexpected(error)

    def _unexpected(self, error: Exception) -> TrainingError:
        file = self._folder.state / _CRASH_FILE
        details = f"; details are in {file}"
        try:
            write_text(file, "".join(traceback.format_exception(error)))
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
