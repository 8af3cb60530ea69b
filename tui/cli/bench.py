"""``bench``: how fast this machine trains a FLUX.1 LoRA; what it finds feeds the estimates."""

from __future__ import annotations

import sys
from typing import Any

from backend.bench import FILE, MIX, STEPS, Variant, keep, projection, run, variants
from backend.home import home
from tui.cli.main import fail
from tui.cli.report import print_json, printable

_DEMO_MODEL = (64, 1, 2)  # what a machine without a GPU measures: wide, double and single blocks


def bench(sizes: list[int], compute: list[str], steps: int, *, small: bool, as_json: bool) -> int:
    """Measure, print, keep; returns 1 if nothing could be measured."""
    base = Variant(
        sizes=tuple((size, size) for size in sizes),
        steps=steps,
        model=_DEMO_MODEL if small else "flux",
        device="cpu" if small else "cuda",
        compiled=not small,
        engine="modules" if small else "fast",
    )
    todo = variants(
        base, compute=compute, checkpointing=["off"], compiled=[base.compiled], attention=["auto"]
    )
    results: list[dict[str, Any]] = []
    lines: list[str] = []

    def say(result: dict[str, Any]) -> None:
        results.append(result)
        if not as_json:
            print(_row(result), flush=True)

    try:
        for variant in todo:
            if not as_json:
                print(f"measuring {variant}", file=sys.stderr, flush=True)
            run(variant, say, lines.append)
    except OSError as error:
        return fail(f"the trainer cannot be started: {error.strerror or error}", 1)
    good = [result for result in results if not result.get("error")]
    if good and not small:  # a small model says nothing about FLUX.1
        try:
            keep(good)
        except OSError as error:
            return fail(f"{home() / FILE} cannot be written: {error.strerror or error}", 1)
    if as_json:
        print_json(results)
    elif good and not small:
        for name in compute:
            job = projection([item for item in good if item["compute"] == name], None)
            if job is not None:
                mix = "/".join(map(str, MIX))
                print(f"{name}: {STEPS} steps at {mix} take about {job['minutes']:.0f} minutes")
        print(f"kept in {home() / FILE}; estimates use it from now on")
    return 0 if good else 1


def _row(result: dict[str, Any]) -> str:
    what = f"{result['compute']:<5} {result.get('resolution') or '':>5}"
    if result.get("error"):
        return printable(f"{what}  failed: {result['error']}")
    return (
        f"{what}  {result['seconds_per_step']:.3f} s a step, {result['tokens_per_second']:.0f} tokens/s, "
        f"{result['peak_bytes'] / 2**30:.1f} GiB at the most, {printable(str(result['gpu']))}"
    )
