"""Where things are in the container."""

from __future__ import annotations

import os
from pathlib import Path

LORA_MOUNT = "/mnt/lora"
"""Where the volume with the runs is mounted."""

BASE_MOUNT = "/mnt/base"
"""Where the volume with base models is mounted, if the run needs one."""


def volume_root(mount: str = LORA_MOUNT) -> Path:
    """The folder in which the volume of ``mount`` is found.

    ``LORA_ROOT`` names that of the volume with the runs outright; ``MODAL_EMU_ROOT`` is a folder under
    which a stand-in for Modal keeps all mounts.
    """
    if mount == LORA_MOUNT and (named := os.environ.get("LORA_ROOT")):
        return Path(named)
    if stand_in := os.environ.get("MODAL_EMU_ROOT"):
        path = Path(stand_in) / mount.lstrip("/")
        if path.exists():
            return path
    return Path(mount)


def package_root() -> Path:
    """The folder from which this very package was imported; the trainer's process must use the same."""
    return Path(__file__).absolute().parents[4]


def inside(root: Path, relative: str) -> Path:
    """``root / relative``.

    Raises:
        ValueError: That leads out of ``root``.
    """
    path = root / relative
    if not relative or not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root)):
        raise ValueError(f"{relative!r} is no folder of the volume")
    return path
