"""Which pictures a run trains on, with their captions and buckets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.trainer.buckets import Bucket, buckets_for
from backend.trainer.captions import (
    CaptionError,
    choose_trigger,
    dropped_text,
    read_caption,
    training_text,
)
from backend.trainer.control import StopControl
from backend.trainer.errors import TrainingError
from backend.trainer.pictures import EXTENSIONS, PictureError, picture_size
from backend.trainer.report import Reporter
from config.schema import DatasetConfig

_STOP_EVERY = 50  # pictures between two looks for a stop request


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of one dataset.

    Attributes:
        path: Its file.
        buckets: The shapes it is trained in, smallest first.
        text: Its caption as the encoders get it.
        dropped: The text used when the caption is dropped; None if it never is.
        dropout: Probability of that.
        repeats: How often it stands in an epoch.
    """

    path: Path
    buckets: tuple[Bucket, ...]
    text: str
    dropped: str | None
    dropout: float
    repeats: int


def find_pictures(folder: Path) -> list[Path]:
    """Picture files in ``folder`` and below, sorted; hidden files and folders are left out.

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
    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(here, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
        ]
    return sorted(found)


def read_datasets(
    datasets: Sequence[DatasetConfig], trigger: str | None, report: Reporter, stop: StopControl
) -> list[Picture]:
    """All pictures of a run that can be used, in a fixed order.

    A picture that cannot be opened, or whose caption cannot be read while there is no
    ``default_caption``, is left out with a warning. A missing or empty caption falls back to
    ``default_caption`` and else to the trigger word alone, with one warning a dataset.

    Raises:
        TrainingError: A folder is missing, or nothing usable is left.
        StopRequested: The run was asked to stop.
    """
    pictures: list[Picture] = []
    seen = 0
    for dataset in datasets:
        folder = Path(dataset.folder_path)
        paths = find_pictures(folder)
        if not paths:
            raise TrainingError(
                f"the dataset folder {folder} holds no pictures ({', '.join(sorted(EXTENSIONS))})",
                "no_pictures",
                bad_input=True,
            )
        reader = _DatasetReader(dataset, choose_trigger(dataset.trigger_word, trigger), report)
        for index, path in enumerate(paths):
            if index % _STOP_EVERY == 0:
                stop.check()
            picture = reader.read(path)
            if picture is not None:
                pictures.append(picture)
        reader.warn_about_captions(folder)
        seen += len(paths)
    if not pictures:
        raise all_pictures_bad(seen)
    return pictures


def all_pictures_bad(count: int) -> TrainingError:
    """The failure of a run none of whose ``count`` pictures can be used."""
    subject = "the only picture" if count == 1 else f"all {count} pictures"
    return TrainingError(f"{subject} of the run cannot be used; see the warnings above", "no_pictures")


class _DatasetReader:
    """Reads the pictures of one dataset."""

    def __init__(self, dataset: DatasetConfig, trigger: str | None, report: Reporter) -> None:
        self._dataset = dataset
        self._trigger = trigger
        self._report = report
        self._extension = "." + dataset.caption_ext.lstrip(".")
        self._uncaptioned = 0

    def read(self, path: Path) -> Picture | None:
        dataset = self._dataset
        try:
            width, height = picture_size(path)
        except PictureError as error:
            self._report.warning(f"{path} {error}; it is left out", "bad_picture")
            return None
        caption = self._caption(path)
        if caption is None:
            return None
        dropout = dataset.caption_dropout_rate
        return Picture(
            path=path,
            buckets=tuple(buckets_for(width, height, dataset.resolution)),
            text=training_text(caption, self._trigger),
            dropped=dropped_text(self._trigger) if dropout else None,
            dropout=dropout,
            repeats=dataset.num_repeats,
        )

    def _caption(self, path: Path) -> str | None:
        """The caption to train with, or None if the picture has to be left out."""
        file = path.with_name(path.stem + self._extension)
        fallback = self._dataset.default_caption
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

    def warn_about_captions(self, folder: Path) -> None:
        count = self._uncaptioned
        if count:
            instead = f"the trigger word {self._trigger!r} alone" if self._trigger else "an empty text"
            self._report.warning(
                f"{count} picture{'s' * (count > 1)} in {folder} without a {self._extension} "
                f"caption: trained with {instead}",
                "no_caption",
            )
