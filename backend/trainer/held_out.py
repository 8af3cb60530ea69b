"""Pictures that are not trained on: the validation loss is taken on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.trainer.buckets import Bucket, bucket_for
from backend.trainer.cache import TensorCache
from backend.trainer.captions import CaptionRules, fill_placeholders
from backend.trainer.dataset import Picture
from backend.trainer.encode import Progress
from backend.trainer.errors import TrainingError
from backend.trainer.latents import PictureEncoder
from backend.trainer.loading import BaseModel
from backend.trainer.pictures import Framing, PictureError, picture_size
from backend.trainer.report import Reporter
from backend.trainer.rng import derive_seed
from backend.trainer.texts import Texts, Wording
from config.schema import ProcessConfig, ValidationItem

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


@dataclass(frozen=True, slots=True)
class ValidationSample:
    """One held-out picture at one size, as it lies in the caches.

    Attributes:
        latent_key: Cache key of its latent: entry ``latent`` ``[channels, height/8, width/8]``.
        text_key: Cache key of its caption's embeddings: entries ``t5`` and ``clip``.
        bucket: Its shape in pixels.
    """

    latent_key: str
    text_key: str
    bucket: Bucket


def hold_out(
    pictures: Sequence[Picture], process: ProcessConfig, seed: int, report: Reporter
) -> tuple[list[Picture], list[Picture]]:
    """Part the pictures that validate from those that train.

    What is held out are the pictures of ``validation_config.validation_items``, and a share of the
    datasets' own by ``validation_split``: those whose file names come first when hashed with the
    seed, so that a resumed run, or one with a picture more, holds out the same ones. A held-out file is not
    trained on anywhere, whichever datasets name it. It stands in one shape, with its caption as it is.

    Returns:
        What is trained on, and what is held out (empty without validation).

    Raises:
        TrainingError: Nothing would be left to train on.
    """
    train = process.train
    edge = train.validation_config.resolution if train.validation_config is not None else None
    items = train.validation_config.validation_items if train.validation_config is not None else []
    held = [picture for item in items if (picture := _of_item(item, process, report)) is not None]
    named = {_same(picture.path) for picture in held}
    candidates: dict[Path, Picture] = {}
    for picture in pictures:
        if not (picture.is_reg or picture.prior_reg) and _same(picture.path) not in named:
            candidates.setdefault(picture.path, picture)
    ranked = sorted(candidates, key=lambda path: (derive_seed(seed, "held out", path.name), path))
    chosen = ranked[: _split_count(train.validation_split, len(ranked))]
    held += [_as_it_is(candidates[path], edge) for path in sorted(chosen)]
    out = {_same(picture.path) for picture in held}
    left = [picture for picture in pictures if _same(picture.path) not in out]
    if all(picture.is_reg for picture in left):
        raise TrainingError(
            f"validation holds out all {len(out)} of the run's pictures: lower train.validation_split or "
            "take pictures out of validation_items",
            "no_pictures",
            bad_input=True,
        )
    return left, held


def cache_held_out(
    held: Sequence[Picture],
    base: BaseModel,
    vae: Callable[[], AutoencoderKL],
    text_keys: dict[str, str],
    cache: TensorCache,
    progress: Progress,
) -> list[ValidationSample]:
    """Make sure that the latents of the held-out pictures are cached.

    A damaged one is left out with a warning; none may be left. Arguments and errors are those of
    :func:`backend.trainer.latents.cache_pictures`.
    """
    encoder = PictureEncoder(base, vae, cache, progress)
    samples: list[ValidationSample] = []
    for picture in held:
        (bucket,) = picture.buckets
        try:
            latent = encoder.open(picture).latent(Framing(bucket))
        except PictureError as error:
            progress.report.warning(f"{picture.path} {error}; it does not validate", "bad_picture")
            continue
        samples.append(ValidationSample(latent, text_keys[picture.texts[0].trained], bucket))
    return samples


def _split_count(split: float, pictures: int) -> int:
    """How many of so many pictures ``validation_split`` means: a share, or from 1 on their number."""
    return round(split) if split >= 1 or not split else max(1, round(split * pictures))


def _as_it_is(picture: Picture, edge: int | None) -> Picture:
    """A picture of a dataset in one shape, once, with the caption as it is written."""
    size = picture_size(picture.path) if picture.crop is None else (picture.crop.width, picture.crop.height)
    bucket = picture.buckets[-1] if edge is None else bucket_for(*size, edge)
    plain = replace(picture.wording, preserved_class=None, preserve_blank=False).plain(picture.caption)
    return replace(picture, buckets=(bucket,), texts=(plain,), dropped=None, mask=None)


def _of_item(item: ValidationItem, process: ProcessConfig, report: Reporter) -> Picture | None:
    """A picture of ``validation_items``; its placeholders are filled, the trigger word is not added."""
    assert process.train.validation_config is not None
    path = Path(item.image_path)
    try:
        size = picture_size(path)
    except PictureError as error:
        report.warning(f"{path} {error}; it does not validate", "bad_picture")
        return None
    return Picture(
        path=path,
        buckets=(bucket_for(*size, process.train.validation_config.resolution),),
        caption=item.prompt,
        wording=Wording(CaptionRules(process.trigger_word, add_trigger=False)),
        texts=(Texts(fill_placeholders(item.prompt, process.trigger_word)),),
    )


def _same(path: Path) -> Path:
    """One name for one file."""
    return path.resolve()
