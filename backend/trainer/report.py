"""What the trainer says: events for the app, lines for the log.

Saying something never ends a run: when the disk is full, reports are dropped and the parts that
must not lose anything (checkpoints) find out by themselves and fail with their own message.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

from backend.credentials.redaction import redact
from backend.events import (
    AttemptEvent,
    CheckpointEvent,
    CommandEvent,
    ErrorEvent,
    Event,
    Phase,
    PhaseEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)
from backend.runs.stream import EventWriter

_PHASE_INTERVAL = 0.2  # seconds between two reports of one phase's progress
_STEP_LINE_INTERVAL = 1.0  # seconds between two step lines, except in short runs
_SHORT_RUN = 500  # steps


class Reporter:
    """Writes events through ``writer`` and human-readable lines to ``out``.

    Args:
        writer: Where events go; None drops them (tests of single parts).
        out: Where log lines go; standard output if None.
    """

    def __init__(self, writer: EventWriter | None, out: TextIO | None = None) -> None:
        self._writer = writer
        self._out = out
        self._writing = False
        self._pending: deque[Event] = deque()
        self._printing = False
        self._lines: deque[str] = deque()
        self._lost = 0
        self._phase: str | None = None
        self._detail: str | None = None
        self._phase_said = 0.0
        self._line_said = 0.0
        self._status: Status | None = None
        self._attempt: AttemptEvent | None = None
        self._listener: Callable[[Event], None] | None = None
        self.total_steps = 0

    # -- events ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def told(self, listener: Callable[[Event], None]) -> Iterator[None]:
        """While open, ``listener`` hears of steps, validations and samples; it must not raise."""
        self._listener = listener
        try:
            yield
        finally:
            self._listener = None

    def emit(self, event: Event) -> None:
        """Write an event; a signal handler may call this in the middle of another call."""
        self._pending.append(event)
        while self._pending and not self._writing:  # else the interrupted call writes it, in order
            self._writing = True
            try:
                self._write(self._pending.popleft())
            finally:
                self._writing = False

    def _write(self, event: Event) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(event)
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            if not self._lost:
                self.line(f"events cannot be written: {error}", level="WARNING")
            self._lost += 1

    def status(self, status: Status, reason: str | None = None) -> None:
        """Report a change of the run's status.

        The same status twice is said once, and a run asked to stop is not called training again.
        """
        if status is self._status or (status is Status.TRAINING and self._status is Status.STOPPING):
            return
        self._status = status
        self.emit(StatusEvent(status=status, reason=reason))
        self.line(f"{status}: {reason}" if reason else str(status))
        if status.ended:
            self.sync()

    def attempt(self, *, attempt: int, step: int, steps: int, device: str, versions: dict[str, str]) -> None:
        """Report which process this is and where it begins."""
        self.total_steps = steps
        self._attempt = AttemptEvent(
            attempt=attempt, step=step, steps=steps, device=device, versions=versions
        )
        self.emit(self._attempt)
        libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
        begin = f"resuming after step {step} of {steps}" if step else f"{steps} steps"
        self.line(f"attempt {attempt}: {begin} on {device} ({libraries})")

    def rewind(self, step: int) -> None:
        """Report that the run went back to ``step`` updates without a new process."""
        if self._attempt is not None:
            self._attempt = dataclasses.replace(
                self._attempt, attempt=self._attempt.attempt + 1, step=step, seq=0, t=time.time()
            )
            self.emit(self._attempt)

    def validation(self, event: ValidationEvent, best: float, best_step: int) -> None:
        """Report a validation loss; ``best`` is the lowest so far, taken at ``best_step``."""
        self.emit(event)
        if self._listener is not None:
            self._listener(event)
        record = "the lowest so far" if event.best else f"lowest {best:.4f} at step {best_step}"
        self.line(f"validation loss {event.loss:.4f} at step {event.step} ({record})")

    def phase(self, phase: Phase, done: int = 0, total: int = 0, detail: str | None = None) -> None:
        """Report progress of a phase; its first and last report always pass, others at a sensible rate."""
        now = time.monotonic()
        new = phase.value != self._phase or done == 0
        if not new and done != total and now - self._phase_said < _PHASE_INTERVAL:
            return
        unsaid = phase.value != self._phase or (detail and detail != self._detail)
        if unsaid and phase not in (Phase.TRAINING, Phase.SAVING):
            self.line(f"{phase}: {detail}" if detail else f"{phase} ({total})" if total else str(phase))
        self._phase, self._phase_said, self._detail = phase.value, now, detail
        self.emit(PhaseEvent(phase=phase.value, done=done, total=total, detail=detail))

    def step(self, event: StepEvent) -> None:
        """Report one update."""
        self.emit(event)
        if self._listener is not None:
            self._listener(event)
        now = time.monotonic()
        last = event.step == self.total_steps
        if self.total_steps > _SHORT_RUN and not last and now - self._line_said < _STEP_LINE_INTERVAL:
            return
        self._line_said = now
        norm = "" if event.grad_norm is None else f"  grad {event.grad_norm:.3g}"
        self.line(
            f"step {event.step}/{self.total_steps}  loss {event.loss:.4f} (smoothed {event.smoothed:.4f})"
            f"  lr {event.lr:.3g}{norm}  {event.seconds:.3g} s"
        )

    def sample(self, event: SampleEvent) -> None:
        """Report a sampled picture."""
        self.emit(event)
        if self._listener is not None:
            self._listener(event)
        self.line(f"sample {event.index} at step {event.step}: {event.path}")

    def checkpoint(self, event: CheckpointEvent) -> None:
        """Report a complete LoRA file."""
        self.emit(event)
        self.line(f"saved {event.path} ({event.bytes / 2**20:,.2f} MiB, {event.step} steps)")

    def answer(self, event: CommandEvent) -> None:
        """Report what became of a command."""
        self.emit(event)
        self.line(f"asked to {event.kind}: {event.detail}", level="INFO" if event.ok else "WARNING")

    def total(self, steps: int) -> None:
        """The run has ``steps`` updates from now on."""
        self.total_steps = steps
        if self._attempt is not None:
            self._attempt = dataclasses.replace(self._attempt, steps=steps)

    def warning(self, message: str, code: str = "") -> None:
        """Report something that is off while the run goes on."""
        self.emit(WarningEvent(message=message, code=code))
        self.line(message, level="WARNING")

    def error(self, message: str, code: str) -> None:
        """Report why the run fails."""
        self.emit(ErrorEvent(message=message, code=code))
        self.line(message, level="ERROR")

    def sync(self) -> None:
        """Force the events onto the disk, as far as it takes them."""
        if self._writer is not None:
            try:
                self._writer.sync()
            except (OSError, ValueError):
                self._lost += 1

    # -- the log -----------------------------------------------------------------------------

    def line(self, text: str, *, level: str = "INFO") -> None:
        """Print a line with the time of day and a level."""
        text = redact(" ".join(text.splitlines()))
        self._lines.append(f"{time.strftime('%H:%M:%S')} {level:<7} {text}\n")
        while self._lines and not self._printing:  # streams forbid reentry, see emit()
            self._printing = True
            try:
                self._print(self._lines.popleft())
            finally:
                self._printing = False

    def _print(self, line: str) -> None:
        out = self._out or sys.stdout
        try:
            out.write(line)
            out.flush()
        except (OSError, ValueError):
            self._lost += 1


class LibraryMessages:
    """While active, warnings and log records of libraries become log lines instead of noise on stderr.

    A message is printed once: libraries like to repeat themselves at every call.
    """

    def __init__(self, report: Reporter) -> None:
        self._report = report
        self._seen: set[str] = set()
        self._handler = _LineHandler(self)
        self._showwarning = warnings.showwarning

    def __enter__(self) -> LibraryMessages:
        root = logging.getLogger()
        root.addHandler(self._handler)
        self._showwarning = warnings.showwarning
        warnings.showwarning = self._on_warning
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        warnings.showwarning = self._showwarning
        logging.getLogger().removeHandler(self._handler)

    def _on_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            self.say(str(message), "DEBUG")

    def say(self, text: str, level: str) -> None:
        """Print a library's message unless it was printed before."""
        if text not in self._seen:
            self._seen.add(text)
            self._report.line(text, level=level)


class _LineHandler(logging.Handler):
    def __init__(self, messages: LibraryMessages) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        self._messages.say(f"{record.name.partition('.')[0]}: {text}", record.levelname)
