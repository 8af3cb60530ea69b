"""Measures one variant in a process of its own: ``python -m backend.trainer.bench OPTIONS_AS_JSON``.

Each result is a line ``RESULT {json}`` on standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from backend.trainer.bench.measure import measure
from backend.trainer.bench.rig import build_rig
from backend.trainer.bench.shapes import FLUX_DEV, small


def config_of(options: dict[str, Any]) -> dict[str, Any]:
    """The transformer's config of a variant's ``model``: ``flux`` or ``[width, double, single]``."""
    return FLUX_DEV if options["model"] == "flux" else small(*options["model"])


def say(facts: dict[str, Any]) -> None:
    """Print a result."""
    print("RESULT " + json.dumps(facts), flush=True)


def main() -> int:
    """Measure the variant that the first argument describes."""
    options = json.loads(sys.argv[1])
    if options.get("threads"):
        torch.set_num_threads(int(options["threads"]))
    measure(options, config_of(options), torch.device(options["device"]), build_rig, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
