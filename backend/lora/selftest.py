"""The last look at a LoRA file before a run is called finished: will it work where people use it?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from backend.lora.file import LoraError, read_lora
from backend.lora.inspect import survey
from backend.lora.naming import Architecture, Role
from backend.lora.readers import Works, comfyui, diffusers, forge

_SHOWN = 5  # problems of layers and tensors that are told one by one


def self_test(path: Path, architecture: Mapping[str, tuple[int, int]]) -> list[str]:
    """Check a LoRA file as its readers will see it.

    All A and B matrices are complete and fit the model's layers, all numbers are finite, at least one B
    is not zero, and each key is known to diffusers, ComfyUI and Forge. Of another kind than plain LoRA
    (DoRA, LoKr), which none of the three reads in all its namings, one of them must know each key.

    Args:
        path: The file.
        architecture: The linear layers of the base model's transformer by their names in diffusers, with
            their (out, in) features: ``{"transformer_blocks.0.attn.to_q": (3072, 3072), ...}``.

    Returns:
        What is wrong, a sentence each; empty if it is good.

    Raises:
        ValueError: ``architecture`` has no block of FLUX.
    """
    size = Architecture.from_modules(architecture)
    try:
        file = read_lora(path)
        found = survey(file, size)
    except LoraError as error:
        return [str(error)]
    except OSError as error:
        return [f"{path} cannot be read: {error.strerror or error}"]
    if not any(key.role not in (None, Role.ALPHA) for key in found.keys):
        return [f"{path} has no adapter in it"]
    problems = list(found.problems)
    # The table of names knows FLUX.1's layers; the model at hand may lack some (schnell has no guidance).
    for name in found.ranks:
        inner = name.removeprefix("transformer.")
        if inner != name and inner not in architecture:
            problems.append(f"{name}: the model has no such layer")
    if len(problems) > _SHOWN:
        problems[_SHOWN:] = [f"and {len(problems) - _SHOWN} more layers or tensors have problems"]
    checks = [
        diffusers(found.keys, file.metadata, scaled=found.scaled, architecture=size),
        comfyui(found.keys),
        forge(found.keys, file.metadata),
    ]
    special = any(key.role in (Role.LOKR, Role.LOHA, Role.DORA, Role.FULL) for key in found.keys)
    if not (special and any(verdict.works is Works.YES for verdict in checks)):
        for verdict in checks:
            if verdict.works is not Works.YES:
                first = f", first {min(verdict.unmatched)}" if verdict.unmatched else ""
                problems.append(f"{verdict.reader} cannot use all of it: {verdict.reason}{first}")
    return problems
