"""From samples in the data order to batches on the training device."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from backend.trainer.cache import TensorCache
from backend.trainer.order import Sample
from backend.trainer.rng import Randomness


@dataclass(frozen=True)
class Batch:
    """What one forward pass trains on, on the training device.

    Attributes:
        latents: ``[b, channels, height/8, width/8]``, scaled.
        t5: ``[b, tokens, width]``.
        clip: ``[b, width]``.
    """

    latents: torch.Tensor
    t5: torch.Tensor
    clip: torch.Tensor


class BatchMaker:
    """Puts cached latents and embeddings together into batches on the training device."""

    def __init__(
        self,
        latents: TensorCache,
        texts: TensorCache,
        random: Randomness,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._latents = latents
        self._texts = texts
        self._random = random
        self._device = device
        self._dtype = dtype

    def __call__(self, samples: list[Sample]) -> Batch:
        """The batch of some samples; draws which captions are dropped."""
        texts = [self._texts[self._text_key(sample)] for sample in samples]
        latents = [self._latents[sample.latent]["latent"] for sample in samples]
        return Batch(
            latents=self._put(latents),
            t5=self._put([text["t5"] for text in texts]).to(self._dtype),
            clip=self._put([text["clip"] for text in texts]).to(self._dtype),
        )

    def _put(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(tensors).to(self._device, non_blocking=True)

    def _text_key(self, sample: Sample) -> str:
        if sample.dropped is None:
            return sample.text
        # A draw for every sample that can be dropped, whatever comes of it: the next one's stays its own.
        drawn = float(torch.rand((), generator=self._random.caption))
        return sample.dropped if drawn < sample.dropout else sample.text
