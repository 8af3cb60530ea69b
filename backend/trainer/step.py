"""One update: forward and backward passes over its batches, clipping, optimizer, moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.trainer import flow
from backend.trainer.batches import Batch
from backend.trainer.devices import to_device
from backend.trainer.ema import Ema
from backend.trainer.errors import TrainingError
from backend.trainer.flat_optimizer import FlatAdamW
from backend.trainer.lora import Lora
from backend.trainer.optimizer import Schedule
from backend.trainer.pending import Pending, StepResult
from backend.trainer.rng import Randomness
from backend.trainer.timesteps import NoiseLevelSampler
from config.schema import TrainConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from backend.trainer.distributed import Team
    from backend.trainer.fast_flux import FastFlux
    from backend.trainer.graphs import GraphedUpdate


@dataclass(frozen=True)
class Draws:
    """What is drawn for a batch: noise ``[b, c, h, w]``, levels ``[b]`` and maybe their weights ``[b]``."""

    noise: torch.Tensor
    sigmas: torch.Tensor
    weights: torch.Tensor | None = None


class FlowModel:
    """The transformer as training calls it: latents in, predicted velocity out.

    Args:
        transformer: The FLUX transformer, on its device.
        guidance: Guidance value fed to a guidance-distilled model; others get none.
        bypass_guidance: Leave what the guidance embedder says out of the conditioning, as ai-toolkit's
            ``bypass_guidance_embedding`` does; sampling, which calls the transformer itself, keeps it.
    """

    def __init__(
        self, transformer: FluxTransformer2DModel, guidance: float, *, bypass_guidance: bool = False
    ) -> None:
        self._transformer = transformer
        self._device: torch.device = transformer.device
        self._dtype: torch.dtype = transformer.dtype
        self._guidance: torch.Tensor | None = None
        self._silenced = False
        if transformer.config.guidance_embeds:
            self._guidance = torch.tensor([guidance], device=self._device, dtype=torch.float32)
            if bypass_guidance:
                transformer.time_text_embed.guidance_embedder.register_forward_hook(self._silence)
        self._image_ids: dict[tuple[int, int], torch.Tensor] = {}
        self._text_ids: dict[int, torch.Tensor] = {}

    def velocity(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, t5: torch.Tensor, clip: torch.Tensor
    ) -> torch.Tensor:
        """Predicted velocity, in the shape of ``noisy`` ``[b, c, h, w]``.

        Args:
            noisy: Latents at their noise levels.
            sigmas: One level a picture, ``[b]``.
            t5: Embeddings of the texts, ``[b, tokens, width]``.
            clip: Pooled embeddings of the texts, ``[b, width]``.
        """
        count, _, height, width = noisy.shape
        guidance = None if self._guidance is None else self._guidance.expand(count)
        self._silenced = True
        try:
            tokens = self._transformer(
                hidden_states=flow.pack(noisy).to(self._dtype),
                timestep=sigmas,  # the model multiplies by 1000 itself
                guidance=guidance,
                pooled_projections=clip,
                encoder_hidden_states=t5,
                img_ids=self._ids(height, width),
                txt_ids=self._ids_of_text(t5.shape[1]),
                return_dict=False,
            )[0]
        finally:
            self._silenced = False
        return flow.unpack(tokens, height, width)

    def _silence(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(output) if self._silenced else output

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
        lora: What is trained.
        optimizer: Updates it.
        schedule: Sets the learning rate.
        ema: Follows its weights, if wanted.
        random: The run's generators.
        train: The settings.
        fast: What took over the model's forward pass, if anything did.

    Attributes:
        schedule: Sets the learning rate.
        updating: Whether weights are being changed right now.

    Raises:
        TrainingError: The settings leave no noise level.
    """

    def __init__(
        self,
        model: FlowModel,
        lora: Lora,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        ema: Ema | None,
        random: Randomness,
        train: TrainConfig,
        *,
        fast: FastFlux | None = None,
    ) -> None:
        self._model = model
        self._fast = fast
        self._lora = lora
        self._parameters = list(lora.parameters.values())
        self._optimizer = optimizer
        self.schedule = schedule
        self._ema = ema
        self._random = random
        self._train = train
        self._levels = NoiseLevelSampler(train)
        self.updating = False
        self._team: Team | None = None
        self._graphs: GraphedUpdate | None = None
        self._ruined: torch.Tensor | None = None  # 1 on the device once a number was not finite
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        if device.type == "cuda" and isinstance(optimizer, FlatAdamW):
            self._ruined = torch.zeros((), device=device)

    def __call__(self, done: int, batches: Sequence[Batch]) -> StepResult:
        """Perform the update after ``done`` updates, on the mean gradient over ``batches``.

        Nothing is changed before the loss and the gradient are known to be finite; while weights are
        being changed, ``updating`` is True.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        return self.start(done, batches).read()

    def start(self, done: int, batches: Sequence[Batch]) -> Pending:
        """As a call, but without waiting for the device where it can decide by itself.

        There (CUDA, AdamW over one buffer) an update that is not finite is not made, nor are those after
        it, until :meth:`recover`; elsewhere the numbers are read here.

        Raises:
            TrainingError: The loss or the gradient is not finite.
        """
        lr = self.schedule.apply(done)
        total = torch.zeros((), device=batches[0].latents.device)
        if self._team is not None:
            total += self._team.update(self, self._lora, batches)
        else:
            for batch in batches:
                total += self.backward(batch, self.draws(batch), 1.0 / len(batches))
        norm = self._clip()
        numbers = torch.stack((total, norm.to(total.device)))
        if self._ruined is None:
            pending = Pending(numbers.cpu(), None, lr, done + 1)  # the only wait
            try:
                pending.read()
            except TrainingError:
                self._optimizer.zero_grad(set_to_none=True)
                raise
        else:
            self._ruined.copy_(torch.maximum(self._ruined, (~numbers.isfinite().all()).float()))
            self._optimizer.found_inf = self._ruined  # type: ignore[attr-defined]  # the fused kernel's
            kept = torch.empty(2, pin_memory=True).copy_(numbers, non_blocking=True)
            event: Any = torch.cuda.Event
            arrived = event(enable_timing=True)
            arrived.record()
            pending = Pending(kept, arrived, lr, done + 1)
        self.updating = True
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema is not None:
            self._ema.update(self._ruined)
        if self._fast is not None:
            self._fast.begin(first=True)  # the next forward pass, recorded or not, takes the new weights
        self.updating = False
        return pending

    def backward(self, batch: Batch, draws: Draws, share: float) -> torch.Tensor:
        """Add the gradient of ``share`` times a batch's loss to the adapter's; returns that loss."""
        if self._graphs is not None:
            replayed = self._graphs.backward(batch, draws, share)
            if replayed is not None:
                return replayed
            try:
                return self._backward(batch, draws, share)
            except torch.OutOfMemoryError:
                if self._fast is None or not self._graphs.release():
                    raise
                self._fast.drop()  # their memory is free now
        return self._backward(batch, draws, share)

    def _backward(self, batch: Batch, draws: Draws, share: float) -> torch.Tensor:
        total = torch.zeros((), device=batch.latents.device)
        with self._lora.strength(batch.network_weight):  # the backward pass may compute forward again
            for part in self.losses(batch, draws):
                loss = part * share
                loss.backward()  # type: ignore[no-untyped-call]
                if self._fast is not None:
                    self._fast.collect()
                total += loss.detach()
        return total

    def replay(self, graphs: GraphedUpdate | None) -> None:
        """Compute gradients by graphs from now on, where that is possible; None for never."""
        self._graphs = graphs

    @property
    def graphs(self) -> GraphedUpdate | None:
        """What replays passes, if anything does."""
        return self._graphs

    def share_with(self, team: Team) -> None:
        """Let other processes compute gradients as well."""
        self._team = team

    @property
    def processes(self) -> int:
        """How many processes compute gradients; each is to have a batch."""
        return 1 if self._team is None else self._team.size

    def recover(self) -> None:
        """Make updates again after one that was not finite."""
        if self._ruined is not None:
            self._ruined.zero_()

    def draws(self, batch: Batch) -> Draws:
        """Fresh noise and noise levels for a batch."""
        latents = batch.latents.float()
        count, _, height, width = latents.shape
        noise = flow.draw_noise(latents, self._train.noise_offset, self._random.noise)
        levels = self._levels.draw(count, (height // 2) * (width // 2), self._random.sigma)
        sigmas = to_device(levels.sigmas, latents.device)
        weights = None if levels.weights is None else to_device(levels.weights, latents.device)
        return Draws(noise, sigmas, weights)

    def blank_draws(self, batch: Batch) -> Draws:
        """Draws of a batch's shapes without any chance in them."""
        latents = batch.latents.float()
        level = torch.full((len(latents),), 0.5, device=latents.device)
        return Draws(
            torch.zeros_like(latents), level, torch.ones_like(level) if self._levels.weighs else None
        )

    def losses(self, batch: Batch, draws: Draws | None = None) -> Iterator[torch.Tensor]:
        """The parts of a batch's loss, at fresh noise and noise levels or given ones: scalars with gradient.

        Each can be sent backwards before the next is computed, so that one forward pass at a time has
        to be kept.
        """
        draws = draws or self.draws(batch)
        yield self.loss_at(batch, draws.noise, draws.sigmas, draws.weights)
        if batch.preserved_t5 is not None:
            yield self.preservation_loss(batch, draws.noise, draws.sigmas)

    def loss_at(
        self,
        batch: Batch,
        noise: torch.Tensor,
        sigmas: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The flow-matching loss at given noise ``[b, c, h, w]``, noise levels and their weights ``[b]``.

        Each picture's mean error, times its ``loss_weight``; the mean over the batch, times
        ``reg_weight`` for regularisation pictures.
        """
        train = self._train
        latents = batch.latents.float()
        noisy = flow.add_noise(latents, noise, sigmas)
        if batch.prior_reg:
            target = self._base_velocity(noisy, sigmas, batch.t5, batch.clip)
        else:
            target = flow.velocity(latents, noise)
        predicted = self._model.velocity(noisy, sigmas, batch.t5, batch.clip)
        if train.do_differential_guidance:
            # The error and with it the gradient grow by the scale (ai-toolkit, differential guidance).
            aim = predicted.detach().float()
            target = aim + train.differential_guidance_scale * (target - aim)
        losses = flow.picture_losses(
            predicted, target, kind=train.loss_type, weights=weights, mask=batch.mask
        )
        if batch.loss_weight is not None:
            losses = losses * batch.loss_weight
        if train.max_loss is not None:
            losses = losses * (train.max_loss / losses.detach()).clamp(max=1.0)  # keeps its direction
        return self._weighed(losses.mean(), batch)

    def preservation_loss(self, batch: Batch, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
        """How far the adapter moves the model's answer to the preserved texts, at given noise.

        Mean squared difference between the predictions with and without the adapter, times the
        multiplier (ai-toolkit, differential output preservation and blank prompt preservation).
        """
        train = self._train
        if batch.preserved_t5 is None or batch.preserved_clip is None:
            raise ValueError("the batch has no preserved texts")
        noisy = flow.add_noise(batch.latents.float(), noise, sigmas)
        texts = batch.preserved_t5, batch.preserved_clip
        wanted = self._base_velocity(noisy, sigmas, *texts)
        loss = flow.flow_loss(self._model.velocity(noisy, sigmas, *texts), wanted)
        multiplier = (
            train.diff_output_preservation_multiplier
            if train.diff_output_preservation
            else train.blank_prompt_preservation_multiplier
        )
        return self._weighed(loss * multiplier, batch)

    @torch.no_grad()
    def _base_velocity(
        self, noisy: torch.Tensor, sigmas: torch.Tensor, t5: torch.Tensor, clip: torch.Tensor
    ) -> torch.Tensor:
        with self._lora.off():
            return self._model.velocity(noisy, sigmas, t5, clip).float()

    def _weighed(self, loss: torch.Tensor, batch: Batch) -> torch.Tensor:
        return loss * self._train.reg_weight if batch.is_reg else loss

    def _clip(self) -> torch.Tensor:
        limit = self._train.max_grad_norm or math.inf
        if self._train.optimizer == "adafactor":  # it clips each update itself, as in ai-toolkit
            limit = math.inf
        flat = self._lora.flat
        if flat is not None and flat.master.grad is not None:
            norm: torch.Tensor = torch.linalg.vector_norm(flat.master.grad)
            if limit < math.inf:
                flat.master.grad.mul_((limit / (norm + 1e-6)).clamp(max=1.0))  # as clip_grad_norm_
            return norm
        grads = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if limit < math.inf:  # as clip_grad_norm_, without its sorting by device and format
            torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm
