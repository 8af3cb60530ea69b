"""Measuring how fast this machine trains, and keeping what was measured.

Each variant runs in a process of its own (:mod:`backend.trainer.bench`), so that one that runs out of
memory takes nothing with it; this module never imports torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from backend.files import read_json, write_json
from backend.home import home

FILE = "bench.json"
"""What was measured, in the app's data folder: a list of records."""

KEPT = (
    "gpu", "resolution", "batch", "compute", "checkpointing",
    "seconds_per_step", "peak_bytes", "torch", "date",
)  # fmt: skip
"""What a record holds."""

MIX = (512, 768, 1024)
"""Resolutions of the tutorial's job."""

STEPS = 3000
"""Steps of the tutorial's job."""

_RESULT = "RESULT "
_TAIL = 15  # lines of a failed process that are shown


@dataclass(frozen=True)
class Variant:
    """One way of training, measured at several sizes in one process.

    Attributes:
        sizes: Width and height of the pictures, in pixels.
        engine: ``fast``: as runs train; ``modules``: diffusers' blocks, as what the fast blocks cannot
            serve trains; ``plain``: the loop of ``benchmarks/plain_loop.py``.
        model: ``flux``, or width, double and single blocks of a small one.
        device: As torch names it.
        compiled: Whether blocks are compiled.
        compute: ``bf16``, ``fp8`` or ``auto``.
        checkpointing: ``off``, ``auto`` or ``on``.
        attention: A backend or ``auto``.
        rank: Of the LoRA.
        batch: Pictures a step.
        text_tokens: Length of a text.
        steps: Steps that are timed at each size.
        graphs: Whether passes are replayed as CUDA graphs (engine ``fast``).
        lora_in_k: Where the LoRA's products are (``on``, ``off``, ``auto``; engine ``fast``).
        inductor: Options of torch.compile's inductor.
        profile: File whose name the tables of kernels take; empty for none.
        threads: torch's threads on a CPU; 0 leaves them.
    """

    sizes: tuple[tuple[int, int], ...]
    engine: str = "fast"
    model: str | tuple[int, int, int] = "flux"
    device: str = "cuda"
    compiled: bool = True
    compute: str = "bf16"
    checkpointing: str = "off"
    attention: str = "auto"
    rank: int = 16
    batch: int = 1
    text_tokens: int = 512
    steps: int = 20
    graphs: bool = True
    lora_in_k: str = "on"
    inductor: Mapping[str, Any] = field(default_factory=dict)
    profile: str = ""
    threads: int = 0

    def __str__(self) -> str:
        compiled = "compiled" if self.compiled else "not compiled"
        return (
            f"{self.engine}, {self.compute}, {compiled}, checkpointing {self.checkpointing}, "
            f"attention {self.attention}"
        )

    @property
    def command(self) -> list[str]:
        """What measures it."""
        module = "benchmarks.plain_loop" if self.engine == "plain" else "backend.trainer.bench"
        return [sys.executable, "-m", module, json.dumps(asdict(self))]


def variants(
    base: Variant,
    *,
    compute: Sequence[str],
    checkpointing: Sequence[str],
    compiled: Sequence[bool],
    attention: Sequence[str],
    graphs: Sequence[bool] = (True,),
    lora_in_k: Sequence[str] = ("on",),
) -> list[Variant]:
    """All combinations, in an order that has the most important first."""
    return [
        replace(base, compute=c, checkpointing=k, compiled=x, attention=a, graphs=g, lora_in_k=i)
        for a, x, k, g, c, i in product(attention, compiled, checkpointing, graphs, compute, lora_in_k)
    ]


def run(
    variant: Variant,
    on_result: Callable[[dict[str, Any]], None],
    on_line: Callable[[str], None],
    timeout: float | None = None,
) -> None:
    """Measure a variant; its results come as they are measured, what failed comes as a result too.

    Args:
        variant: What to measure.
        on_result: Told each result: what :mod:`backend.trainer.bench.measure` says, or ``error``.
        on_line: Told each other line that the process prints.
        timeout: Seconds after which the process is ended; None for never.
    """
    process = subprocess.Popen(
        variant.command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    tail: list[str] = []
    watch = _killed_after(process, timeout)
    try:
        for line in process.stdout or ():
            if line.startswith(_RESULT):
                on_result(json.loads(line[len(_RESULT) :]))
            else:
                tail = [*tail[1 - _TAIL :], line.rstrip()]
                on_line(line.rstrip())
        code = process.wait()
    finally:
        watch.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    if code:
        why = next((line for line in reversed(tail) if line), "it said nothing")
        on_result(_failed(variant, f"the process ended with {code}: {why}"))


def _killed_after(process: subprocess.Popen[str], timeout: float | None) -> Any:
    import threading

    watch = threading.Timer(timeout or 0, process.kill)
    watch.daemon = True
    if timeout:
        watch.start()
    return watch


def _failed(variant: Variant, why: str) -> dict[str, Any]:
    facts = asdict(variant)
    return {key: facts[key] for key in ("engine", "compute", "checkpointing", "compiled", "attention")} | {
        "resolution": None,
        "error": why,
    }


def measured(file: Path | None = None) -> list[dict[str, Any]]:
    """What was measured on this machine, oldest first; nothing if the file is missing or damaged."""
    kept = read_json(file or home() / FILE)
    return [item for item in kept if isinstance(item, dict)] if isinstance(kept, list) else []


def keep(results: Iterable[dict[str, Any]], file: Path | None = None) -> int:
    """Add results without an error to what was measured; one of the same kind replaces the older.

    Returns:
        How many were added.

    Raises:
        OSError: The file cannot be written.
    """
    file = file or home() / FILE
    new = [{key: result.get(key) for key in KEPT} for result in results if not result.get("error")]
    same = KEPT[:5]
    kinds = {tuple(item[key] for key in same) for item in new}
    old = [item for item in measured(file) if tuple(item.get(key) for key in same) not in kinds]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, [*old, *new])
    return len(new)


def projection(results: Iterable[dict[str, Any]], dollars_an_hour: float | None) -> dict[str, float] | None:
    """What the tutorial's job comes to at the mean step of the mix's sizes: the training alone.

    Returns:
        ``seconds_per_step``, ``minutes`` and ``dollars`` (0 if the price is unknown); None if a size of
        the mix was not measured.
    """
    seconds = {
        result["resolution"]: float(result["seconds_per_step"])
        for result in results
        if not result.get("error") and result.get("batch") == 1
    }
    if any(size not in seconds for size in MIX):
        return None
    mean = sum(seconds[size] for size in MIX) / len(MIX)
    minutes = mean * STEPS / 60
    return {"seconds_per_step": mean, "minutes": minutes, "dollars": minutes / 60 * (dollars_an_hour or 0.0)}
