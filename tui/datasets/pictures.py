"""What keys do to pictures themselves: keep out of training, crop, delete, prepare. All can be taken back.

All functions read and write files: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from backend.datasets.errors import DatasetError
from backend.datasets.sidecar import Box, Marks, change_many, set_many
from tui.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from backend.datasets.prepare import Prepared, PrepareOptions
    from backend.datasets.scan import Item
    from backend.datasets.trash import Ticket, Trash


@dataclass(frozen=True)
class Undo:
    """Something that can be taken back; ``back`` reads and writes files, and returns a sentence."""

    what: str
    back: Callable[[], str]


def mark(items: Sequence[Item], what: str, change: Callable[[Marks], Marks]) -> Undo:
    """Change marks of pictures.

    Raises:
        SidecarError: The sidecar cannot be written.
    """
    before = change_many({item.path: change for item in items})

    def back() -> str:
        set_many(before)
        return f"Taken back: {what}."

    return Undo(what, back)


def exclude(items: Sequence[Item]) -> Undo:
    """Keep pictures out of training; if all of them are, take them in again.

    Raises:
        SidecarError: As :func:`mark`.
    """
    out = not all(item.excluded for item in items)
    what = f"{plural(len(items), 'picture')} {'excluded' if out else 'taken in again'}"
    return mark(items, what, partial(replace, excluded=out))


def crop(item: Item, box: Box | None) -> Undo:
    """Give a picture a crop box, or none.

    Raises:
        SidecarError: As :func:`mark`.
    """
    what = f"crop of {item.name}" if box is not None else f"no crop of {item.name}"
    return mark([item], what, partial(replace, crop=box))


def delete(items: Sequence[Item], trash: Trash, caption_ext: str) -> tuple[Undo, str]:
    """Move pictures and their captions to the trash.

    Returns:
        How to bring them back, and why some are still there, nothing if none is.

    Raises:
        DatasetError: Nothing can be moved.
    """
    from backend.datasets.trash import TrashError

    paths, problem = {item.path for item in items}, ""
    try:
        ticket = trash.delete([item.path for item in items], caption_ext=caption_ext)
    except TrashError as error:
        if error.done is None:
            raise
        ticket, problem = error.done, str(error)
    return bring_back(ticket, trash, len(paths & set(ticket.paths))), problem


def bring_back(ticket: Ticket, trash: Trash, count: int) -> Undo:
    """How ``count`` pictures are brought back from the trash."""

    def back() -> str:
        return f"{plural(len(trash.undo(ticket.id)), 'file')} back from the trash."

    return Undo(f"{plural(count, 'picture')} deleted", back)


def bring(paths: Sequence[Path], folder: Path, trash: Trash, caption_ext: str) -> Undo:
    """Copy pictures and their captions into a dataset.

    Raises:
        DatasetError: There is no picture among them, or they cannot be copied.
    """
    from backend.datasets.importing import import_pictures

    copies = import_pictures(paths, folder, caption_ext)
    if not copies:
        raise DatasetError("there is no picture among these")

    def back() -> str:
        trash.delete(copies, caption_ext=caption_ext)
        return f"{plural(len(copies), 'picture')} moved to the trash; the originals are where they were."

    return Undo(f"{plural(len(copies), 'picture')} copied", back)


def prepare(
    items: Sequence[Item], options: PrepareOptions, trash: Trash
) -> tuple[list[Prepared], Undo | None]:
    """Prepare pictures; where the dataset itself is changed, that can be taken back.

    Raises:
        DatasetError: The target folder cannot be made.
    """
    from backend.datasets import prepare as preparing

    results = list(preparing.prepare(items, options, trash))
    done = [result for result in results if result.ticket is not None]

    def back() -> str:
        return f"{plural(len(preparing.unprepare(done, trash)), 'original')} back from the trash."

    return results, Undo(f"{plural(len(done), 'picture')} prepared", back) if done else None
