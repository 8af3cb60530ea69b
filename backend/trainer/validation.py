"""The loss on held-out pictures, always with the same noise: the number that shows overfitting."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from backend.trainer import flow
from backend.trainer.cache import TensorCache
from backend.trainer.control import StopControl
from backend.trainer.errors import StopRequested
from backend.trainer.held_out import ValidationSample
from backend.trainer.step import FlowModel
from config.schema import EarlyStopConfig, ValidationConfig

NOISE_SEED = 42  # of the first picture; the next has 43 (ai-toolkit)


class Validator:
    """Takes the validation loss.

    Picture number i is noised with the draw of seed 42 + i, made on the CPU, so it is the same on every
    device; at each of the config's noise levels the mean squared error of the predicted velocity is
    taken, and all are averaged. There is no dropout, no loss weight and no mask.

    Args:
        model: What predicts.
        transformer: The transformer in it.
        samples: The held-out pictures; at least one.
        latents: Cache of their latents.
        texts: Cache of their captions' embeddings.
        settings: Noise levels, and how often.
        device: Where the model is.
        dtype: Number format of its texts.
    """

    def __init__(
        self,
        model: FlowModel,
        transformer: nn.Module,
        samples: Sequence[ValidationSample],
        latents: TensorCache,
        texts: TensorCache,
        settings: ValidationConfig,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._model = model
        self._transformer = transformer
        self._samples = tuple(samples)
        self._latents = latents
        self._texts = texts
        self._sigmas = tuple(settings.validation_sigmas)
        self._device = device
        self._dtype = dtype
        self.every = settings.validate_every_n_steps

    @property
    def count(self) -> int:
        """Pictures that are held out."""
        return len(self._samples)

    @torch.no_grad()
    def loss(self, stop: StopControl) -> float:
        """The validation loss of the model as it is; training's random numbers are not touched.

        Raises:
            StopRequested: The run was asked to stop meanwhile.
        """
        total = torch.zeros((), dtype=torch.float64)
        with _evaluating(self._transformer):
            for index, sample in enumerate(self._samples):
                if stop.requested():
                    raise StopRequested
                total += self._picture_loss(index, sample)
        return float(total) / len(self._samples)

    def _picture_loss(self, index: int, sample: ValidationSample) -> float:
        latent = self._latents[sample.latent_key]["latent"].float()[None]
        generator = torch.Generator().manual_seed(NOISE_SEED + index)
        noise = torch.randn(latent.shape, generator=generator).to(self._device)
        latent = latent.to(self._device)
        text = self._texts[sample.text_key]
        t5 = text["t5"][None].to(self._device, self._dtype)
        clip = text["clip"][None].to(self._device, self._dtype)
        target = flow.velocity(latent, noise)
        losses = []
        for level in self._sigmas:
            sigmas = torch.tensor([level], device=self._device)
            noisy = flow.add_noise(latent, noise, sigmas)
            losses.append(flow.flow_loss(self._model.velocity(noisy, sigmas, t5, clip), target))
        return float(torch.stack(losses).mean())


@dataclass
class BestLoss:
    """The lowest validation loss so far, and how long ago it was.

    Attributes:
        settings: When to give up; None never does.
        loss: The lowest loss; None before the first validation.
        step: Updates done then.
        since: Validations since.
    """

    settings: EarlyStopConfig | None = None
    loss: float | None = None
    step: int = 0
    since: int = 0

    def add(self, loss: float, step: int) -> bool:
        """Take in a validation; returns whether it is a new best."""
        least = self.settings.min_delta if self.settings is not None else 0.0
        if loss < self.lowest - least:
            self.loss, self.step, self.since = loss, step, 0
            return True
        self.since += 1
        return False

    @property
    def lowest(self) -> float:
        """The lowest loss, infinity before the first."""
        return math.inf if self.loss is None else self.loss

    @property
    def exhausted(self) -> bool:
        """Whether the loss has not fallen for so long that the run should end."""
        return self.settings is not None and self.since >= self.settings.patience

    def state(self) -> dict[str, Any]:
        """What :meth:`load` needs."""
        return {"loss": self.loss, "step": self.step, "since": self.since}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.loss, self.step, self.since = state["loss"], int(state["step"]), int(state["since"])


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
