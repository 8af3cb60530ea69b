"""Which of a run's files somebody wants who brings it home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.launchers.base import RunFile

KINDS = ("checkpoints", "samples", "everything")


def chosen(files: Sequence[RunFile], name: str, kind: str | None = None) -> list[RunFile]:
    """Some of a run's files.

    Args:
        files: All of them.
        name: ``config.name``, which the final LoRA bears.
        kind: One of :data:`KINDS`; None for the newest LoRA and all samples.
    """
    loras = [file for file in files if file.path.startswith("checkpoints/")]
    samples = [file for file in files if file.path.startswith("samples/")]
    match kind:
        case "checkpoints":
            return loras
        case "samples":
            return samples
        case "everything":
            return list(files)
        case _:
            newest = newest_lora(loras, name)
            return ([newest] if newest is not None else []) + samples


def is_product(file: RunFile) -> bool:
    """Whether it is a LoRA or a picture; the rest of a run's folder is at home anyway."""
    return file.path.startswith(("checkpoints/", "samples/"))


def newest_lora(loras: Sequence[RunFile], name: str) -> RunFile | None:
    """The finished LoRA, else the one of the highest step; None if there is none."""
    weights = [file for file in loras if file.path.endswith(".safetensors")]
    final = next((file for file in weights if file.path == f"checkpoints/{name}.safetensors"), None)
    return final or max(weights, key=lambda file: file.path, default=None)  # names hold the step
