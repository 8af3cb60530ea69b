"""Unsaved captions, kept outside the dataset so that neither a crash nor a closed terminal loses them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from backend.datasets.errors import DatasetError, reason
from backend.files import read_json, write_json
from backend.home import home


@dataclass(frozen=True, slots=True)
class Draft:
    """An unsaved caption.

    Attributes:
        path: The caption file that it is for.
        text: The text.
        base: What the file said when editing began; None if there was none.
        source: Who wrote it: empty for a person, else the name of a captioning model.
        time: When it was kept, seconds since 1970.
    """

    path: Path
    text: str
    base: str | None = None
    source: str = ""
    time: float = 0.0


class Drafts:
    """All drafts of this user, a file each. Threads and processes may share it.

    Args:
        root: Where they live; the data folder's place for them if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root or home() / "datasets" / "drafts"

    def save(self, path: Path, text: str, *, base: str | None = None, source: str = "") -> Draft:
        """Keep a draft; an older one for the same file is replaced.

        Raises:
            DatasetError: It cannot be kept.
        """
        draft = Draft(path.absolute(), text, base, source, time.time())
        file = self._file(draft.path)
        record = {
            "path": str(draft.path), "text": text, "base": base, "source": source, "time": draft.time,
        }  # fmt: skip
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, record, private=True, escape=True)
        except OSError as error:
            raise DatasetError(f"the draft cannot be kept in {self._root}: {reason(error)}") from None
        return draft

    def load(self, path: Path) -> Draft | None:
        """The draft for a caption file; None if there is none."""
        draft = _draft(self._file(path.absolute()))
        return draft if draft is not None and draft.path == path.absolute() else None

    def discard(self, path: Path) -> None:
        """Forget the draft for a caption file."""
        with contextlib.suppress(OSError):
            self._file(path.absolute()).unlink(missing_ok=True)

    def all(self, folder: Path) -> list[Draft]:
        """The drafts for captions in ``folder`` and below, by path."""
        folder = folder.absolute()
        drafts = (_draft(file) for file in self._root.glob("*/*.json"))
        return sorted(
            (draft for draft in drafts if draft is not None and draft.path.is_relative_to(folder)),
            key=lambda draft: draft.path,
        )

    def _file(self, path: Path) -> Path:
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()
        return self._root / digest[:2] / f"{digest[2:40]}.json"


def _draft(file: Path) -> Draft | None:
    record = read_json(file)
    if not isinstance(record, dict) or not isinstance(record.get("path"), str):
        return None
    text, base, source = record.get("text"), record.get("base"), record.get("source", "")
    when = record.get("time", 0.0)
    if not isinstance(text, str) or not isinstance(base, str | None):
        return None
    return Draft(
        Path(record["path"]), text, base, str(source), float(when) if isinstance(when, int | float) else 0.0
    )
