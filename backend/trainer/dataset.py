"""Which pictures a run trains on, with their texts, buckets and masks."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.datasets.sidecar import SIDECAR, Box, Marks, SidecarError, read_sidecar
from backend.trainer.buckets import Bucket, BucketKind, buckets_for
from backend.trainer.captions import CaptionError, CaptionRules, choose_trigger, read_caption
from backend.trainer.control import StopControl
from backend.trainer.errors import TrainingError
from backend.trainer.manifest import is_manifest, read_manifest
from backend.trainer.masks import Mask, MaskFolder, is_stretched
from backend.trainer.pictures import EXTENSIONS, Flip, PictureError, picture_header
from backend.trainer.report import Reporter
from backend.trainer.texts import Texts, Wording, most_variants
from config.schema import DatasetConfig, ProcessConfig, TrainConfig

_STOP_EVERY = 50  # pictures between two looks for a stop request


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of one dataset.

    Attributes:
        path: Its file.
        buckets: The shapes it is trained in, smallest first.
        caption: What its caption file says, or what stands in for it.
        wording: How that becomes texts.
        texts: What it is trained with, in turn: one text, or the variants that chance makes.
        dropped: What is used when the caption is dropped; None if it never is.
        dropout: Probability of that.
        repeats: How often it stands in an epoch.
        flips: Its copies.
        random_crop: Whether the crop is drawn every epoch.
        crop: The part of it that is trained on, from the sidecar; None for all.
        mask: Which places of it count; None if all do.
        is_reg: Whether it is a regularisation picture.
        prior_reg: Whether it teaches what the base model predicts.
        network_weight: The adapter's strength while it trains.
        loss_multiplier: Factor on its loss.
    """

    path: Path
    buckets: tuple[Bucket, ...]
    caption: str
    wording: Wording
    texts: tuple[Texts, ...]
    dropped: Texts | None = None
    dropout: float = 0.0
    repeats: int = 1
    flips: tuple[Flip, ...] = ("",)
    random_crop: bool = False
    crop: Box | None = None
    mask: Mask | None = None
    is_reg: bool = False
    prior_reg: bool = False
    network_weight: float = 1.0
    loss_multiplier: float = 1.0

    @property
    def text(self) -> str:
        """Its text when nothing is shuffled or left out."""
        return self.wording.plain(self.caption).trained

    @property
    def samples(self) -> int:
        """How many samples of an epoch it makes."""
        return len(self.buckets) * self.repeats * len(self.flips)

    def all_texts(self) -> list[str]:
        """Every text of it that is encoded."""
        dropped = (self.dropped,) if self.dropped is not None else ()
        return [text for texts in (*self.texts, *dropped) for text in texts if text is not None]


def find_pictures(folder: Path, without: Path | None = None) -> list[Path]:
    """Picture files in ``folder`` and below, sorted; hidden files and folders are left out.

    Args:
        folder: Where to look.
        without: A folder inside it to pass over (masks).

    Raises:
        TrainingError: The folder is missing, no folder, or unreadable.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise TrainingError(
            f"the dataset folder {folder} {what}; correct datasets.folder_path", "no_dataset", bad_input=True
        )

    def refuse(error: OSError) -> None:
        raise TrainingError(
            f"the dataset folder {error.filename or folder} cannot be read: {error.strerror or error}",
            "no_dataset",
            bad_input=True,
        ) from error

    found: list[Path] = []
    passed_over = os.path.abspath(without) if without is not None else None
    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.abspath(os.path.join(here, name)) != passed_over
        )
        found += [
            Path(here, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
        ]
    return sorted(found)


def read_datasets(process: ProcessConfig, report: Reporter, stop: StopControl) -> list[Picture]:
    """All pictures of a run that can be used, in a fixed order.

    A picture that cannot be opened, or whose caption cannot be read while there is no
    ``default_caption``, is left out with a warning. A missing or empty caption falls back to
    ``default_caption`` and else to the trigger word alone, with one warning a dataset.

    Args:
        process: The run's config.
        report: Where warnings go.
        stop: Looked at now and then.

    Raises:
        TrainingError: A folder is missing, or nothing usable is left.
        StopRequested: The run was asked to stop.
    """
    pictures: list[Picture] = []
    seen = 0
    for dataset in process.datasets:
        reader = _DatasetReader(dataset, process, report)
        paths = reader.paths()
        for index, path in enumerate(paths):
            if index % _STOP_EVERY == 0:
                stop.check()
            picture = reader.read(path)
            if picture is not None:
                pictures.append(picture)
        reader.warn_about_gaps()
        seen += len(paths)
    if all(picture.is_reg for picture in pictures):
        raise all_pictures_bad(seen)
    return pictures


def with_variants(pictures: Sequence[Picture], train: TrainConfig, seed: int) -> list[Picture]:
    """The pictures with the variants of their texts that a run will use (see :mod:`backend.trainer.texts`).

    A longer run has the same ones and more, so that adding steps to a run does not change what it did.
    """
    varying = {picture.caption for picture in pictures if picture.wording.varies}
    most = most_variants(len(varying))
    batches = train.steps * train.gradient_accumulation
    epochs = {
        is_reg: _epochs(pictures, is_reg, batches, _usual_batch(train))
        for is_reg in {picture.is_reg for picture in pictures}
    }

    def varied(picture: Picture) -> Picture:
        if not picture.wording.varies:
            return picture
        count = min(most, epochs[picture.is_reg] * picture.samples)
        return replace(picture, texts=picture.wording.variants(picture.caption, count, seed))

    return [varied(picture) for picture in pictures]


def _usual_batch(train: TrainConfig) -> int:
    """Pictures a batch; with a budget of tokens about those of 512 x 512 (texts only come round sooner)."""
    small = 1024 + 512  # tokens of one
    most = 3 * train.batch_size if train.token_budget == "auto" else train.token_budget // small
    return max(train.batch_size, most)


def _epochs(pictures: Sequence[Picture], is_reg: bool, batches: int, batch_size: int) -> int:
    """Epochs that ``batches`` begin, at the most: batches that are not full only make epochs longer."""
    samples = sum(picture.samples for picture in pictures if picture.is_reg is is_reg)
    return math.ceil(batches / math.ceil(samples / batch_size))


def all_pictures_bad(count: int) -> TrainingError:
    """The failure of a run none of whose ``count`` pictures can be used."""
    subject = "the only picture" if count == 1 else f"all {count} pictures"
    return TrainingError(f"{subject} of the run cannot be used; see the warnings above", "no_pictures")


class _DatasetReader:
    """Reads the pictures of one dataset."""

    def __init__(self, dataset: DatasetConfig, process: ProcessConfig, report: Reporter) -> None:
        self._dataset = dataset
        self._report = report
        self._source = Path(dataset.folder_path)
        self._manifest = read_manifest(self._source) if is_manifest(self._source) else None
        self._folder = self._source if self._manifest is None else self._source.parent
        self._masks = self._mask_folder()
        self._wording = _wording(dataset, process)
        self._sidecars: dict[Path, Mapping[str, Marks]] = {}
        self._excluded = 0
        self._uncaptioned = 0
        self._unmasked = 0
        self._stretched: list[str] = []

    def paths(self) -> list[Path]:
        """The dataset's pictures, before anything is read.

        Raises:
            TrainingError: There are none, or the folder cannot be read.
        """
        if self._manifest is not None:
            paths = list(self._manifest)
        else:
            masks = self._dataset.mask_path
            paths = find_pictures(self._source, without=Path(masks) if masks else None)
        if not paths:
            what = "folder" if self._manifest is None else "file"
            raise TrainingError(
                f"the dataset {what} {self._source} holds no pictures ({', '.join(sorted(EXTENSIONS))})",
                "no_pictures",
                bad_input=True,
            )
        wanted = [path for path in paths if not self._marks(path).excluded]
        self._excluded = len(paths) - len(wanted)
        if not wanted:
            raise TrainingError(
                f"all {len(paths)} pictures of {self._source} are excluded in {SIDECAR}; include some",
                "no_pictures",
                bad_input=True,
            )
        return wanted

    def _marks(self, path: Path) -> Marks:
        """What the sidecar beside a picture says of it."""
        folder = path.parent
        if folder not in self._sidecars:
            try:
                sidecar = read_sidecar(folder)
            except SidecarError as error:
                # Training on what was excluded costs more than a run that does not start.
                raise TrainingError(str(error), "bad_sidecar", bad_input=True) from None
            for problem in sidecar.problems:
                self._report.warning(problem, "bad_sidecar")
            self._sidecars[folder] = sidecar.marks
        return self._sidecars[folder].get(path.name, Marks())

    def _crop(self, path: Path, width: int, height: int) -> Box | None:
        crop = self._marks(path).crop
        if crop is None or crop.fits(width, height):
            return crop
        self._report.warning(
            f"{path} has a crop that does not fit its {width}x{height} pixels; all of it is used", "bad_crop"
        )
        return None

    def read(self, path: Path) -> Picture | None:
        """The picture, or None (and a warning) if it cannot be used."""
        dataset = self._dataset
        try:
            width, height, frames = picture_header(path)
        except PictureError as error:
            self._report.warning(f"{path} {error}; it is left out", "bad_picture")
            return None
        if frames > 1:
            self._report.warning(f"{path} is animated; only its first frame is used", "animated_picture")
        caption = self._caption(path)
        if caption is None:
            return None
        crop = self._crop(path, width, height)
        trained = (crop.width, crop.height) if crop is not None else (width, height)
        kind: BucketKind = dataset.bucket_algorithm if dataset.buckets else "square"
        return Picture(
            path=path,
            buckets=tuple(buckets_for(*trained, dataset.resolution, kind)),
            caption=caption,
            wording=self._wording,
            texts=(self._wording.plain(caption),),
            dropped=self._wording.dropped() if self._drops else None,
            dropout=dataset.caption_dropout_rate if self._drops else 0.0,
            repeats=dataset.num_repeats,
            flips=_flips(dataset),
            random_crop=dataset.random_crop,
            crop=crop,
            mask=self._mask(path, (width, height)),
            is_reg=dataset.is_reg,
            prior_reg=dataset.prior_reg,
            network_weight=dataset.network_weight,
            loss_multiplier=dataset.loss_multiplier,
        )

    @property
    def _drops(self) -> bool:
        return self._dataset.caption_dropout_rate > 0 and not self._wording.trigger_alone

    def _caption(self, path: Path) -> str | None:
        """The caption to train with, or None if the picture has to be left out."""
        fallback = self._dataset.default_caption
        if self._manifest is not None:
            text: str | None = self._manifest[path]
        else:
            file = path.with_name(path.stem + self._dataset.caption_ext)
            try:
                text = read_caption(file)
            except CaptionError as error:
                outcome = "its picture is left out" if fallback is None else "default_caption is used"
                self._report.warning(f"the caption {file} {error}; {outcome}", "bad_caption")
                return fallback
        if text:
            return text
        if not fallback:
            self._uncaptioned += 1
        return fallback or ""

    def _mask_folder(self) -> MaskFolder | None:
        if not self._dataset.mask_path:
            return None
        folder = Path(self._dataset.mask_path)
        if not folder.is_dir():
            raise TrainingError(
                f"the mask folder {folder} does not exist; correct datasets.mask_path",
                "no_masks",
                bad_input=True,
            )
        return MaskFolder(folder)

    def _mask(self, path: Path, size: tuple[int, int]) -> Mask | None:
        dataset = self._dataset
        options = (dataset.invert_mask, dataset.mask_min_value)
        if self._masks is not None:
            inside = path.relative_to(self._folder) if path.is_relative_to(self._folder) else Path(path.name)
            file = self._masks.find(inside)
            if file is not None:
                self._look_at_mask(file, path, size)
                return Mask(file, False, *options)
        if dataset.alpha_mask:
            return Mask(path, True, *options)
        self._unmasked += self._masks is not None
        return None

    def _look_at_mask(self, file: Path, path: Path, size: tuple[int, int]) -> None:
        with contextlib.suppress(PictureError):  # a damaged mask is heard of when it is read
            if is_stretched(file, size):
                self._stretched.append(path.name)

    def warn_about_gaps(self) -> None:
        """Say how many pictures lack a caption or a mask, or have a mask that does not fit."""
        count = self._excluded
        if count:
            self._report.line(
                f"{count} picture{'s' * (count > 1)} in {self._source} excluded from training ({SIDECAR})"
            )
        count = self._uncaptioned
        if count and not self._wording.trigger_alone:
            text = self._wording.plain("").trained.strip()
            instead = f"the trigger word {text!r} alone" if text else "an empty text"
            missing = "caption" if self._manifest is not None else f"{self._dataset.caption_ext} caption"
            self._report.warning(
                f"{count} picture{'s' * (count > 1)} in {self._source} without a {missing}: trained with "
                f"{instead}",
                "no_caption",
            )
        count = self._unmasked
        if count:
            self._report.warning(
                f"{count} picture{'s' * (count > 1)} in {self._source} without a mask in "
                f"{self._dataset.mask_path}: all of {'them' if count > 1 else 'it'} counts",
                "no_mask",
            )
        if self._stretched:
            count, first = len(self._stretched), self._stretched[0]
            which = first if count == 1 else f"{first} and {count - 1} more"
            self._report.warning(
                f"the masks of {which} in {self._dataset.mask_path} have other proportions than the "
                "pictures; they are stretched over them",
                "mask_stretched",
            )


def _wording(dataset: DatasetConfig, process: ProcessConfig) -> Wording:
    """How the dataset's captions become texts; regularisation sets have no trigger word."""
    train = process.train
    return Wording(
        rules=CaptionRules(
            trigger=choose_trigger(dataset.trigger_word, None if dataset.is_reg else process.trigger_word),
            add_trigger=not dataset.is_reg,
            shuffle=dataset.shuffle_tokens,
            dropout=dataset.token_dropout_rate,
            keep=dataset.keep_tokens,
            extra=tuple(dataset.random_triggers),
            extra_max=dataset.random_triggers_max,
        ),
        trigger_alone=process.trigger_alone,
        preserved_class=train.diff_output_preservation_class if train.diff_output_preservation else None,
        preserve_blank=train.blank_prompt_preservation,
    )


def _flips(dataset: DatasetConfig) -> tuple[Flip, ...]:
    flips: tuple[Flip, ...] = ("", "x") if dataset.flip_x else ("",)
    if not dataset.flip_y:
        return flips
    return ("", "x", "y", "xy") if dataset.flip_x else ("", "y")
