"""Filling the cache of pictures: latents through the autoencoder, and masks on the latent grid.

Everything is computed one by one, so that an entry depends on its own content alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from backend.events import Phase
from backend.trainer.cache import TensorCache, content_key
from backend.trainer.dataset import Picture, all_pictures_bad
from backend.trainer.encode import Progress
from backend.trainer.loading import BaseModel
from backend.trainer.masks import Mask, mask_weights
from backend.trainer.order import Sample
from backend.trainer.pictures import (
    CELL,
    Framing,
    PictureError,
    file_hash,
    open_picture,
    picture_size,
)
from backend.trainer.pixels import framed_pixels
from backend.trainer.texts import Texts
from backend.trainer.tiling import tiled_if_needed

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from PIL.Image import Image

_FORMAT = 1  # grows when what is cached changes for the same input


def cache_pictures(
    pictures: Sequence[Picture],
    base: BaseModel,
    vae: Callable[[], AutoencoderKL],
    text_keys: dict[str, str],
    cache: TensorCache,
    progress: Progress,
) -> list[Sample]:
    """Make sure that the latents (and masks) of all pictures are cached, in all their buckets and copies.

    A damaged picture is left out with a warning.

    Args:
        pictures: What to encode.
        base: The base model.
        vae: Gives its autoencoder; called only if a latent is missing.
        text_keys: Cache keys of the pictures' texts.
        cache: Where they go; an entry holds ``latent`` ``[channels, height/8, width/8]`` in the
            autoencoder's number format, or ``mask`` ``[1, height/8, width/8]`` in float32.
        progress: Reporting and stopping.

    Returns:
        The samples of an epoch, repeats included, in a fixed order.

    Raises:
        TrainingError: The autoencoder cannot be loaded, an entry cannot be stored, or no picture is
            left.
        StopRequested: The run was asked to stop.
    """
    encoder = PictureEncoder(base, vae, cache, progress)
    total = sum(len(picture.buckets) * len(picture.flips) for picture in pictures)
    done = 0
    samples: list[Sample] = []
    progress.report.phase(Phase.CACHING_LATENTS, 0, total)
    for picture in pictures:
        try:
            samples += _samples(picture, encoder, text_keys)
        except PictureError as error:
            progress.report.warning(f"{picture.path} {error}; it is left out", "bad_picture")
        done += len(picture.buckets) * len(picture.flips)
        progress.report.phase(Phase.CACHING_LATENTS, done, total)
    if all(sample.is_reg for sample in samples):
        raise all_pictures_bad(len(pictures))
    return samples


def _samples(picture: Picture, encoder: PictureEncoder, text_keys: dict[str, str]) -> list[Sample]:
    opened = encoder.open(picture)
    framings = [
        Framing(bucket, flip, picture.random_crop) for bucket in picture.buckets for flip in picture.flips
    ]
    entries = [(framing, opened.latent(framing), opened.mask(framing)) for framing in framings]

    def keys(texts: Texts) -> Texts:
        preserved = None if texts.preserved is None else text_keys[texts.preserved]
        return Texts(text_keys[texts.trained], preserved)

    texts = tuple(map(keys, picture.texts))
    dropped = None if picture.dropped is None else keys(picture.dropped)
    copies = (entry for _ in range(picture.repeats) for entry in entries)
    return [
        Sample(
            bucket=framing.bucket,
            latent=latent,
            texts=texts,
            dropped=dropped,
            dropout=picture.dropout,
            mask=mask,
            slack=opened.slack(framing),
            turn=turn,
            turns=picture.samples,
            network_weight=picture.network_weight,
            loss_multiplier=picture.loss_multiplier,
            is_reg=picture.is_reg,
            prior_reg=picture.prior_reg,
        )
        for turn, (framing, latent, mask) in enumerate(copies)
    ]


class PictureEncoder:
    """Puts what pictures become into the cache, unless it is there.

    Args:
        base: The base model.
        vae: Gives its autoencoder; called only if a latent is missing.
        cache: Where latents and masks go.
        progress: Reporting and stopping.
    """

    def __init__(
        self, base: BaseModel, vae: Callable[[], AutoencoderKL], cache: TensorCache, progress: Progress
    ) -> None:
        self.vae = vae
        self.cache = cache
        self.stop = progress.stop
        self.identity = (base.fingerprint("vae"), base.vae_dtype)

    def open(self, picture: Picture) -> OpenedPicture:
        """The picture, read as far as needed.

        Raises:
            PictureError: It cannot be read.
        """
        return OpenedPicture(self, picture)


class OpenedPicture:
    """One picture on its way into the cache; its pixels are decoded once, and only if they are needed."""

    def __init__(self, encoder: PictureEncoder, picture: Picture) -> None:
        self._encoder = encoder
        self._picture = picture
        self._content = file_hash(picture.path)
        self._whole = picture_size(picture.path)
        crop = picture.crop
        self._size = self._whole if crop is None else (crop.width, crop.height)

    @cached_property
    def _image(self) -> Image:
        image, crop = open_picture(self._picture.path), self._picture.crop
        return image if crop is None else image.crop(crop.corners)

    def latent(self, framing: Framing) -> str:
        """The cache key of its latent in this framing; computed if it is missing.

        Raises:
            PictureError: The picture is damaged.
            StopRequested: The run was asked to stop.
        """
        encoder = self._encoder
        encoder.stop.check()
        key = content_key("latent", _FORMAT, *encoder.identity, self._content, *self._parts(framing))
        entry = encoder.cache.find(key)
        if entry is None or "latent" not in entry:
            pixels = framed_pixels(self._image, framing)
            latent = encode_picture(encoder.vae(), pixels, seed=int(key[:15], 16))
            encoder.cache.store(key, {"latent": latent})
        return key

    def mask(self, framing: Framing) -> str | None:
        """The cache key of its mask in this framing; None if it has none.

        Raises:
            PictureError: The mask is damaged, or black all over.
        """
        mask = self._picture.mask
        if mask is None:
            return None
        cache = self._encoder.cache
        key = content_key("mask", _FORMAT, self._mask_content, self._whole, *self._parts(framing))
        entry = cache.find(key)
        if entry is None or "mask" not in entry:
            cache.store(key, {"mask": self._weights(mask, framing)})
        return key

    def _parts(self, framing: Framing) -> Iterable[object]:
        """What a cache key depends on besides the content; without a crop as it always was."""
        crop = self._picture.crop
        cut = () if crop is None else (("crop", *crop),)
        return framing.bucket, framing.flip, framing.whole, *cut

    @cached_property
    def _mask_content(self) -> str:
        return "" if self._picture.mask is None else self._picture.mask.content()

    @cached_property
    def _mask_image(self) -> Image | None:
        image = None if self._picture.mask is None else self._picture.mask.open()
        crop = self._picture.crop
        if image is None or crop is None:
            return image
        if image.size != self._whole:  # a mask of another size lies stretched over the whole picture
            image = image.resize(self._whole)
        return image.crop(crop.corners)

    def _weights(self, mask: Mask, framing: Framing) -> torch.Tensor:
        if self._mask_image is None:  # no transparency: all of it counts
            width, height = framing.kept(*self._size)
            return torch.ones(1, height // CELL, width // CELL)
        return mask_weights(self._mask_image, self._size, framing, mask.least)

    def slack(self, framing: Framing) -> tuple[int, int]:
        """Columns and rows of latent cells that lie beyond the bucket."""
        width, height = framing.kept(*self._size)
        return (width - framing.bucket.width) // CELL, (height - framing.bucket.height) // CELL


@torch.no_grad()
def encode_picture(vae: AutoencoderKL, pixels: torch.Tensor, *, seed: int) -> torch.Tensor:
    """The latent of one picture: ``scaling_factor * (z - shift_factor)``, z drawn from the posterior.

    Args:
        vae: The autoencoder.
        pixels: ``[3, height, width]`` in -1..1.
        seed: Of the draw, so that a picture's latent is the same whenever it is computed.

    Returns:
        ``[channels, height/8, width/8]`` in the autoencoder's number format, on the CPU.

    Raises:
        PictureError: The autoencoder's answer is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    placed = pixels[None].to(vae.device, vae.dtype)
    posterior = tiled_if_needed(vae, lambda: vae.encode(placed)).latent_dist
    drawn = posterior.sample(generator=generator)
    latent: torch.Tensor = (drawn - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    if not torch.isfinite(latent).all():
        raise PictureError("has no finite latent")
    return latent[0].cpu().contiguous()
