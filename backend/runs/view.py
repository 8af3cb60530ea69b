"""What a run's events add up to: its status, progress and latest numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypedDict

from backend.events import (
    CONTAINER_STRIDE,
    AttemptEvent,
    CheckpointEvent,
    CommandEvent,
    ErrorEvent,
    Event,
    Phase,
    PhaseEvent,
    PreviewEvent,
    SampleEvent,
    Status,
    StatusEvent,
    StepEvent,
    ValidationEvent,
    WarningEvent,
)

_RATE_WEIGHT = 0.1  # of the newest step in the moving average of seconds a step


@dataclass
class RunView:
    """The state that a sequence of events leads to.

    Pure: feed it events in order with :meth:`apply`, in any number of portions. It never looks at
    processes; whether a run that says 'training' is alive is the launcher's to know.

    Attributes:
        status: Last reported status.
        reason: Sentence that came with it, or the last error.
        phase: What the trainer does now; None before the first phase.
        phase_done: Units done in the phase.
        phase_total: Units of the phase, 0 if unknown.
        step: Updates done; pictures of a run that captions.
        steps: Updates (pictures) of the whole run, 0 if unknown.
        loss: Last loss.
        smoothed: Last smoothed loss.
        validation: Last validation; None without any.
        lr: Last learning rate.
        seconds_per_step: Moving average over recent steps; None before the first.
        memory: Last reported memory in bytes.
        gpu: Share of the time in which the GPU computed lately, from 0 to 1; None where it is not measured.
        attempt: Number of processes that took the run up.
        updated: Time of the last event, seconds since 1970.
        samples: All samples, oldest first.
        drawing: The sample that is being drawn, as it looks now; None while none is.
        checkpoints: Checkpoints reported, oldest first (older ones may be gone from disk).
        warnings: Warnings so far.
        containers: When each container of the run first and last spoke, seconds since 1970, by its number.
        answers: The trainer's answers to commands, by the command's id.
    """

    status: Status = Status.QUEUED
    reason: str | None = None
    phase: str | None = None
    phase_done: int = 0
    phase_total: int = 0
    phase_detail: str | None = None
    step: int = 0
    steps: int = 0
    loss: float | None = None
    smoothed: float | None = None
    validation: ValidationEvent | None = None
    lr: float | None = None
    grad_norm: float | None = None
    seconds_per_step: float | None = None
    memory: int = 0
    gpu: float | None = None
    epoch: int = 0
    device: str = ""
    attempt: int = 0
    updated: float = 0.0
    seq: int = 0
    samples: list[SampleEvent] = field(default_factory=list)
    drawing: SampleEvent | None = None
    checkpoints: list[CheckpointEvent] = field(default_factory=list)
    warnings: list[WarningEvent] = field(default_factory=list)
    containers: dict[int, tuple[float, float]] = field(default_factory=dict)
    answers: dict[str, CommandEvent] = field(default_factory=dict)

    def apply(self, events: Iterable[Event]) -> None:
        """Take in events, in order. An event number seen before is skipped."""
        for event in events:
            if event.seq and event.seq <= self.seq:
                continue
            self.seq = max(self.seq, event.seq)
            self.updated = max(self.updated, event.t)
            if event.seq > CONTAINER_STRIDE:
                number = event.seq // CONTAINER_STRIDE
                first = self.containers.get(number, (event.t, event.t))[0]
                self.containers[number] = (first, event.t)
            self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case StepEvent():
                self.step, self.loss, self.smoothed = event.step, event.loss, event.smoothed
                self.lr, self.grad_norm, self.memory = event.lr, event.grad_norm, event.memory
                self.epoch, self.gpu = event.epoch, event.gpu
                if event.seconds > 0:
                    old = self.seconds_per_step
                    self.seconds_per_step = (
                        event.seconds if old is None else old + _RATE_WEIGHT * (event.seconds - old)
                    )
                if self.phase == "training":
                    self.phase_done = event.step
            case PhaseEvent():
                self.phase, self.phase_done, self.phase_total = event.phase, event.done, event.total
                self.phase_detail = event.detail
                if event.phase == Phase.CAPTIONING:
                    self.step, self.steps = event.done, event.total
                if event.phase != Phase.SAMPLING:
                    self.drawing = None
            case StatusEvent():
                self.status = event.status
                if event.reason or not event.status.ended:
                    self.reason = event.reason
                if event.status.ended:
                    self.phase, self.phase_done, self.phase_total = None, 0, 0
                    self.drawing = None
            case AttemptEvent():
                self.attempt, self.step, self.steps = event.attempt, event.step, event.steps
                self.device = event.device
                self.seconds_per_step = None
                self.samples = [s for s in self.samples if s.step <= event.step]
            case ValidationEvent():
                self.validation = event
            case SampleEvent():
                self.samples.append(event)
                self.drawing = None
            case PreviewEvent():
                self.drawing = SampleEvent(
                    step=event.step,
                    index=event.index,
                    prompt=f"{event.done}/{event.total} · {event.prompt}",
                    seed=event.seed,
                    path=event.path,
                )
            case CheckpointEvent():
                self.checkpoints.append(event)
            case WarningEvent():
                self.warnings.append(event)
            case ErrorEvent():
                self.reason = event.message
            case CommandEvent():
                self.answers[event.id] = event
                if event.steps:
                    self.steps = event.steps
            case _:
                pass

    @property
    def eta(self) -> float | None:
        """Seconds until the last step at the present rate; None while the rate is not known."""
        if self.status.ended or self.seconds_per_step is None or not self.steps:
            return None
        return max(0, self.steps - self.step) * self.seconds_per_step


class StepRow(TypedDict):
    """One step as the command line prints it."""

    step: int
    loss: float
    smoothed: float
    lr: float
    grad_norm: float | None
    seconds: float
    memory: int
    epoch: int
    time: float


def step_rows(events: Iterable[Event]) -> list[StepRow]:
    """The steps of a run in order, each once.

    Where a resume went back behind steps that were reported already, the later report counts.
    """
    rows: list[StepRow] = []
    for event in events:
        if isinstance(event, AttemptEvent):
            while rows and rows[-1]["step"] > event.step:
                rows.pop()
        elif isinstance(event, StepEvent):
            rows.append(
                StepRow(
                    step=event.step,
                    loss=event.loss,
                    smoothed=event.smoothed,
                    lr=event.lr,
                    grad_norm=event.grad_norm,
                    seconds=event.seconds,
                    memory=event.memory,
                    epoch=event.epoch,
                    time=event.t,
                )
            )
    return rows
