"""The training loop: updates, and what happens between them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from backend.events import CheckpointEvent, Phase, Status, StepEvent
from backend.trainer.batches import BatchMaker
from backend.trainer.checkpoint import CheckpointStore
from backend.trainer.control import StopControl
from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError
from backend.trainer.loading import DTYPES
from backend.trainer.lora import Lora
from backend.trainer.lora_file import LoraFacts, file_metadata, file_tensors, write_lora
from backend.trainer.order import DataOrder
from backend.trainer.report import Reporter
from backend.trainer.rng import Randomness
from backend.trainer.sampling import Sampler
from backend.trainer.smoothing import SmoothedLoss
from backend.trainer.step import TrainStep
from config.schema import RunConfig

_MEMORY_EVERY = 20  # steps between two looks at the memory


@dataclass
class TrainingLoop:
    """Everything that changes while a run trains, and the loop over it.

    Attributes:
        step: Updates done.
        saved: Updates done at the last save; None before the first of this process.
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
    step: int = 0
    saved: int | None = None
    _memory: int = 0
    _boundary: dict[str, Any] | None = None

    def run(self) -> Status:
        """Train until the last step or a request to stop; returns ``finished`` or ``stopped``.

        Raises:
            TrainingError: The loss is not finite, or a checkpoint cannot be saved.
        """
        train, sample, save = self.config.process.train, self.config.process.sample, self.config.process.save
        self.report.status(Status.TRAINING)
        self._back_to_training()
        while self.step < train.steps:
            if self.stop.requested():
                return self._stopped()
            self._update(train.gradient_accumulation)
            if self.step == train.steps:
                break
            between = False
            if save.save_every and self.step % save.save_every == 0:
                self.checkpoint()
                between = True
            if sample.sample_every and self.step % sample.sample_every == 0 and not self.stop.requested():
                between |= self.draw_samples()
            if between:
                self._back_to_training()
        self.checkpoint(final=True)
        if not self.stop.requested():
            self.draw_samples()
        return Status.FINISHED

    def _back_to_training(self) -> None:
        self.report.phase(Phase.TRAINING, self.step, self.config.process.train.steps)

    def _stopped(self) -> Status:
        if self.step and self.saved != self.step:
            self.checkpoint()
        return Status.STOPPED

    def _update(self, accumulation: int) -> None:
        began = time.perf_counter()
        self._boundary = {"random": self.random.state(), "order": self.order.state()}
        batches = [self.make_batch(self.order.next_batch()) for _ in range(accumulation)]
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

    # -- saving and sampling -----------------------------------------------------------------

    def checkpoint(self, *, final: bool = False) -> None:
        """Save the LoRA file, then the resume state.

        Raises:
            TrainingError: The disk is full, or the weights are not finite. What was saved before is
                intact.
        """
        self.report.phase(Phase.SAVING, 0, 2)
        path = self.store.final if final else self.store.numbered(self.step)
        weights = self.ema.state() if self.ema is not None else self.lora.state()
        wanted = DTYPES[self.config.process.save.dtype]
        tensors, dtype = file_tensors(weights, self.lora.scale, wanted)
        if dtype is not wanted:
            self.report.warning(
                "a weight is too large for float16; the LoRA is saved in bfloat16", "dtype_overflow"
            )
        metadata = file_metadata(self.facts, tensors, step=self.step, epoch=self.order.epoch)
        size = write_lora(path, tensors, metadata)
        self.report.phase(Phase.SAVING, 1, 2)
        self.store.save_state(self.state())
        self.saved = self.step
        self.report.phase(Phase.SAVING, 2, 2)
        self.report.checkpoint(
            CheckpointEvent(step=self.step, path=self.store.relative(path), bytes=size, final=final)
        )
        self.report.sync()
        self.store.prune()

    def draw_samples(self) -> bool:
        """Draw the sample pictures, with the moving average if there is one; whether there are any."""
        with self.ema.swapped_in() if self.ema is not None else contextlib.nullcontext():
            return self.sampler.sample(self.step, self.report, self.stop)

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
            **boundary,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; what the config changed since takes effect, with a warning if it must.

        Raises:
            TrainingError: The state belongs to another network.
        """
        self.lora.load(state["lora"])
        if self.ema is not None:
            self.ema.load(state["ema"] if state["ema"] is not None else state["lora"])
        self._load_optimizer(state)
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

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        if state["optimizer_name"] != type(self.optimizer).__name__:
            self.report.warning(
                "the optimizer changed since the last save: it starts afresh", "optimizer_changed"
            )
            return
        settings = [
            {k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups
        ]
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
