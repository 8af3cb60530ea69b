"""Reading a dataset's folder, a batch at a time.

Which files count is decided as the trainer does (``backend.trainer.dataset.find_pictures``): hidden files and
folders are left out, linked folders are not entered (so no loop can be walked), linked files are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backend.datasets.captions import Caption
from backend.datasets.captions import read as read_caption
from backend.datasets.errors import DatasetError, reason
from backend.datasets.headers import Header, HeaderError, read_header
from backend.datasets.problems import Problem, Severity
from backend.datasets.sidecar import SIDECAR, Box, Marks, Sidecar, SidecarError, read_sidecar
from backend.trainer.pictures import EXTENSIONS

if TYPE_CHECKING:
    from backend.datasets.index import Index

FIRST_BATCH = 60  # a screenful: it should be there at once
BATCH = 400


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of a dataset with its caption.

    Attributes:
        path: Its file.
        name: Relative to the dataset's folder, with forward slashes.
        bytes: Size of the file.
        mtime_ns: When it was last changed.
        caption_path: Where its caption is, or would be.
        caption: Its text; None if there is no file, or it cannot be read.
        caption_encoding: As :class:`backend.datasets.captions.Caption`.
        caption_problem: Why the caption cannot be read.
        caption_mark: Size and time of the caption's file, empty if there is none.
        header: What the picture's header says; None if it cannot be read.
        problem: Why the picture cannot be read.
        excluded: Whether the sidecar takes it out of training.
        crop: The crop of the sidecar.
    """

    path: Path
    name: str
    bytes: int
    mtime_ns: int
    caption_path: Path
    caption: str | None = None
    caption_encoding: str = ""
    caption_problem: str | None = None
    caption_mark: str = ""
    header: Header | None = None
    problem: str | None = None
    excluded: bool = False
    crop: Box | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of what is trained: of the crop if there is one that fits, else upright."""
        if self.header is None:
            return None
        whole = self.header.width, self.header.height
        return (self.crop.width, self.crop.height) if self.crop and self.crop.fits(*whole) else whole

    @property
    def aspect(self) -> float | None:
        """Width over height of what is trained."""
        size = self.size
        return size[0] / size[1] if size else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some pictures of a scan.

    Attributes:
        items: The pictures, sorted by folder and name.
        problems: Folders and sidecars that cannot be read.
        orphans: Captions without a picture.
        done: Whether it is the last.
    """

    items: tuple[Item, ...]
    problems: tuple[Problem, ...] = ()
    orphans: tuple[Path, ...] = ()
    done: bool = False


class _Folder:
    """The files of one folder of the dataset."""

    def __init__(self, path: str, relative: str, caption_ext: str) -> None:
        self.path, self.relative = path, relative
        self.pictures: list[str] = []
        self.captions: list[str] = []
        self.below: list[str] = []
        suffix = caption_ext.lower()
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                extension = os.path.splitext(name)[1].lower()
                if extension in EXTENSIONS and not _is_folder(entry):
                    self.pictures.append(name)
                elif name.lower().endswith(suffix) and not _is_folder(entry):
                    self.captions.append(name)
                elif entry.is_dir(follow_symlinks=False):
                    self.below.append(name)
        self.pictures.sort()
        self.below.sort()

    def name_of(self, name: str) -> str:
        return f"{self.relative}/{name}" if self.relative else name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def scan(
    folder: Path,
    *,
    caption_ext: str = ".txt",
    index: Index | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[Batch]:
    """Read a dataset: names, headers and captions, without decoding a picture.

    Args:
        folder: The dataset's folder.
        caption_ext: Extension of caption files, with its dot.
        index: What was read before; files of the same size and time are not read again. It is
            brought up to date when the scan ends.
        cancelled: Asked now and then; the scan ends early, without a batch that is ``done``, if it says so.

    Yields:
        Batches; the first is small, so that a list has rows at once.

    Raises:
        DatasetError: The folder is missing, no folder, unreadable, or was deleted meanwhile.
    """
    folder = folder.absolute()
    known = {item.name: item for item in index.load()} if index is not None else {}
    seen: list[Item] = []
    waiting: list[Item] = []
    problems: list[Problem] = []
    orphans: list[Path] = []
    limit = FIRST_BATCH
    for here in _folders(folder, caption_ext, problems):
        sidecar = _sidecar(here, problems)
        captions, stems = set(here.captions), {os.path.splitext(name)[0] for name in here.pictures}
        orphans += [Path(here.path, name) for name in here.captions if name[: -len(caption_ext)] not in stems]
        for name in here.pictures:
            if cancelled is not None and cancelled():
                return
            old = known.get(here.name_of(name))
            item = _read(here, name, caption_ext, captions, old, sidecar)
            if item is None:
                continue  # deleted between listing and reading
            waiting.append(item)
            if len(waiting) >= limit:
                yield Batch(tuple(waiting), tuple(problems), tuple(orphans))
                seen += waiting
                waiting, problems, orphans, limit = [], [], [], BATCH
    if not folder.is_dir():
        raise DatasetError(f"the dataset folder {folder} is gone: it was deleted, moved or unmounted")
    seen += waiting
    if index is not None:
        index.store(seen)
    yield Batch(tuple(waiting), tuple(problems), tuple(sorted(orphans)), done=True)


def scan_all(folder: Path, *, caption_ext: str = ".txt", index: Index | None = None) -> Batch:
    """The whole scan in one batch.

    Raises:
        DatasetError: As :func:`scan`.
    """
    items: list[Item] = []
    problems: list[Problem] = []
    orphans: list[Path] = []
    for batch in scan(folder, caption_ext=caption_ext, index=index):
        items += batch.items
        problems += batch.problems
        orphans += batch.orphans
    return Batch(tuple(items), tuple(problems), tuple(orphans), done=True)


def scan_one(folder: Path, path: Path, caption_ext: str = ".txt") -> Item | None:
    """One picture, read anew; None if it is gone or is none of the dataset's."""
    folder, path = folder.absolute(), path.absolute()
    if not path.is_relative_to(folder) or path.suffix.lower() not in EXTENSIONS:
        return None
    relative = path.relative_to(folder)
    if any(part.startswith(".") for part in relative.parts) or path.is_dir():
        return None
    try:
        here = _Folder(
            str(path.parent), "" if relative.parent == Path() else relative.parent.as_posix(), caption_ext
        )
    except OSError:
        return None
    return _read(here, path.name, caption_ext, set(here.captions), None, _sidecar(here, []))


def _folders(folder: Path, caption_ext: str, problems: list[Problem]) -> Iterator[_Folder]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"the dataset folder {folder} {what}")
    stack = [(str(folder), "")]
    while stack:
        path, relative = stack.pop()
        try:
            here = _Folder(path, relative, caption_ext)
        except OSError as error:
            if not relative:
                raise DatasetError(f"the dataset folder {folder} cannot be read: {reason(error)}") from None
            problems.append(
                Problem(
                    relative,
                    "folder-unreadable",
                    Severity.ERROR,
                    f"this folder cannot be read ({reason(error)}), and training would refuse it",
                )
            )
            continue
        yield here
        stack += [(os.path.join(path, name), here.name_of(name)) for name in reversed(here.below)]


def _sidecar(here: _Folder, problems: list[Problem]) -> Sidecar:
    try:
        sidecar = read_sidecar(Path(here.path))
    except SidecarError as error:
        problems.append(Problem(here.name_of(SIDECAR), "sidecar-damaged", Severity.ERROR, str(error)))
        return Sidecar()
    problems += [
        Problem(here.name_of(SIDECAR), "sidecar-entry", Severity.WARNING, text) for text in sidecar.problems
    ]
    return sidecar


def _read(
    here: _Folder, name: str, caption_ext: str, captions: set[str], old: Item | None, sidecar: Sidecar
) -> Item | None:
    full = os.path.join(here.path, name)
    marks = sidecar.marks.get(name, Marks())
    stem = os.path.splitext(name)[0]
    caption_name = stem + caption_ext
    caption_path = os.path.join(here.path, caption_name)
    try:
        stat = os.stat(full)
    except FileNotFoundError:
        if not os.path.islink(full):
            return None
        stat = os.lstat(full)
        return Item(
            Path(full), here.name_of(name), 0, stat.st_mtime_ns, Path(caption_path),
            problem="is a link to a file that does not exist", excluded=marks.excluded,
        )  # fmt: skip
    except OSError as error:
        return Item(
            Path(full), here.name_of(name), 0, 0, Path(caption_path),
            problem=f"cannot be read ({reason(error)})", excluded=marks.excluded,
        )  # fmt: skip
    mark = _mark(caption_path) if caption_name in captions or os.path.lexists(caption_path) else ""
    if old is not None and (old.bytes, old.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
        if old.caption_mark == mark:
            if old.excluded == marks.excluded and old.crop == marks.crop:
                return old
            return replace(old, excluded=marks.excluded, crop=marks.crop)
        header, problem = old.header, old.problem
    else:
        header, problem = _header(Path(full))
    caption = read_caption(Path(caption_path)) if mark else Caption(None)
    return Item(
        path=Path(full),
        name=here.name_of(name),
        bytes=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        caption_path=Path(caption_path),
        caption=caption.text,
        caption_encoding=caption.encoding,
        caption_problem=caption.problem,
        caption_mark=mark,
        header=header,
        problem=problem,
        excluded=marks.excluded,
        crop=marks.crop,
    )


def _header(path: Path) -> tuple[Header | None, str | None]:
    try:
        return read_header(path), None
    except HeaderError as error:
        return None, str(error)


def _mark(path: str) -> str:
    try:
        stat = os.stat(path)
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"
