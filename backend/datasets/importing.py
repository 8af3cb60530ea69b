"""Pictures that come into a dataset from elsewhere: the paths that a terminal pastes, and copying them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backend.datasets.errors import reason
from backend.datasets.library import LibraryError
from backend.files import atomic_file
from backend.trainer.pictures import EXTENSIONS

_QUOTED = re.compile(r"'([^']*)'|\"((?:\\.|[^\"\\])*)\"|((?:\\.|[^\s\\'\"])+)", re.DOTALL)


def parse_paths(text: str) -> list[Path]:
    """The paths in a text that was pasted or dropped on the terminal.

    Terminals write dropped files as ``file://`` addresses, in quotes, or with backslashes before spaces;
    file managers copy one a line. A line that is a path as it stands is taken as one, spaces included.
    """
    found: list[Path] = []
    for line in text.replace("\0", "").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):  # comments of text/uri-list
            continue
        whole = _path(line)
        if _exists(whole):
            found.append(whole)
            continue
        parts = [_unescaped(match) for match in _QUOTED.finditer(line)]
        paths = [_path(part) for part in parts if part]
        # Nothing of it is there: then it is one path with spaces that somebody mistyped.
        found += paths if len(paths) == 1 or any(map(_exists, paths)) or "://" in line else [whole]
    return list(dict.fromkeys(found))


def _unescaped(match: re.Match[str]) -> str:
    single, double, bare = match.groups()
    if single is not None:
        return single
    text = double if double is not None else bare
    if os.name == "nt" or re.match(r"[A-Za-z]:\\", text):
        return text  # there a backslash parts folders
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _path(text: str) -> Path:
    if text.lower().startswith("file:"):
        parts = urlsplit(text)
        name = unquote(parts.path)
        if re.match(r"/[A-Za-z]:[/\\]", name):
            name = name[1:]  # file:///C:/pictures
        return Path(name)
    return Path(os.path.expanduser(text))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def import_pictures(paths: Iterable[Path], folder: Path, caption_ext: str = ".txt") -> list[Path]:
    """Copy pictures and their captions into a dataset's folder; a name that is taken gets a number.

    Folders are copied with what they hold at their top.

    Returns:
        The copies of the pictures.

    Raises:
        LibraryError: One cannot be read, or the folder cannot be written.
    """
    copies: list[Path] = []
    for source in _pictures(paths):
        target = _free(folder, source)
        try:
            _copy(source, target)
            copies.append(target)
            caption = source.with_name(source.stem + caption_ext)
            if caption.is_file():
                _copy(caption, target.with_name(target.stem + caption_ext))
        except OSError as error:
            raise LibraryError(f"{source} cannot be copied to {folder}: {reason(error)}") from None
    return copies


def _pictures(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        yield from (file for file in inside if file.suffix.lower() in EXTENSIONS and file.is_file())


def _free(folder: Path, source: Path) -> Path:
    stems = {path.stem for path in folder.iterdir()} if folder.is_dir() else set()
    name, number = source.stem, 1
    while name in stems:
        number += 1
        name = f"{source.stem}-{number}"
    return folder / f"{name}{source.suffix}"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as file, atomic_file(target) as out:
        shutil.copyfileobj(file, out)
