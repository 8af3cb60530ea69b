"""A complete FLUX.1 model folder of a few megabytes, built without a download.

Every part is the real class with a small configuration: what trains, saves, samples and loads with
it does so with FLUX.1. The demo and the tests use it. ``python -m backend.trainer.tiny FOLDER``
builds one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from backend.files import read_json, write_json

VERSION = 1
"""Grows whenever a folder built by an older version should be built anew."""

_MARKER = "tiny_flux.json"


def is_tiny_flux(folder: Path, *, seed: int = 0, guidance_embeds: bool = True) -> bool:
    """Whether ``folder`` holds a complete tiny FLUX of this version and these settings."""
    return bool(read_json(folder / _MARKER) == _settings(seed, guidance_embeds))


def build_tiny_flux(folder: Path, *, seed: int = 0, guidance_embeds: bool = True) -> Path:
    """Build the tiny FLUX in ``folder``, or leave it if it is there already; returns ``folder``.

    The weights are random but for the autoencoder's, and depend on nothing but ``seed``. The folder
    appears all at once: a build that is killed leaves nothing behind that looks like a model.

    Args:
        folder: Where to put it. An older tiny FLUX there is replaced.
        seed: Seed of the weights.
        guidance_embeds: As FLUX.1-dev; False makes it like FLUX.1-schnell.

    Raises:
        FileExistsError: ``folder`` holds something else.
        ImportError: The ``train`` extra is not installed.
        OSError: The folder cannot be written.
    """
    folder = folder.absolute()
    if is_tiny_flux(folder, seed=seed, guidance_embeds=guidance_embeds):
        return folder
    if folder.exists() and not (folder / _MARKER).exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} exists and is no tiny FLUX; choose another folder or remove it")

    from backend.trainer.tiny.pipeline import save_pipeline

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        save_pipeline(temporary, seed=seed, guidance_embeds=guidance_embeds)
        write_json(temporary / _MARKER, _settings(seed, guidance_embeds))
        temporary.chmod(0o755)  # mkdtemp makes 0700
        _put(temporary, folder, _settings(seed, guidance_embeds))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _settings(seed: int, guidance_embeds: bool) -> dict[str, object]:
    return {"version": VERSION, "seed": seed, "guidance_embeds": guidance_embeds}


def _put(temporary: Path, folder: Path, settings: dict[str, object]) -> None:
    """Move the finished folder into place, an older one out of the way."""
    old = temporary.with_suffix(".old")
    try:
        if folder.exists() and read_json(folder / _MARKER) != settings:
            os.replace(folder, old)
        os.replace(temporary, folder)
    except OSError:
        # Where another process has built the same one meanwhile, its folder serves as well.
        if read_json(folder / _MARKER) != settings:
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
