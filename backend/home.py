"""Where the app keeps its data."""

from __future__ import annotations

import os
from pathlib import Path

APP = "fluxlora-tui"


def home() -> Path:
    """The data folder: ``FLUXLORA_HOME``, or the operating system's place for user data."""
    if override := os.environ.get("FLUXLORA_HOME"):
        return Path(override).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path(APP, appauthor=False)


def cache_dir() -> Path:
    """Where content-addressed caches (latents, text embeddings, thumbnails) live.

    Everything in it can be deleted at any time at the cost of computing it again.
    """
    return home() / "cache"
