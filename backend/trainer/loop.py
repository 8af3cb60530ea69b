"""The training loop: updates, and what happens between them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from backend.events import CheckpointEvent, Phase, Status, StepEvent, ValidationEvent
from backend.trainer.batches import BatchMaker
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.ema import Ema
from backend.trainer.errors import StopRequested, TrainingError
from backend.trainer.guards import RUINED, LossGuard, Rollback
from backend.trainer.loading import DTYPES
from backend.trainer.lora import Lora
from backend.trainer.lora_file import LoraFacts, file_metadata, file_tensors, write_lora
from backend.trainer.lora_rank import fit_rank, plain_lora
from backend.trainer.optimizer import settings_of
from backend.trainer.order import DataOrder
from backend.trainer.preview import newest_sample, preview_uri
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness
from backend.trainer.sampling import Sampler
from backend.trainer.smoothing import SmoothedLoss
from backend.trainer.step import TrainStep
from backend.trainer.validation import BestLoss, Validator
from config.schema import RunConfig

_MEMORY_EVERY = 20  # steps between two looks at the memory


@dataclass
class TrainingLoop:
    """Everything that changes while a run trains, and the loop over it.

    Attributes:
        validator: Takes the validation loss; None if nothing is held out.
        best: The lowest validation loss so far.
        guard: Watches the loss.
        rollback: Whether the run went back to a checkpoint already.
        step: Updates done.
        saved: Updates done at the last save; None before the first of this process.
        reason: Why the run finished before its last step; None if it did not.
    """

    config: RunConfig
    facts: LoraFacts
    lora: Lora
    ema: Ema | None
    optimizer: torch.optim.Optimizer
    train_step: TrainStep
    order: DataOrder
    make_batch: BatchMaker
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
    step: int = 0
    saved: int | None = None
    reason: str | None = None
    _validated: int = 0
    _overdue: bool = False
    _drawn_well: bool = False
    _memory: int = 0
    _boundary: dict[str, Any] | None = None

    def run(self) -> Status:
        """Train until the last step, an early end or a request to stop.

        Returns:
            ``finished`` (with :attr:`reason` if that was early) or ``stopped``.

        Raises:
            TrainingError: The run was ruined twice, or a checkpoint cannot be saved.
        """
        train = self.config.process.train
        self.report.status(Status.TRAINING)
        self._back_to_training()
        self._validate_if_due()
        while self.step < train.steps and not self.best.exhausted:
            if self.stop.requested():
                return self._stopped()
            try:
                self._update(train.gradient_accumulation)
                self._between_updates()
            except TrainingError as error:
                if error.code not in RUINED:
                    raise
                self._roll_back(error)
        if self.step < train.steps:
            self.reason = (
                f"ended early after step {self.step} of {train.steps}: the validation loss has not fallen "
                f"since step {self.best.step}"
            )
        if self.saved != self.step or not self.store.final.exists():
            self.checkpoint(final=True)
            if not self.stop.requested():
                self.draw_samples()
        return Status.FINISHED

    def _between_updates(self) -> None:
        sample, save = self.config.process.sample, self.config.process.save
        self._validate_if_due()
        if self.step == self.config.process.train.steps or self.best.exhausted:
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
        return Status.STOPPED

    def _update(self, accumulation: int) -> None:
        began = time.perf_counter()
        self._boundary = {"random": self.random.state(), "order": self.order.state()}
        batches = [self.make_batch(self.order.next_batch(self.step + 1)) for _ in range(accumulation)]
        result = self.train_step(self.step, batches)
        self.step += 1
        self._boundary = None
        if self.step % _MEMORY_EVERY == 1 or not self._memory:
            self._memory = _memory_used(self.device)
        self.report.step(
            StepEvent(
                step=self.step,
                loss=result.loss,
                smoothed=self.smoothed.add(result.loss),
                lr=result.lr,
                grad_norm=result.grad_norm,
                seconds=round(time.perf_counter() - began, 6),
                memory=self._memory,
                epoch=self.order.epoch,
            )
        )
        if self.guard.add(result.loss):
            raise TrainingError(
                f"the loss of step {self.step} and those before it ({result.loss:.3g}) are more than ten "
                "times what is usual in this run",
                "loss_exploded",
            )

    # -- validation and guards ---------------------------------------------------------------

    def _validate_if_due(self) -> None:
        """Take the validation loss if this step's is wanted and was not taken (before a stop) already."""
        validator, last = self.validator, self.config.process.train.steps
        if validator is None or not self.step or self._validated == self.step:
            return
        if self.step % validator.every and self.step != last:
            return
        try:
            with self._averaged():
                loss = validator.loss(self.stop)
        except StopRequested:
            return  # the resumed run takes it
        self._validated = self.step
        new = self.best.add(loss, self.step)
        event = ValidationEvent(step=self.step, loss=loss, count=validator.count, best=new)
        self.report.validation(event, self.best.lowest, self.best.step)
        if new and self.config.process.save.keep_best:
            path = self.store.best
            size = self._save_lora(path)
            self.report.checkpoint(
                CheckpointEvent(step=self.step, path=self.store.relative(path), bytes=size, best=True)
            )

    def _judge_samples(self) -> None:
        if self.sampler.all_bad and self._drawn_well:
            raise TrainingError(f"the samples of step {self.step} are all black", "black_samples")
        self._drawn_well |= self.sampler.bad == 0

    def _roll_back(self, error: TrainingError) -> None:
        """Go back to the last good checkpoint with half the learning rate, once in a run.

        Raises:
            TrainingError: There is none, or it did not help.
        """
        if self.rollback.step is not None:
            raise self._lost(error, "going back with half the learning rate did not help") from error
        state = self.store.load_state()
        if state is not None and state["step"] == self.step and error.code == "black_samples":
            state = self.store.load_previous()  # what was saved before these samples is black as well
        if state is None:
            raise self._lost(error, "there is no checkpoint from before to go back to") from error
        self._boundary = None
        self.load(state)
        self.rollback = Rollback(self.step, self.config.process.train.lr, str(error))
        self.train_step.schedule.scale = self.rollback.scale
        self.store.save_state(self.state())  # so that a process that dies now is not back at the full rate
        self.report.rewind(self.step)
        self.report.warning(
            f"{error}: back to the checkpoint of step {self.step}, with half the learning rate from there",
            "rolled_back",
        )
        self._back_to_training()

    def _lost(self, error: TrainingError, why: str) -> TrainingError:
        kept = f"the checkpoint of step {self.saved} is kept. Resume it" if self.saved else "Start again"
        return TrainingError(
            f"{error}, and {why}; {kept} with a lower train.lr (or train.dtype: bfloat16 instead of float16)",
            error.code,
        )

    # -- saving and sampling -----------------------------------------------------------------

    def checkpoint(self, *, final: bool = False) -> None:
        """Save the LoRA file, then the resume state.

        Raises:
            TrainingError: The disk is full, or the weights are not finite. What was saved before is
                intact.
        """
        self.report.phase(Phase.SAVING, 0, 2)
        path = self.store.final if final else self.store.numbered(self.step)
        size = self._save_lora(path)
        self.report.phase(Phase.SAVING, 1, 2)
        if not final and self._samples_are_drawn():
            self.store.keep_previous()
        self.store.save_state(self.state())
        self.saved = self.step
        self.report.phase(Phase.SAVING, 2, 2)
        self.report.checkpoint(
            CheckpointEvent(step=self.step, path=self.store.relative(path), bytes=size, final=final)
        )
        self.report.sync()
        self.store.prune()

    def _save_lora(self, path: Path) -> int:
        """Write the weights as they are used (the moving average, if there is one); returns the size."""
        weights = self.ema.state() if self.ema is not None else self.lora.state()
        if self.lora.kind != "lora" and path in (self.store.final, self.store.best):
            plain = self.store.as_lora(path)
            self._write_lora(plain, plain_lora(self.lora, weights, self.lora.rank))
            self.report.line(f"saved {self.store.relative(plain)}: a plain LoRA, for other programs")
        return self._write_lora(path, self.lora.scaled(weights))

    def _write_lora(self, path: Path, weights: Mapping[str, torch.Tensor]) -> int:
        wanted = DTYPES[self.config.process.save.dtype]
        tensors, dtype = file_tensors(weights, 1.0, wanted)
        if dtype is not wanted:
            self.report.warning(
                f"save.dtype {self.config.process.save.dtype} cannot hold the LoRA's weights; it is saved in "
                "bfloat16",
                "dtype_overflow",
            )
        metadata = file_metadata(
            self.facts,
            tensors,
            step=self.step,
            epoch=self.order.epoch,
            preview=preview_uri(newest_sample(self.sampler.folder.samples)),
        )
        return write_lora(path, tensors, metadata)

    def _samples_are_drawn(self) -> bool:
        process = self.config.process
        return bool(process.sample.sample_every) and not process.train.disable_sampling

    def _averaged(self) -> AbstractContextManager[None]:
        return self.ema.swapped_in() if self.ema is not None else contextlib.nullcontext()

    def draw_samples(self, *, first: bool = False) -> bool:
        """Draw the sample pictures, with the moving average if there is one; whether there are any.

        Args:
            first: Draw those of before the first step.
        """
        with self._averaged():
            drawn = self.sampler.sample(self.step, self.report, self.stop, first=first)
        if first:
            self._drawn_well = drawn and not self.sampler.bad
        return drawn

    # -- resume ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that an exact continuation needs.

        In the middle of a failed update, random numbers and data position are those of its start.
        """
        boundary = self._boundary or {"random": self.random.state(), "order": self.order.state()}
        return {
            "step": self.step,
            "training_seed": self.facts.training_seed,
            "optimizer_name": type(self.optimizer).__name__,
            "lora": self.lora.state(),
            "ema": self.ema.state() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "smoothed": [self.smoothed.mean, self.smoothed.weight],
            "network": {"type": self.lora.kind, "rank": self.lora.rank, "scale": self.lora.scale},
            "validation": {"best": self.best.state(), "validated": self._validated},
            "guard": self.guard.state(),
            "rollback": self.rollback.state(),
            "drawn_well": self._drawn_well,
            **boundary,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; what the config changed since takes effect, with a warning if it must.

        Raises:
            TrainingError: The state belongs to another network.
        """
        if self._load_network(state):
            self._load_optimizer(state)
        self.best.load(state["validation"]["best"])
        self._validated = int(state["validation"]["validated"])
        self.guard.load(state["guard"])
        self.rollback.load(state["rollback"], self.config.process.train.lr)
        self.train_step.schedule.scale = self.rollback.scale
        self._drawn_well = bool(state["drawn_well"])
        self.smoothed.mean, self.smoothed.weight = state["smoothed"]
        if not self.random.load(state["random"]):
            self.report.warning(
                "the run was begun on another kind of device: it continues with other noise", "device_changed"
            )
        if not self.order.load(state["order"]):
            self.report.warning(
                "the pictures or the batch size changed since the last save: a new epoch begins",
                "data_changed",
            )
        self.step = self.saved = int(state["step"])

    def _load_network(self, state: dict[str, Any]) -> bool:
        """Take over the weights; returns whether they are the same network's (the optimizer's state fits)."""
        weights, average, before = state["lora"], state["ema"], state["network"]
        same = bool(before == {"type": self.lora.kind, "rank": self.lora.rank, "scale": self.lora.scale})
        if not same and before["type"] == self.lora.kind:
            fitted = fit_rank(weights, self.lora, before["scale"])
            if fitted is not None:
                average = None if average is None else fit_rank(average, self.lora, before["scale"])
                weights = fitted
                self.report.warning(
                    f"the network changed from rank {before['rank']} to {self.lora.rank} since the last "
                    "save: what it learned is kept as far as it fits, the optimizer starts afresh",
                    "rank_changed",
                )
        self.lora.load(weights)
        if self.ema is not None:
            self.ema.load(average if average is not None else weights)
        return same

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        if state["optimizer_name"] != type(self.optimizer).__name__:
            self.report.warning(
                "the optimizer changed since the last save: it starts afresh", "optimizer_changed"
            )
            return
        settings = settings_of(self.optimizer)
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(values)  # the config's, not the saved ones

    def save_after_failure(self) -> bool:
        """Save the last whole step when a run fails in the middle of the next; whether that was possible."""
        if self.train_step.updating or not self.step or self.saved == self.step:
            return False
        try:
            self.checkpoint()
        except (TrainingError, OSError, RuntimeError):
            return False
        return True


def _memory_used(device: torch.device) -> int:
    """Bytes: the most that was in use on a GPU, resident memory of this process elsewhere."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)
