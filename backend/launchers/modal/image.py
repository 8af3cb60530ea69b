"""The container image: the pinned ``train`` extra and what our own code imports, nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PYTHON = "3.12"
"""Fixed: an image must not change with the Python of the person who launches."""

PACKAGES = ("config", "backend")
"""What is shipped, last, so that a change of our code never builds the image anew."""

_DISTRIBUTION = "fluxlora-tui"
_NEEDED = (
    "pydantic",
    "pyyaml",
    "python-dotenv",
    "platformdirs",
    "psutil",
)  # of the base list, in the container
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]train['\"]")

ENVIRONMENT = {
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
}
"""Plain settings of the image; secrets are never among them."""


def requirements() -> tuple[list[str], list[str]]:
    """What the image installs: the pins of the ``train`` extra, and the few base packages of the container.

    Both come from the installed package's own metadata, which has them from ``pyproject.toml``.
    """
    pins: list[str] = []
    base: list[str] = []
    for line in metadata.requires(_DISTRIBUTION) or []:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if _EXTRA.search(marker):
            pins.append(requirement)
        elif not marker and (name := _NAME.match(requirement)) and name[0].lower() in _NEEDED:
            base.append(requirement)
    return sorted(pins), sorted(base)


def build_image(modal: Any, packages: Sequence[str] = ()) -> Any:
    """The image, heaviest and most stable layers first; it is built by Modal once and then reused.

    Args:
        modal: The SDK.
        packages: What a run needs beside the ``train`` extra; a layer of its own above the others.
    """
    pins, base = requirements()
    heavy = [pin for pin in pins if pin.startswith("torch==")]
    image = (
        modal.Image.debian_slim(python_version=PYTHON)
        .pip_install(*heavy)
        .pip_install(*[pin for pin in pins if pin not in heavy], *base)
    )
    if packages:
        image = image.pip_install(*sorted(packages))
    return image.env(ENVIRONMENT).add_local_python_source(*PACKAGES, ignore=_not_shipped)


def _not_shipped(path: Path) -> bool:
    """Whether a file of our packages stays at home."""
    return path.suffix != ".py" or "__pycache__" in path.parts
