"""From samples in the data order to batches on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch

from backend.trainer.cache import TensorCache
from backend.trainer.devices import to_device
from backend.trainer.order import Draw
from backend.trainer.pictures import CELL
from backend.trainer.rng import Randomness
from backend.trainer.texts import Texts


@dataclass(frozen=True)
class Batch:
    """What one forward pass trains on, on the training device.

    All its pictures are of one bucket, one ``network_weight`` and one kind of regularisation.

    Attributes:
        latents: ``[b, channels, height/8, width/8]``, scaled.
        t5: ``[b, tokens, width]``.
        clip: ``[b, width]``.
        mask: ``[b, 1, height/8, width/8]`` in float32, how much each place counts; its mean over the
            batch is 1 already (ai-toolkit). None where everything counts the same.
        loss_weight: ``[b]`` in float32, the factor on each picture's loss (``loss_multiplier``, without
            ``train.reg_weight``); None where all are 1.
        network_weight: The adapter's strength while these pictures train.
        is_reg: Whether these are regularisation pictures.
        prior_reg: Whether the target is the base model's own prediction.
        preserved_t5: ``[b, tokens, width]``, texts for which the model is to answer as the base model does
            (the caption with the class word, or the empty text); None if nothing is preserved.
        preserved_clip: ``[b, width]`` of the same texts.
    """

    latents: torch.Tensor
    t5: torch.Tensor
    clip: torch.Tensor
    mask: torch.Tensor | None = None
    loss_weight: torch.Tensor | None = None
    network_weight: float = 1.0
    is_reg: bool = False
    prior_reg: bool = False
    preserved_t5: torch.Tensor | None = None
    preserved_clip: torch.Tensor | None = None

    def tensors(self) -> list[torch.Tensor]:
        """All that it holds."""
        values = (getattr(self, field.name) for field in fields(self))
        return [value for value in values if isinstance(value, torch.Tensor)]


@dataclass(frozen=True)
class Planned:
    """What a batch is to be made of, with nothing left to chance.

    Attributes:
        draws: The samples.
        texts: Cache keys of the texts of each: the captions', or what takes a dropped one's place.
    """

    draws: tuple[Draw, ...]
    texts: tuple[Texts, ...]


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

    @property
    def caption(self) -> torch.Generator:
        """Draws which captions are dropped."""
        return self._random.caption

    def __call__(self, draws: list[Draw]) -> Batch:
        """The batch of some draws, all of one kind; draws which captions are dropped."""
        return self.assemble(self.plan(draws))

    def plan(self, draws: list[Draw], caption: torch.Generator | None = None) -> Planned:
        """Draw which captions are dropped, by the run's generator or another."""
        caption = caption or self._random.caption
        return Planned(tuple(draws), tuple(_texts_of(draw, caption) for draw in draws))

    def assemble(self, planned: Planned) -> Batch:
        """The planned batch; any thread may do this, and copies go by its current stream.

        Raises:
            TrainingError: What was cached is gone.
        """
        draws, texts = planned.draws, planned.texts
        first = draws[0].sample
        t5, clip = self._embeddings([pair.trained for pair in texts])
        preserved = [pair.preserved for pair in texts if pair.preserved is not None]
        preserved_t5 = preserved_clip = None
        if len(preserved) == len(texts):
            preserved_t5, preserved_clip = self._embeddings(preserved)
        weights = [draw.sample.loss_multiplier for draw in draws]
        return Batch(
            latents=self._put([_cropped(self._latents[d.sample.latent]["latent"], d) for d in draws]),
            t5=t5,
            clip=clip,
            mask=self._mask(draws),
            loss_weight=None if all(weight == 1.0 for weight in weights) else self._floats(weights),
            network_weight=first.network_weight,
            is_reg=first.is_reg,
            prior_reg=first.prior_reg,
            preserved_t5=preserved_t5,
            preserved_clip=preserved_clip,
        )

    def _embeddings(self, keys: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        entries = [self._texts[key] for key in keys]
        t5 = self._put([entry["t5"] for entry in entries]).to(self._dtype)
        return t5, self._put([entry["clip"] for entry in entries]).to(self._dtype)

    def _mask(self, draws: Sequence[Draw]) -> torch.Tensor | None:
        """The masks of the batch, divided by their mean: a small mask does not make a small loss."""
        if all(draw.sample.mask is None for draw in draws):
            return None
        masks = torch.stack([self._mask_of(draw) for draw in draws])
        mean = masks.mean()
        return self._put_one(masks / mean if mean > 0 else masks)  # a random crop may see black alone

    def _mask_of(self, draw: Draw) -> torch.Tensor:
        if draw.sample.mask is None:
            bucket = draw.sample.bucket
            return torch.ones(1, bucket.height // CELL, bucket.width // CELL)
        return _cropped(self._latents[draw.sample.mask]["mask"], draw)

    def _floats(self, values: list[float]) -> torch.Tensor:
        return self._put_one(torch.tensor(values, dtype=torch.float32))

    def _put(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        return self._put_one(torch.stack(tensors))

    def _put_one(self, tensor: torch.Tensor) -> torch.Tensor:
        return to_device(tensor, self._device)


def _texts_of(draw: Draw, caption: torch.Generator) -> Texts:
    sample = draw.sample
    if sample.dropped is None:
        return draw.texts
    # A draw for every sample that can be dropped, whatever comes of it: the next one's stays its own.
    drawn = float(torch.rand((), generator=caption))
    return sample.dropped if drawn < sample.dropout else draw.texts


def _cropped(tensor: torch.Tensor, draw: Draw) -> torch.Tensor:
    """What a draw sees of a latent or mask ``[c, h, w]``: ``[c, bucket.height/8, bucket.width/8]``."""
    if draw.sample.slack == (0, 0):
        return tensor
    bucket = draw.sample.bucket
    rows, columns = bucket.height // CELL, bucket.width // CELL
    return tensor[:, draw.top : draw.top + rows, draw.left : draw.left + columns]
