"""Drafts: what is being typed, kept outside the file, so that a crash loses two seconds at the most."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from backend.files import read_json, write_json
from backend.home import home

INTERVAL = 1.5
"""Seconds after which unsaved typing is to be kept: with the time to write it, under two."""


@dataclass(frozen=True)
class Draft:
    """Text that was not saved.

    Attributes:
        path: The config that it is of.
        text: What was typed.
        base: What the file held when it was opened; None for a new one.
        saved_at: Seconds since 1970.
    """

    path: Path
    text: str
    base: str | None
    saved_at: float


class Drafts:
    """All drafts of this user; each in a file of its own, written atomically.

    Args:
        root: Their folder; ``drafts`` in the data folder if None.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or home() / "drafts"

    def _file(self, path: Path) -> Path:
        return self.root / f"{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:24]}.json"

    def save(self, path: Path, text: str, base: str | None) -> None:
        """Keep what was typed; the text may hold a token, so that only the user can read it.

        Raises:
            OSError: It cannot be written.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        draft = {"path": str(path.absolute()), "text": text, "base": base, "saved_at": time.time()}
        write_json(self._file(path), draft, private=True)

    def load(self, path: Path) -> Draft | None:
        """The draft of a config; None without one, or if it is damaged."""
        return _read(self._file(path))

    def discard(self, path: Path) -> None:
        """Forget the draft, once the text is saved or given up."""
        with contextlib.suppress(FileNotFoundError):
            self._file(path).unlink()

    def all(self) -> list[Draft]:
        """Every draft, the newest first."""
        try:
            files = list(self.root.glob("*.json"))
        except OSError:
            return []
        found = [draft for file in files if (draft := _read(file)) is not None]
        return sorted(found, key=lambda draft: draft.saved_at, reverse=True)


def _read(file: Path) -> Draft | None:
    data = read_json(file)
    if not isinstance(data, dict):
        return None
    path, text, base, saved_at = (data.get(key) for key in ("path", "text", "base", "saved_at"))
    if not isinstance(path, str) or not isinstance(text, str) or not isinstance(saved_at, int | float):
        return None
    return Draft(Path(path), text, base if isinstance(base, str) else None, float(saved_at))
