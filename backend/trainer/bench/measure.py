"""Timing the steps of a rig, size by size."""

from __future__ import annotations

import datetime
import functools
import itertools
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from backend.trainer.bench.kernels import profile_step
from backend.trainer.bench.peaks import peaks
from backend.trainer.bench.rig import Rig
from backend.trainer.bench.shapes import image_tokens, step_flops
from backend.trainer.devices import describe_device, prepare_device

_WARMUP_ENOUGH = 3  # steps after the first, which compiles

Said = Callable[[dict[str, Any]], None]


def measure(
    options: dict[str, Any],
    config: dict[str, Any],
    device: torch.device,
    build: Callable[[dict[str, Any], dict[str, Any], torch.device], Rig],
    say: Said,
) -> None:
    """Build a variant and time its steps at each size.

    Args:
        options: Of the variant: ``sizes``, ``steps``, ``batch``, ``profile`` and what ``build`` reads.
        config: The transformer's config.
        device: Where it trains.
        build: Makes the rig.
        say: Told each result as it comes: one a size, and one of what a size failed with.
    """
    prepare_device(device)
    ceiling = peaks(device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    began = time.perf_counter()
    rig = build(options, config, device)
    _wait(device)
    built = time.perf_counter() - began
    steps_done = 0
    for width, height in options["sizes"]:
        facts: dict[str, Any] = {
            "gpu": describe_device(device),
            "torch": torch.__version__,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "engine": options["engine"],
            "resolution": width if width == height else f"{width}x{height}",
            "batch": options["batch"],
            "compiled": options["compiled"],
            "compute": options["compute"],
            "checkpointing": options["checkpointing"],
            "attention": options["attention"],
            "rank": options["rank"],
            "graphs": options.get("graphs", False),
            "lora_in_k": options.get("lora_in_k"),
            "inductor": options.get("inductor"),
            "text_tokens": options["text_tokens"],
            "peaks": ceiling,
            "build_seconds": round(built, 2),
        }
        try:
            timed = _time(rig, width, height, options["steps"], device, steps_done)
            steps_done += timed.pop("steps_done")
            facts |= rig.facts | timed
            facts |= _rates(config, width, height, facts)
            if options["profile"]:
                path = Path(options["profile"])
                path = path.with_name(f"{path.stem}-{_variant_name(options)}-{width}{path.suffix or '.txt'}")
                work = functools.partial(rig.train, steps_done, width, height)
                facts["profile"] = profile_step(work, device, path)
                facts["profile_file"] = path.name
        except Exception as error:  # one size that fails must not hide the others
            facts["error"] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
            traceback.print_exc(file=sys.stdout)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        say(facts)


def _variant_name(options: dict[str, Any]) -> str:
    """What tells a variant's files from another's."""
    parts = [
        options["engine"],
        options["compute"],
        "compiled" if options["compiled"] else "eager",
        f"ckpt_{options['checkpointing']}",
        options["attention"],
        *([] if options.get("graphs") else ["nographs"]),
        f"in_k_{options.get('lora_in_k')}",
    ]
    return "-".join(map(str, parts))


def _time(rig: Rig, width: int, height: int, steps: int, device: torch.device, done: int) -> dict[str, Any]:
    """Seconds of each of ``steps`` steps, from one's begin to the next one's, after warming up."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    rig.train(done, width, height)
    _wait(device)
    first = time.perf_counter() - began
    for index in range(_WARMUP_ENOUGH):
        rig.train(done + 1 + index, width, height)
    _wait(device)
    warm = time.perf_counter() - began
    host: list[float] = []
    if device.type == "cuda":
        marks: list[Any] = [
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(steps + 1)
        ]
        marks[0].record()
        for index in range(steps):
            at = time.perf_counter()
            rig.train(done + 4 + index, width, height)
            host.append(time.perf_counter() - at)
            marks[index + 1].record()
        torch.cuda.synchronize(device)
        seconds = [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)]
        peak = torch.cuda.max_memory_allocated(device)
        reserved = torch.cuda.max_memory_reserved(device)
    else:
        seconds = []
        for index in range(steps):
            at = time.perf_counter()
            rig.train(done + 4 + index, width, height)
            seconds.append(time.perf_counter() - at)
        peak = reserved = int(psutil.Process().memory_info().rss)
    ordered = sorted(seconds)
    return {
        "seconds_per_step": statistics.median(seconds),
        "p10": ordered[len(ordered) // 10],
        "p90": ordered[len(ordered) * 9 // 10],
        "host_seconds": statistics.median(host) if host else None,
        "first_step_seconds": round(first, 3),
        "warmup_seconds": round(warm, 3),
        "steps": steps,
        "steps_done": done + 4 + steps - done,
        "peak_bytes": peak,
        "reserved_bytes": reserved,
    }


def _rates(config: dict[str, Any], width: int, height: int, facts: dict[str, Any]) -> dict[str, Any]:
    image = image_tokens(width, height)
    flops = step_flops(config, image, int(facts["text_tokens"]), int(facts["batch"]))
    rate = flops / facts["seconds_per_step"]
    ceiling = facts["peaks"].get("bf16") or facts["peaks"].get("fp32")
    tokens = (image + int(facts["text_tokens"])) * int(facts["batch"])
    return {
        "tokens_per_second": tokens / facts["seconds_per_step"],
        "tflop": flops / 1e12,
        "tflops": rate / 1e12,
        "mfu": rate / ceiling if ceiling else None,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
