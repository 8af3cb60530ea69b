"""What a run will take before it is launched: time, memory, money, disk.

The model is arithmetic over FLUX.1's shapes (:mod:`backend.estimate.flux`), a table of what GPUs reach
(:mod:`backend.estimate.speeds`), and what was measured by the user (:mod:`backend.estimate.own_speeds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backend.estimate.estimating import Estimate, GpuEstimate, ResolutionShare, estimate
from backend.estimate.levers import Lever, what_would_change_it_most
from backend.estimate.own_speeds import Speeds, known_speeds

__all__ = [
    "Estimate",
    "GpuEstimate",
    "Lever",
    "ResolutionShare",
    "Speeds",
    "estimate",
    "estimate_text",
    "known_speeds",
    "what_would_change_it_most",
]


def estimate_text(
    path: Path, text: str, *, gpus: Sequence[str] | None = None, here: Speeds | None = None
) -> Estimate | None:
    """The estimate of a text that is not saved; None if it has errors. A sweep's first run counts."""
    from config.load import check_text, is_json_file
    from config.sweeps import collapse

    text = collapse(text, is_json=is_json_file(path))
    loaded, _ = check_text(path, text, files=False)
    return None if loaded is None else estimate(loaded.config, gpus=gpus, here=here)
