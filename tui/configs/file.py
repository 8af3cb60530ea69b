"""The file under the editor: opened, saved, watched, and its draft. All of it is I/O: use a thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.configs.drafts import Draft, Drafts
    from backend.configs.external_change import Snapshot

BOM = "\ufeff"


class ConfigFile:
    """A config on disk and its draft. A byte-order mark is kept in the file and out of the text.

    Args:
        path: The file.
        drafts: Where drafts are kept.
    """

    def __init__(self, path: Path, drafts: Path) -> None:
        self.path = path
        self._drafts_root = drafts
        self._snapshot: Snapshot | None = None
        self._bom = ""
        self._lock = threading.Lock()
        self.saved: str = ""

    @property
    def _drafts(self) -> Drafts:
        from backend.configs.drafts import Drafts

        return Drafts(self._drafts_root)

    def _take(self, snapshot: Snapshot) -> None:
        text = snapshot.text or ""
        self._bom = BOM if text.startswith(BOM) else ""
        self._snapshot = snapshot
        self.saved = text.removeprefix(BOM)

    def open(self) -> tuple[str, Draft | None]:
        """The text, and a draft that says something else.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not UTF-8.
        """
        from backend.configs.external_change import Snapshot

        with self._lock:
            self._take(Snapshot.of(self.path))
            draft = self._drafts.load(self.path)
            if draft is not None and draft.text == self.saved:
                draft = None
            return self.saved, draft

    def save(self, text: str, *, overwrite: bool = False) -> None:
        """Replace the file; its draft is not needed any more.

        Raises:
            ChangedOnDiskError: Somebody else changed it, and ``overwrite`` is not set.
            OSError: It cannot be written.
        """
        from backend.configs.external_change import save_if_unchanged

        with self._lock:
            snapshot = None if overwrite else self._snapshot
            self._take(save_if_unchanged(self.path, self._bom + text, snapshot))
            self._drafts.discard(self.path)

    def keep_draft(self, text: str) -> None:
        """Keep what was typed; forget it if it is what the file says."""
        with self._lock:
            if text == self.saved:
                self._drafts.discard(self.path)
            else:
                self._drafts.save(self.path, text, self.saved)

    def discard_draft(self) -> None:
        """Forget what was typed."""
        with self._lock:
            self._drafts.discard(self.path)

    def news(self) -> Snapshot | None:
        """What the file is now, if somebody else changed it; its text is None if it is gone."""
        from backend.configs.external_change import changed_since

        with self._lock:
            return changed_since(self._snapshot) if self._snapshot is not None else None

    def accept(self, snapshot: Snapshot) -> None:
        """Take note of what somebody else made of the file: saving replaces it from now on."""
        with self._lock:
            self._take(snapshot)
