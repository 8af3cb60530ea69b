"""Filling the caches: texts through CLIP and T5, pictures through the autoencoder.

Everything is computed one by one, so that an entry depends on its own content alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from backend.events import Phase
from backend.trainer.cache import Entry, TensorCache, content_key
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, all_pictures_bad
from backend.trainer.loading import BaseModel, TextEncoders, Tokenizers, free_memory
from backend.trainer.order import Sample
from backend.trainer.pictures import PictureError, file_hash, open_picture, pixels_of
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from PIL.Image import Image

_FORMAT = 1  # grows when what is cached changes for the same input


@dataclass(frozen=True)
class Progress:
    """Where encoding says how far it is, and hears that it should stop."""

    report: Reporter
    stop: StopControl


# -- texts -------------------------------------------------------------------------------------


def cache_texts(
    texts: Iterable[str], base: BaseModel, cache: TensorCache, progress: Progress
) -> dict[str, str]:
    """Make sure that the embeddings of all texts are cached; the encoders are loaded only if one is not.

    Returns:
        Each text's cache key. An entry holds ``t5`` ``[tokens, width]`` and ``clip`` ``[width]``.

    Raises:
        TrainingError: The encoders cannot be loaded, or an entry cannot be stored.
        StopRequested: The run was asked to stop.
    """
    report, stop = progress.report, progress.stop
    tokenizers = base.tokenizers()
    identity = base.fingerprint("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    lengths = (tokenizers.clip_length, tokenizers.t5_length)
    keys = {text: content_key("text", _FORMAT, identity, base.dtype, *lengths, text) for text in texts}
    missing = [text for text, key in keys.items() if not _is_text(cache.find(key))]
    report.phase(Phase.CACHING_TEXT, len(keys) - len(missing), len(keys))
    if not missing:
        return keys
    encoders = base.text_encoders()
    for index, text in enumerate(missing, start=len(keys) - len(missing)):
        stop.check()
        _warn_if_cut(text, tokenizers, report)
        cache.store(keys[text], encode_text(text, encoders, tokenizers))
        report.phase(Phase.CACHING_TEXT, index + 1, len(keys))
    del encoders
    free_memory(base.device)
    return keys


@torch.no_grad()
def encode_text(text: str, encoders: TextEncoders, tokenizers: Tokenizers) -> Entry:
    """T5's last hidden states of the padded text, and CLIP's pooled output, on the CPU.

    No attention mask: FLUX.1 was trained with the padding's embeddings in view.
    """
    t5_ids = _tokens(tokenizers.t5, text, tokenizers.t5_length).to(encoders.t5.device)
    clip_ids = _tokens(tokenizers.clip, text, tokenizers.clip_length).to(encoders.clip.device)
    hidden = encoders.t5(t5_ids, output_hidden_states=False)[0][0]
    pooled = encoders.clip(clip_ids, output_hidden_states=False).pooler_output[0]
    return {"t5": hidden.cpu().contiguous(), "clip": pooled.cpu().contiguous()}


def _tokens(tokenizer: Any, text: str, length: int) -> torch.Tensor:
    encoded = tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ids: torch.Tensor = encoded.input_ids
    return ids


def _warn_if_cut(text: str, tokenizers: Tokenizers, report: Reporter) -> None:
    if len(text) < tokenizers.t5_length:
        return  # a token has at least one character
    count = len(tokenizers.t5(text, verbose=False).input_ids)
    if count > tokenizers.t5_length:
        report.warning(
            f"a caption of {count} tokens is cut to {tokenizers.t5_length}: {text[:60]!r}...", "caption_cut"
        )


def _is_text(entry: Entry | None) -> bool:
    return entry is not None and entry.keys() >= {"t5", "clip"}


# -- pictures ----------------------------------------------------------------------------------


def cache_pictures(
    pictures: Sequence[Picture],
    base: BaseModel,
    vae: Callable[[], AutoencoderKL],
    text_keys: dict[str, str],
    cache: TensorCache,
    progress: Progress,
) -> list[Sample]:
    """Make sure that the latents of all pictures are cached, in all their buckets.

    A damaged picture is left out with a warning.

    Args:
        pictures: What to encode.
        base: The base model.
        vae: Gives its autoencoder; called only if a latent is missing.
        text_keys: Cache keys of the pictures' texts.
        cache: Where latents go; an entry holds ``latent`` ``[channels, height/8, width/8]``.
        progress: Reporting and stopping.

    Returns:
        The samples of an epoch, repeats included, in a fixed order.

    Raises:
        TrainingError: The autoencoder cannot be loaded, an entry cannot be stored, or no picture is
            left.
        StopRequested: The run was asked to stop.
    """
    report, stop = progress.report, progress.stop
    identity = base.fingerprint("vae")
    total = sum(len(picture.buckets) for picture in pictures)
    done = 0
    samples: list[Sample] = []
    report.phase(Phase.CACHING_LATENTS, 0, total)
    for picture in pictures:
        keys: list[str] = []
        image: Image | None = None
        try:
            content = file_hash(picture.path)
            for bucket in picture.buckets:
                stop.check()
                key = content_key("latent", _FORMAT, identity, base.vae_dtype, content, bucket)
                entry = cache.find(key)
                if entry is None or "latent" not in entry:
                    image = image or open_picture(picture.path)
                    pixels = pixels_of(image, bucket)
                    cache.store(key, {"latent": encode_picture(vae(), pixels, seed=int(key[:15], 16))})
                keys.append(key)
        except PictureError as error:
            report.warning(f"{picture.path} {error}; it is left out", "bad_picture")
            keys = []
        done += len(picture.buckets)
        report.phase(Phase.CACHING_LATENTS, done, total)
        samples += [
            Sample(
                bucket=bucket,
                latent=key,
                text=text_keys[picture.text],
                dropped=None if picture.dropped is None else text_keys[picture.dropped],
                dropout=picture.dropout,
            )
            for _ in range(picture.repeats)
            for bucket, key in zip(picture.buckets, keys, strict=False)
        ]
    if not samples:
        raise all_pictures_bad(len(pictures))
    return samples


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
    posterior = vae.encode(pixels[None].to(vae.device, vae.dtype)).latent_dist
    drawn = posterior.sample(generator=generator)
    latent: torch.Tensor = (drawn - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    if not torch.isfinite(latent).all():
        raise PictureError("has no finite latent")
    return latent[0].cpu().contiguous()
