"""The training loop: updates, and what happens between them."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from backend.events import CheckpointEvent, Phase, Status, ValidationEvent
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.ema import Ema
from backend.trainer.errors import StopRequested, TrainingError
from backend.trainer.extension import keep_steps, with_steps
from backend.trainer.feed import BatchFeed
from backend.trainer.guards import RUINED, LossGuard, Rollback
from backend.trainer.handover import Handover
from backend.trainer.lora import Lora
from backend.trainer.lora_file import LoraFacts
from backend.trainer.obeying import obey
from backend.trainer.optimizer import Schedule
from backend.trainer.order import DataOrder
from backend.trainer.report import Reporter
from backend.trainer.resuming import state_of
from backend.trainer.rng import Randomness
from backend.trainer.rolling_back import roll_back
from backend.trainer.sampling import Sampler
from backend.trainer.saving import save_lora
from backend.trainer.smoothing import SmoothedLoss
from backend.trainer.step import TrainStep
from backend.trainer.under_way import UnderWay, report_update
from backend.trainer.validation import BestLoss, Validator
from config.schema import RunConfig

if TYPE_CHECKING:
    import torch

_AHEAD = 8  # updates that the device may be behind


@dataclass
class TrainingLoop:
    """Everything that changes while a run trains, and the loop over it.

    Attributes:
        validator: Takes the validation loss; None if nothing is held out.
        best: The lowest validation loss so far.
        guard: Watches the loss.
        rollback: Whether the run went back to a checkpoint already.
        handover: Has samples drawn elsewhere; None if they are drawn here.
        needs_preparing: Whether a run of so many steps must be prepared anew, for it needs more texts.
        again: Whether :meth:`run` returned for that: the run is saved and goes on when it is prepared.
        step: Updates done.
        saved: Updates done at the last save; None before the first of this process.
        drawn_at: Updates done when samples were drawn last; None before the first.
        told_of_samples: What became of them, as a sentence.
        reason: Why the run finished before its last step; None if it did not.
        validated: Updates done when the validation loss was taken last.
        drawn_well: Whether samples were drawn that show something.
        boundary: In the middle of an update, randomness and data order before it.
        under_way: Updates whose numbers have not arrived yet.
        last_done: When the device was done with the last one that was reported.
        memory: Bytes in use, as of the last look.
    """

    config: RunConfig
    facts: LoraFacts
    lora: Lora
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    train_step: TrainStep
    order: DataOrder
    feed: BatchFeed
    random: Randomness
    sampler: Sampler
    store: CheckpointStore
    report: Reporter
    stop: StopControl
    device: torch.device
    smoothed: SmoothedLoss = field(default_factory=SmoothedLoss)
    validator: Validator | None = None
    best: BestLoss = field(default_factory=BestLoss)
    guard: LossGuard = field(default_factory=LossGuard)
    rollback: Rollback = field(default_factory=Rollback)
    handover: Handover | None = None
    needs_preparing: Callable[[int], bool] = lambda steps: False
    again: bool = False
    step: int = 0
    saved: int | None = None
    drawn_at: int | None = None
    told_of_samples: str = ""
    reason: str | None = None
    validated: int = 0
    _overdue: bool = False
    drawn_well: bool = False
    memory: int = 0
    boundary: dict[str, Any] | None = None
    under_way: deque[UnderWay] = field(default_factory=deque)
    last_done: torch.cuda.Event | None = None

    def run(self) -> Status | None:
        """Train until the last step, an early end or a request to stop.

        Returns:
            ``finished`` (with :attr:`reason` if that was early), ``stopped``, or None if the run has to be
            prepared :attr:`again`.

        Raises:
            TrainingError: The run was ruined twice, or a checkpoint cannot be saved.
        """
        try:
            return self._train()
        finally:
            self.feed.close()

    def _train(self) -> Status | None:
        self.report.status(Status.TRAINING)
        self._back_to_training()
        self._validate_if_due()
        while True:
            self.stop.requested()  # takes up commands, also after the last step
            if not self._settled():
                continue
            self._obey()
            if self.again:
                return None
            if self.is_done:
                if self._end():
                    return Status.FINISHED
                continue  # it was extended at the last moment
            if self.stop.requested():
                return self._stopped()
            try:
                self._update(self.config.process.train.gradient_accumulation * self.train_step.processes)
                self._between_updates()
            except TrainingError as error:
                if error.code not in RUINED:
                    raise
                self._go_back(error)

    def _settled(self) -> bool:
        """Before commands and the end: wait for updates under way; False if the run went back instead."""
        if not self.under_way or not self._something_is_due:
            return True
        try:
            self._settle()
        except TrainingError as error:
            if error.code not in RUINED:
                raise
            self._go_back(error)
            return False
        return True

    @property
    def is_done(self) -> bool:
        """Whether no update is left."""
        return self.step >= self.config.process.train.steps or self.best.exhausted

    def _end(self) -> bool:
        """Save and draw the end of the run; whether it is one (somebody may have extended it meanwhile)."""
        steps = self.config.process.train.steps
        if self.saved != self.step or not self.store.final.exists():
            self.checkpoint(final=True)
            if not self.stop.requested():
                self.draw_samples()
        if self.stop.inbox is not None:
            self.stop.inbox.look(now=True)
            self._obey()
        if self.again or not self.is_done:
            return False
        if self.step < steps:
            self.reason = (
                f"ended early after step {self.step} of {steps}: the validation loss has not fallen "
                f"since step {self.best.step}"
            )
        return True

    def _obey(self) -> None:
        """Carry out the commands that wait."""
        inbox = self.stop.inbox
        if inbox is None or not inbox.waiting:
            return
        try:
            if obey(self, inbox):
                self._back_to_training()
        except TrainingError as error:
            if error.code not in RUINED:
                raise
            self._go_back(error)

    def extend(self, steps: int) -> None:
        """Give the run another total of updates; its folder's config says so from now on.

        Raises:
            OSError: The config cannot be written.
            ValueError: The config is none any more.
            TrainingError: The run has to be prepared again, and cannot be saved before.
        """
        more = steps > self.config.process.train.steps
        config = with_steps(self.config, steps)
        keep_steps(self.sampler.folder, config)
        self.config, self.facts = config, replace(self.facts, config=config)
        scale = self.train_step.schedule.scale
        self.train_step.schedule = Schedule(self.optimizer, config.process.train)
        self.train_step.schedule.scale = scale
        self.report.total(steps)
        if more and self.needs_preparing(steps):
            if self.step and self.saved != self.step:
                self.checkpoint()
            self.again = True

    def _between_updates(self) -> None:
        if self._something_is_due:
            self._settle()
        sample, save = self.config.process.sample, self.config.process.save
        self._validate_if_due()
        if self.is_done:
            return
        between = False
        self._overdue |= bool(save.save_every) and self.step % save.save_every == 0
        if self._overdue and self.guard.calm:  # weights that may be ruined must not replace good ones
            self.checkpoint()
            self._overdue, between = False, True
        if sample.sample_every and self.step % sample.sample_every == 0 and not self.stop.requested():
            between |= self.draw_samples()
            self._judge_samples()
        if between:
            self._back_to_training()

    def _back_to_training(self) -> None:
        self.report.phase(Phase.TRAINING, self.step, self.config.process.train.steps)

    def _stopped(self) -> Status:
        if self.step and self.saved != self.step:
            self.checkpoint()
        if self.stop.inbox is not None:
            self.stop.inbox.look(now=True)
            self._obey()  # somebody may have asked for just that
        return Status.STOPPED

    def _update(self, accumulation: int) -> None:
        """Begin an update, and report those whose numbers have arrived meanwhile."""
        began = time.perf_counter()
        boundary = self.boundary = {"random": self.random.state(), "order": self.order.state()}
        batches = self.feed.take(self.step + 1, accumulation)
        pending = self.train_step.start(self.step, batches)
        self.step += 1
        self.boundary = None
        self.under_way.append(UnderWay(pending, boundary, began, self.order.epoch))
        while self.under_way and (len(self.under_way) > _AHEAD or self.under_way[0].pending.arrived):
            report_update(self)

    def _settle(self) -> None:
        """Wait for all updates that are under way and report them.

        Raises:
            TrainingError: One of them is not finite, or the loss has exploded.
        """
        while self.under_way:
            report_update(self)
        self.last_done = None  # what comes between counts for no step

    @property
    def _something_is_due(self) -> bool:
        """Whether anything but the next update comes next: then all before it must be known."""
        process, step = self.config.process, self.step
        every = [process.save.save_every, process.sample.sample_every]
        if self.validator is not None:
            every.append(self.validator.every)
        inbox = self.stop.inbox
        return (
            self.is_done
            or self._overdue
            or any(number and step % number == 0 for number in every)
            or (inbox is not None and bool(inbox.waiting))
            or self.stop.requested()
        )

    # -- validation and guards ---------------------------------------------------------------

    def _validate_if_due(self) -> None:
        """Take the validation loss if this step's is wanted and was not taken (before a stop) already."""
        validator, last = self.validator, self.config.process.train.steps
        if validator is None or not self.step or self.validated == self.step:
            return
        if self.step % validator.every and self.step != last:
            return
        try:
            with self._averaged():
                loss = validator.loss(self.stop)
        except StopRequested:
            return  # the resumed run takes it
        self.validated = self.step
        new = self.best.add(loss, self.step)
        event = ValidationEvent(step=self.step, loss=loss, count=validator.count, best=new)
        self.report.validation(event, self.best.lowest, self.best.step)
        if new and self.config.process.save.keep_best:
            path = self.store.best
            size = save_lora(self, path)
            self.report.checkpoint(
                CheckpointEvent(step=self.step, path=self.store.relative(path), bytes=size, best=True)
            )

    def _go_back(self, error: TrainingError) -> None:
        roll_back(self, error)
        self._back_to_training()

    def _judge_samples(self) -> None:
        if self.sampler.all_bad and self.drawn_well:
            raise TrainingError(f"the samples of step {self.step} are all black", "black_samples")
        self.drawn_well |= self.sampler.bad == 0

    # -- saving and sampling -----------------------------------------------------------------

    def checkpoint(self, *, final: bool = False) -> None:
        """Save the LoRA file, then the resume state.

        Raises:
            TrainingError: The disk is full, or the weights are not finite. What was saved before is
                intact.
        """
        self.report.phase(Phase.SAVING, 0, 2)
        path = self.store.final if final else self.store.numbered(self.step)
        size = save_lora(self, path)
        self.report.phase(Phase.SAVING, 1, 2)
        if not final and self._samples_are_drawn():
            self.store.keep_previous()
        self.store.save_state(state_of(self))
        self.saved = self.step
        self.report.phase(Phase.SAVING, 2, 2)
        self.report.checkpoint(
            CheckpointEvent(step=self.step, path=self.store.relative(path), bytes=size, final=final)
        )
        self.report.sync()
        self.store.prune()

    def _samples_are_drawn(self) -> bool:
        process = self.config.process
        return bool(process.sample.sample_every) and not process.train.disable_sampling

    def _averaged(self) -> AbstractContextManager[None]:
        return self.ema.swapped_in() if self.ema is not None else contextlib.nullcontext()

    def draw_samples(self, *, first: bool = False, wanted: bool = False) -> bool:
        """Draw the sample pictures, with the moving average if there is one; whether there are any.

        Args:
            first: Draw those of before the first step.
            wanted: Somebody asked for them: draw also before the step at which rounds begin.
        """
        if self.handover is not None:
            drawn = self.handover.request(self.step, first=first, wanted=wanted)
            said = "are asked for" if drawn else "could not be asked for"
        else:
            with self._averaged():
                drawn = self.sampler.sample(self.step, self.report, self.stop, first=first, wanted=wanted)
            said = f"are drawn, {self.sampler.bad} of them bad" if self.sampler.bad else "are drawn"
        if drawn and not first and not self.stop.requested():
            self.drawn_at = self.step
        self.told_of_samples = f"the samples of step {self.step} {said}"
        if first:
            self.drawn_well = drawn and not self.sampler.bad
        return drawn and self.handover is None

    def save_after_failure(self) -> bool:
        """Save the last whole step when a run fails in the middle of the next; whether that was possible."""
        if self.train_step.updating or not self.step or self.saved == self.step:
            return False
        try:
            self.checkpoint()
        except (TrainingError, OSError, RuntimeError):
            return False
        return True
