"""Caption files: reading and writing, tags, and what a caption is trained as.

The rules are the trainer's (:mod:`backend.trainer.captions`).
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from backend.datasets.errors import DatasetError, reason
from backend.files import write_text
from backend.trainer.captions import CaptionError, CaptionRules, decode_caption

OTHER = "other"
"""Encoding of a caption that is neither UTF-8 nor UTF-16."""

_PLACEHOLDER = re.compile(r"\[(?:trigger|name)\]")


class Caption(NamedTuple):
    """What a caption file says.

    Attributes:
        text: Its text as it is; None if there is no file, or it cannot be read.
        encoding: ``utf-8``, ``utf-8-sig`` (with a byte order mark) or ``utf-16``; :data:`OTHER` if it is
            none of them; empty if the file could not be read.
        problem: Why it cannot be read, a clause about the file; None if it can.
    """

    text: str | None
    encoding: str = ""
    problem: str | None = None


def read(path: Path) -> Caption:
    """Read a caption file; never raises."""
    try:
        with path.open("rb") as file:
            raw = file.read()
    except FileNotFoundError:
        return Caption(None)
    except OSError as error:
        return Caption(None, "", f"cannot be read ({reason(error)})")
    encoding = "utf-8"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif raw.startswith(codecs.BOM_UTF8):
        encoding = "utf-8-sig"
    try:
        return Caption(decode_caption(raw), encoding)
    except CaptionError as error:
        return Caption(None, OTHER, str(error))


def write(path: Path, text: str) -> None:
    """Replace a caption file by ``text`` in UTF-8, atomically.

    Raises:
        DatasetError: It cannot be written; what was there is still there.
    """
    try:
        write_text(path, text)
    except OSError as error:
        raise DatasetError(f"the caption {path} cannot be written: {reason(error)}") from None
    except UnicodeEncodeError:
        raise DatasetError(f"the caption of {path} has characters that no text file can hold") from None


def tags(text: str) -> list[str]:
    """The comma-separated parts of a caption, trimmed, without empty ones."""
    return [tag for part in text.split(",") if (tag := part.strip())]


def folded(text: str) -> str:
    """A text with single spaces: how words are parted means nothing to the encoders, line breaks included."""
    return " ".join(text.split())


def join_tags(parts: Iterable[str]) -> str:
    """A caption of tags."""
    return ", ".join(parts)


def tag_counts(texts: Iterable[str | None]) -> Counter[str]:
    """In how many captions each tag stands; tags that differ in white space are one."""
    return Counter(tag for text in texts if text for tag in dict.fromkeys(tags(folded(text))))


def trained(text: str, trigger: str | None, *, is_reg: bool = False) -> str:
    """The text that the trainer makes of a caption, without any chance in it (shuffling, dropout)."""
    return CaptionRules(trigger=trigger, add_trigger=not is_reg).plain(text)


def placeholders(text: str) -> list[tuple[int, int]]:
    """Start and end of every ``[trigger]`` and ``[name]``."""
    return [match.span() for match in _PLACEHOLDER.finditer(text)]
