"""One update: forward and backward passes over its batches, clipping, optimizer, moving average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from backend.trainer import flow
from backend.trainer.batches import Batch
from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError
from backend.trainer.optimizer import Schedule
from backend.trainer.rng import Randomness
from backend.trainer.timesteps import draw_sigmas
from config.schema import TrainConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel


@dataclass(frozen=True)
class StepResult:
    """What one update was like; ``grad_norm`` is before clipping."""

    loss: float
    grad_norm: float
    lr: float


class FlowModel:
    """The transformer as training calls it: latents in, predicted velocity out.

    Args:
        transformer: The FLUX transformer, on its device.
        guidance: Guidance value fed to a guidance-distilled model; others get none.
    """

    def __init__(self, transformer: FluxTransformer2DModel, guidance: float) -> None:
        self._transformer = transformer
        self._device: torch.device = transformer.device
        self._dtype: torch.dtype = transformer.dtype
        self._guidance = (
            torch.tensor([guidance], device=self._device, dtype=torch.float32)
            if transformer.config.guidance_embeds
            else None
        )
        self._image_ids: dict[tuple[int, int], torch.Tensor] = {}
        self._text_ids: dict[int, torch.Tensor] = {}

    def velocity(self, noisy: torch.Tensor, sigmas: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Predicted velocity, in the shape of ``noisy`` ``[b, c, h, w]``, at one sigma a picture ``[b]``."""
        count, _, height, width = noisy.shape
        guidance = None if self._guidance is None else self._guidance.expand(count)
        tokens = self._transformer(
            hidden_states=flow.pack(noisy).to(self._dtype),
            timestep=sigmas,  # the model multiplies by 1000 itself
            guidance=guidance,
            pooled_projections=batch.clip,
            encoder_hidden_states=batch.t5,
            img_ids=self._ids(height, width),
            txt_ids=self._ids_of_text(batch.t5.shape[1]),
            return_dict=False,
        )[0]
        return flow.unpack(tokens, height, width)

    def _ids(self, height: int, width: int) -> torch.Tensor:
        ids = self._image_ids.get((height, width))
        if ids is None:
            ids = self._image_ids[height, width] = flow.image_ids(height, width, self._device, self._dtype)
        return ids

    def _ids_of_text(self, tokens: int) -> torch.Tensor:
        ids = self._text_ids.get(tokens)
        if ids is None:
            ids = self._text_ids[tokens] = flow.text_ids(tokens, self._device, self._dtype)
        return ids


class TrainStep:
    """Performs updates.

    Args:
        model: What predicts.
        parameters: What is trained.
        optimizer: Updates them.
        schedule: Sets the learning rate.
        ema: Follows them, if wanted.
        random: The run's generators.
        train: The settings.
    """

    def __init__(
        self,
        model: FlowModel,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        ema: Ema | None,
        random: Randomness,
        train: TrainConfig,
    ) -> None:
        self._model = model
        self._parameters = list(parameters)
        self._optimizer = optimizer
        self._schedule = schedule
        self._ema = ema
        self._random = random
        self._train = train
        self.updating = False

    def __call__(self, done: int, batches: Sequence[Batch]) -> StepResult:
        """Perform the update after ``done`` updates, on the mean gradient over ``batches``.

        Nothing is changed before the loss and the gradient are known to be finite; while weights are
        being changed, ``updating`` is True.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        lr = self._schedule.apply(done)
        total = torch.zeros((), device=batches[0].latents.device)
        for batch in batches:
            loss = self.loss(batch) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        norm = self._clip()
        loss_value, norm_value = torch.stack((total, norm.to(total.device))).tolist()  # the only wait
        if not (math.isfinite(loss_value) and math.isfinite(norm_value)):
            self._optimizer.zero_grad(set_to_none=True)
            what = "loss" if not math.isfinite(loss_value) else "gradient"
            raise TrainingError(
                f"the {what} of step {done + 1} is not a finite number; the last checkpoint is kept. Resume "
                "it with a lower train.lr (or train.dtype: bfloat16 instead of float16)",
                "nan_loss",
            )
        self.updating = True
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema is not None:
            self._ema.update()
        self.updating = False
        return StepResult(loss_value, norm_value, lr)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The flow-matching loss of a batch at fresh noise and noise levels: a scalar with gradient."""
        latents = batch.latents.float()
        count, _, height, width = latents.shape
        noise = flow.draw_noise(latents, self._train.noise_offset, self._random.noise)
        sigmas = draw_sigmas(
            self._train.timestep_type, count, (height // 2) * (width // 2), self._random.sigma
        ).to(latents.device)
        return self.loss_at(batch, noise, sigmas)

    def loss_at(self, batch: Batch, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """The loss at given noise ``[b, c, h, w]`` and noise levels ``[b]``."""
        latents = batch.latents.float()
        predicted = self._model.velocity(flow.add_noise(latents, noise, sigmas), sigmas, batch)
        return flow.flow_loss(predicted, flow.velocity(latents, noise))

    def _clip(self) -> torch.Tensor:
        limit = self._train.max_grad_norm or math.inf
        return nn.utils.clip_grad_norm_(self._parameters, limit)
