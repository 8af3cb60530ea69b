"""Where files go that the user saves from the screen. No Textual here."""

from __future__ import annotations

import re
from pathlib import Path


def export_path(name: str, suffix: str, folder: Path | None = None) -> Path:
    """A path for a new file, which does not exist yet.

    Args:
        name: What it is of; characters that file names may not hold are replaced.
        suffix: With its dot.
        folder: Where; None for the user's folder of downloads, or their home if there is none.
    """
    if folder is None:
        from platformdirs import user_downloads_path

        downloads = user_downloads_path()
        folder = downloads if downloads.is_dir() else Path.home()
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:80] or "fluxlora"
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
