"""Where one step's time goes on a GPU: by kernel, and summed by kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backend.trainer.bench.waits import STEP, told, waits_of

# What part of a kernel's name tells its kind; the first that fits counts.
_KINDS = (
    ("attention", ("flash", "fmha", "attention", "sdpa", "mha_")),
    ("gemm", ("gemm", "cutlass", "nvjet", "wgmma", "xmma", "scaled_mm", "splitk", "gemv", "cublas")),
    ("optimizer", ("adam", "multi_tensor", "foreach", "lerp")),
    ("copy", ("memcpy", "memset", "copy_kernel", "catarray")),
)


def kind_of(kernel: str) -> str:
    """Which kind of work a kernel does, by its name; ``elementwise`` if nothing tells."""
    name = kernel.lower()
    return next((kind for kind, parts in _KINDS if any(part in name for part in parts)), "elementwise")


def profile_step(
    work: Callable[[], object], device: torch.device, path: Path, steps: int = 2
) -> dict[str, Any]:
    """Profile steady steps and write a table of their kernels to ``path``.

    Args:
        work: Performs one step.
        device: Where.
        path: The text file.
        steps: How many steps to average over.

    Returns:
        Milliseconds a step by kind, ``busy`` (all kernels), ``wall`` (first kernel's begin to last one's
        end) and ``idle`` (what of it no kernel fills), ``kernels`` (how many a step), and ``top``: name,
        milliseconds, count of the fifteen largest; on a CPU none of these. And ``waits``: where the host
        waits for the device, times a step.
    """
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile, record_function

    gpu = device.type == "cuda"
    work()
    if gpu:
        torch.cuda.synchronize(device)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if gpu else [])
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            with record_function(STEP):
                work()
        if gpu:
            torch.cuda.synchronize(device)
    averages = profiler.key_averages()
    sort = "self_device_time_total" if gpu else "self_cpu_time_total"
    text = averages.table(sort_by=sort, row_limit=60, max_name_column_width=110)
    waits = waits_of(profiler.events() or (), steps)
    found: dict[str, Any] = {}
    if gpu:
        spans = []
        by_name: dict[str, list[float]] = {}
        for event in profiler.events() or ():
            # Not `is`: each look at an event's device makes a new object.
            if event.device_type != DeviceType.CUDA or event.name.startswith(("ProfilerStep", STEP)):
                continue
            if getattr(event, "is_user_annotation", False):
                continue
            begin, end = event.time_range.start, event.time_range.end
            spans.append((begin, end))
            by_name.setdefault(event.name, []).append(end - begin)
        sums: dict[str, float] = {}
        for name, times in by_name.items():
            sums[kind_of(name)] = sums.get(kind_of(name), 0.0) + sum(times)
        found = {kind: round(value / 1e3 / steps, 3) for kind, value in sorted(sums.items())}
        busy, wall = _covered(spans), (max(e for _, e in spans) - min(b for b, _ in spans)) if spans else 0.0
        found |= {
            "busy": round(busy / 1e3 / steps, 3),
            "wall": round(wall / 1e3 / steps, 3),
            "idle": round((wall - busy) / 1e3 / steps, 3),
            "kernels": sum(len(times) for times in by_name.values()) // steps,
        }
        largest = sorted(by_name.items(), key=lambda item: -sum(item[1]))
        found["top"] = [
            (name[:160], round(sum(times) / 1e3 / steps, 3), len(times) // steps)
            for name, times in largest[:15]
        ]
        text = (
            f"milliseconds a step: { {k: v for k, v in found.items() if k != 'top'} }\n\n"
            + "\n".join(
                f"{sum(t) / 1e3 / steps:9.3f} ms {len(t) // steps:6d}x  {kind_of(n):<12} {n[:300]}"
                for n, t in largest[:80]
            )
            + "\n\n"
            + text
        )
    found["waits"] = waits
    text = f"{told(waits)}\n\n{text}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return found


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of ``spans``."""
    total, reach = 0.0, float("-inf")
    for begin, end in sorted(spans):
        if end > reach:
            total += end - max(begin, reach)
            reach = end
    return total
