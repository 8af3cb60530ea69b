"""How the places where runs train are called on the screen."""

from __future__ import annotations

import os

LABEL = "local stand-in for Modal"
SHOWN = "FLUXLORA_STAND_IN"
"""Set in the environment while a stand-in serves this process and its children, so that screens say so."""


def is_stand_in() -> bool:
    """Whether what is called Modal is only a stand-in on this machine."""
    return bool(os.environ.get(SHOWN))


def demo_overrides(backend: str) -> tuple[str, ...]:
    """What a demo's run needs beside its config: a stand-in's volume ends with it, so LoRAs come home."""
    return ("modal.bring_home=checkpoints",) if backend == "modal" else ()


def place_name(backend: str) -> str:
    """A launcher's name in a few letters, for a table."""
    if backend == "modal":
        return "stand-in" if is_stand_in() else "Modal"
    return backend


def place_text(where: str) -> str:
    """A launcher's own words on where a run trains."""
    return where.replace("Modal", LABEL, 1) if is_stand_in() else where
