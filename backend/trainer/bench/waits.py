"""Where the host waits for the device inside a step, by a profiler's trace: there should be no such place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

STEP = "fluxlora::step"
"""Name of the range that a profiled step is put in (``torch.profiler.record_function``)."""

# Calls that return when the device has done something, and torch's reading of a single number.
_WAITS = frozenset(
    {
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
        "cuStreamSynchronize",
        "cuCtxSynchronize",
        "cudaMemcpy",
        "cudaFree",
        "aten::item",
        "aten::_local_scalar_dense",
    }
)
_SLOW_COPY = "Pageable"  # a copy from or to memory that is not pinned waits for the stream
_SHOWN = 3  # callers of a wait


def waits_of(events: Iterable[Any], steps: int) -> dict[str, float]:
    """Waits a step, by what waits and who called it: ``aten::item < aten::_fused_adamw_``.

    Args:
        events: Of ``torch.profiler.profile.events()``, in which steps lie in ranges named :data:`STEP`.
        steps: How many such ranges there are.

    Raises:
        ValueError: There are none: nothing could be found.
    """
    events = list(events)
    spans = [_span(event) for event in events if event.name == STEP and _on_host(event)]
    if not spans:
        raise ValueError("no step was marked in the trace")
    counts: dict[str, int] = {}
    for event in events:
        if event.name in _WAITS and _on_host(event):
            begin, end = _span(event)
            if not any(first <= begin and end <= last for first, last in spans):
                continue
        elif _SLOW_COPY not in event.name or _on_host(event):
            continue
        name = " < ".join((event.name, *_callers(event)))
        counts[name] = counts.get(name, 0) + 1
    return {name: count / steps for name, count in sorted(counts.items())}


def told(waits: dict[str, float]) -> str:
    """One line for a table."""
    if not waits:
        return "the host waits nowhere in a step"
    return "the host waits, times a step: " + ", ".join(f"{name} {count:g}" for name, count in waits.items())


def _callers(event: Any) -> Iterator[str]:
    parent = event.cpu_parent
    for _ in range(_SHOWN):
        if parent is None or parent.name == STEP:
            return
        yield parent.name
        parent = parent.cpu_parent


def _span(event: Any) -> tuple[float, float]:
    return event.time_range.start, event.time_range.end


def _on_host(event: Any) -> bool:
    from torch._C._autograd import DeviceType

    return bool(event.device_type == DeviceType.CPU)
