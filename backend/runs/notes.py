"""What a person writes on a run: a note, tags, and whether it is put away.

They lie in the run's folder (``state/notes.json``), so they go where the run goes; the index repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from backend.files import read_json, write_json

_VERSION = 1
_TAG_CHARACTERS = 40
_NOTE_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Notes:
    """What is written on a run.

    Attributes:
        note: Free text.
        tags: Words, each once, sorted.
        archived: Whether it is put away: kept, and left out of the list.
    """

    note: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False


def notes_file(folder: Path) -> Path:
    """Where the notes of the run in ``folder`` lie."""
    return folder / "state" / "notes.json"


def read_notes(folder: Path) -> Notes:
    """The notes of the run in ``folder``; none if there is no readable file."""
    fields = read_json(notes_file(folder))
    if not isinstance(fields, dict):
        return Notes()
    note, tags = fields.get("note"), fields.get("tags")
    return Notes(
        note=note[:_NOTE_CHARACTERS] if isinstance(note, str) else "",
        tags=clean_tags(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else (),
        archived=fields.get("archived") is True,
    )


def write_notes(folder: Path, notes: Notes) -> None:
    """Replace the notes of the run in ``folder``, atomically.

    Raises:
        OSError: They cannot be written; the old ones stay.
    """
    write_json(notes_file(folder), {"v": _VERSION, **asdict(notes)})


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are stored: small letters, no blanks in them, each once, sorted."""
    words = ("-".join(tag.lower().split()).lstrip("#")[:_TAG_CHARACTERS] for tag in tags)
    return tuple(sorted({word for word in words if word and word.isprintable()}))
