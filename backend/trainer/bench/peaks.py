"""What the card itself can do: large matrix products and copies, measured where the steps are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_SIDE = 8192
_ROUNDS = 10


def peaks(device: torch.device) -> dict[str, float]:
    """Operations a second of bf16 and fp8 products of random matrices, and bytes a second of a copy.

    Of what the device cannot do there is no entry. On a CPU the matrices are small and float32.

    Returns:
        ``bf16``, ``fp8`` in FLOP/s and ``copy`` in bytes/s, read and written.
    """
    if device.type != "cuda":
        a = torch.randn(1024, 1024)
        seconds = _timed(lambda: a @ a, device)
        return {"fp32": 2.0 * 1024**3 / seconds}
    found: dict[str, float] = {}
    operations = 2.0 * _SIDE**3
    a, b = (torch.randn(_SIDE, _SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    found["bf16"] = operations / _timed(lambda: a @ b.t(), device)
    try:
        a8, b8 = (value.to(torch.float8_e4m3fn) for value in (a, b))
        rows = torch.ones(_SIDE, 1, device=device)
        columns = torch.ones(1, _SIDE, device=device)
        found["fp8"] = operations / _timed(
            lambda: torch._scaled_mm(
                a8, b8.t(), scale_a=rows, scale_b=columns, out_dtype=torch.bfloat16, use_fast_accum=True
            ),
            device,
        )
    except (RuntimeError, AttributeError, ValueError):
        pass  # cards before Ada have no fp8
    source = torch.empty(1 << 30, device=device, dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    found["copy"] = 2.0 * source.numel() / _timed(lambda: target.copy_(source), device)
    return found


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of ``work`` after three warm-ups."""
    for _ in range(3):
        work()
    seconds: list[float] = []
    if device.type == "cuda":
        for _ in range(_ROUNDS):
            begin: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            begin.record()
            work()
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) / 1e3)
    else:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
