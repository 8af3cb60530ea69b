"""The GPUs that Modal lends, by the names that it takes (its guide on GPUs, 2026)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: Modal's name.
        memory: GiB of memory.
    """

    name: str
    memory: int


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 16),
        Gpu("L4", 24),
        Gpu("A10", 24),
        Gpu("L40S", 48),
        Gpu("A100-40GB", 40),
        Gpu("A100-80GB", 80),
        Gpu("RTX-PRO-6000", 96),
        Gpu("H100", 80),
        Gpu("H200", 141),
        Gpu("B200", 180),
    )
}

_OTHER_SPELLINGS = {"A10G": "A10", "A100": "A100-40GB", "A100-40": "A100-40GB", "A100-80": "A100-80GB"}
_MAX_COUNT = 8
_SHAPE = re.compile(r"([A-Z0-9-]+?)([!+]?)(?::(\d+))?")


@dataclass(frozen=True)
class GpuChoice:
    """One entry of ``modal.gpu``: a kind, how many, and whether Modal may give a better one.

    ``H100!`` forbids the upgrade to an H200 that Modal makes for ``H100`` at the same price; ``B200+`` allows
    a B300.
    """

    gpu: Gpu
    count: int = 1
    mark: str = ""

    def __str__(self) -> str:
        number = f":{self.count}" if self.count > 1 else ""
        return f"{self.gpu.name}{self.mark}{number}"


def parse_gpu(text: str) -> GpuChoice:
    """The GPU that a config's text means, in any case: ``h100``, ``H100!``, ``A100-80GB:2``.

    Raises:
        ValueError: Modal has no such GPU; says which come near.
    """
    cleaned = text.strip().upper().replace("_", "-").replace(" ", "-")
    shape = _SHAPE.fullmatch(cleaned)
    name = _OTHER_SPELLINGS.get(shape[1], shape[1]) if shape else cleaned
    if shape is None or name not in GPUS:
        near = difflib.get_close_matches(name, GPUS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(GPUS)}"
        raise ValueError(f"{text!r} is no GPU of Modal's; {hint}")
    count, mark = int(shape[3] or 1), shape[2]
    if not 1 <= count <= _MAX_COUNT:
        raise ValueError(f"{text!r} asks for {count} GPUs; a container has 1 to {_MAX_COUNT}")
    if (mark == "!" and name != "H100") or (mark == "+" and name != "B200"):
        raise ValueError(f"{text!r}: only H100! and B200+ have such a mark")
    return GpuChoice(GPUS[name], count, mark)
