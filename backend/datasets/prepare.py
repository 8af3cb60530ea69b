"""Turns pictures into what trains without surprises: upright RGB files, cropped if asked.

Originals stay as they are; in place, they go to the trash first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from backend.datasets.errors import DatasetError, reason
from backend.datasets.scan import Item
from backend.datasets.sidecar import Marks, set_many
from backend.datasets.trash import Trash
from backend.files import atomic_file
from backend.trainer.pictures import PictureError, open_picture

Format = Literal["png", "jpeg"]


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How pictures are prepared.

    Attributes:
        target: The folder for the prepared pictures and copies of their captions; None changes the
            dataset itself, and puts the originals in the trash.
        format: File format: PNG loses nothing, JPEG is smaller.
        quality: JPEG's quality, 1..100.
        crop: Whether the crop of the sidecar is made. Else it is kept as a crop.
    """

    target: Path | None
    format: Format = "png"
    quality: int = 95
    crop: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """What came of one picture.

    Attributes:
        source: The picture.
        target: What was written; None if it could not be.
        problem: Why not, a clause about the picture.
        ticket: Of the original in the trash, where the dataset itself was changed.
        marks: What was noted about the original.
    """

    source: Path
    target: Path | None
    problem: str | None = None
    ticket: str | None = None
    marks: Marks = field(default_factory=Marks)


def prepare(items: Iterable[Item], options: PrepareOptions, trash: Trash | None = None) -> Iterator[Prepared]:
    """Prepare pictures one by one; one that cannot be is reported, and the rest goes on.

    What exists in the target folder is never replaced.

    Args:
        items: The pictures.
        options: How.
        trash: Where originals go when the dataset itself is changed; the user's if None.

    Raises:
        DatasetError: The target folder cannot be made.
    """
    if options.target is not None:
        try:
            options.target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f"the folder {options.target} cannot be made: {reason(error)}") from None
    for item in items:
        try:
            yield _prepare(item, options, trash)
        except (DatasetError, PictureError) as error:
            yield Prepared(item.path, None, str(error))
        except OSError as error:
            yield Prepared(item.path, None, f"cannot be written ({reason(error)})")


def unprepare(results: Iterable[Prepared], trash: Trash | None = None) -> list[Path]:
    """Bring back the originals of pictures that were prepared in place; their successors go to the trash.

    Args:
        results: What :func:`prepare` said; those that changed nothing in the dataset are passed over.
        trash: Where the originals are; the user's if None.

    Returns:
        The originals.

    Raises:
        DatasetError: A file cannot be moved; those before it are back.
    """
    trash = trash or Trash()
    back: list[Path] = []
    for result in results:
        if result.target is None or result.ticket is None or not trash.holds(result.ticket):
            continue  # nothing to bring back, or it is back since a call that failed later
        if result.target.exists():
            trash.delete([result.target], caption_ext=None, replaced=True)
        back += trash.undo(result.ticket)
        set_many({result.target: Marks()} | {result.source: result.marks})
    return back


def _prepare(item: Item, options: PrepareOptions, trash: Trash | None) -> Prepared:
    suffix = ".png" if options.format == "png" else ".jpg"
    inside = Path(item.name).with_suffix(suffix)
    target = item.path.with_suffix(suffix) if options.target is None else options.target / inside
    if target.exists() and (options.target is not None or not target.samefile(item.path)):
        raise DatasetError(f"is left as it is, for {target} exists already")
    image = open_picture(item.path)
    cropped = options.crop and item.crop is not None and item.crop.fits(*image.size)
    if cropped and item.crop is not None:
        image = image.crop(item.crop.corners)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.prepared")
    before = Marks(item.excluded, item.crop)
    marks = Marks(item.excluded, None if cropped else item.crop)
    trash = trash or Trash()
    ticket: str | None = None
    try:
        with atomic_file(temporary) as file:
            if options.format == "png":
                image.save(file, "PNG", compress_level=6)
            else:
                image.save(file, "JPEG", quality=options.quality, subsampling=0)
        if options.target is None:
            ticket = trash.delete([item.path], caption_ext=None, replaced=True).id
        try:
            temporary.replace(target)
            if options.target is None:
                if before != Marks():
                    set_many({item.path: Marks(), target: marks})
            else:
                _copy_caption(item.caption_path, target.with_name(item.caption_path.name))
                if marks != Marks():
                    set_many({target: marks})
        except BaseException:  # all of it or nothing: else the next try would find it done
            target.unlink(missing_ok=True)
            if ticket is not None:
                trash.undo(ticket)
            raise
    finally:
        temporary.unlink(missing_ok=True)
    return Prepared(item.path, target, ticket=ticket, marks=before)


def _copy_caption(source: Path, target: Path) -> None:
    if source.is_file() and not target.exists():
        with atomic_file(target) as file:
            file.write(source.read_bytes())
