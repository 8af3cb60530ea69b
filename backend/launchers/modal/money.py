"""What a run has cost, from the times at which its containers spoke."""

from __future__ import annotations

import re

from backend.cost import Costs, costs
from backend.launchers.modal.journal import Journal
from backend.runs.view import RunView
from config.gpus import parse_gpu

_START = 20.0  # seconds that a container runs before its first word: importing, mounting


def gpu_of(journal: Journal, view: RunView) -> str:
    """The GPU that the run has, or those that it waits for, in order."""
    return view.device or ", then ".join(journal.gpu) or "CPU"


def spent(journal: Journal, view: RunView, now: float) -> Costs | None:
    """The run's costs so far, projected and at its limit; None without a price.

    Containers are paid for while they run, not while they are waited for; what they took before their
    first word is estimated.
    """
    rate = _rate(journal, view)
    if not rate:
        return None
    seconds = sum(last - first + _START for first, last in view.containers.values())
    if view.containers and not view.status.ended:
        newest = max(view.containers)
        seconds += max(0.0, now - view.containers[newest][1])
    return costs(rate, seconds, remaining=view.eta, limit=journal.seconds)


def _rate(journal: Journal, view: RunView) -> float:
    """Dollars an hour of the GPU that the run got, or of the dearest that it may get."""
    device = re.sub(r"[^A-Z0-9]+", "-", view.device.upper())
    for request, rate in journal.gpu_rates.items():
        kind, _, memory = parse_gpu(request).gpu.name.partition("-")
        # nvidia-smi's names, such as NVIDIA A100-SXM4-80GB and NVIDIA RTX PRO 6000 Blackwell.
        if kind in device.split("-") and memory in device:
            return rate
    return journal.rate
