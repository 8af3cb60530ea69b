"""Two trainers on small models on the CPU, side by side, each in a process that waits for its turns."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import psutil

from backend.bench import Variant

ENGINES = ("fast", "plain")
_WARMING = 3  # steps of each before anything is timed: the first compiles
_TURN = 0.25  # seconds that a turn of the plain loop takes at least; a turn has one step at least
_LEAST = 7  # pairs of turns


class Runner:
    """A trainer in a process of its own that trains when it is told to."""

    def __init__(self, variant: Variant) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side_by_side", json.dumps(asdict(variant))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # As runs have it: threads that wait spin no longer than a moment, or the other would pay for it.
            env=os.environ | {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "2000")},
        )

    def begin(self, steps: int) -> None:
        """Tell it to train, and wait for nothing."""
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(f"{steps}\n")
        pipe.flush()

    def end(self) -> dict[str, Any]:
        """``seconds`` of each step of the turn, and ``memory``: the most that the process had so far."""
        for line in self._process.stdout or ():
            if line.startswith("ROUND "):
                return dict(json.loads(line[6:]))
        raise SystemExit(f"the {self._process.args!r} ended early")

    def train(self, steps: int) -> dict[str, Any]:
        """A whole turn."""
        self.begin(steps)
        return self.end()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print and return steps a second and peak memory of both, model by model, and their ratios."""
    found = []
    print(f"torch's threads: {options.threads or os.cpu_count()}, load at the start: {_load()}")
    print(
        f"{'model':<26}{'px':>5}{'text':>6}{'plain/s':>9}{'ours/s':>9}{'ratio':>7}{'p25':>7}{'p75':>7}"
        f"{'turns':>7}{'plain MiB':>11}{'ours MiB':>10}{'load':>7}"
    )
    for text in options.models.split(","):
        width, double, single, pixels, words = (int(part) for part in text.split(":"))
        runners = {
            engine: Runner(
                Variant(
                    sizes=((pixels, pixels),),
                    engine=engine,
                    model=(width, double, single),
                    device="cpu",
                    threads=options.threads,
                    rank=options.rank,
                    text_tokens=words,
                )
            )
            for engine in ENGINES
        }
        try:
            row = _turns(runners, options.seconds)
        finally:
            for runner in runners.values():
                runner.close()
        row |= {"model": [width, double, single], "pixels": pixels, "text_tokens": words, "load": _load()}
        found.append(row)
        name = f"{width} wide, {double} + {single} blocks"
        print(
            f"{name:<26}{pixels:>5}{words:>6}{1 / row['plain_seconds']:9.2f}{1 / row['fast_seconds']:9.2f}"
            f"{row['ratio']:7.2f}{row['p25']:7.2f}{row['p75']:7.2f}{row['turns']:7}"
            f"{row['plain_bytes'] / 2**20:11.0f}{row['fast_bytes'] / 2**20:10.0f}{row['load']:7.2f}",
            flush=True,
        )
    return found


def _turns(runners: dict[str, Runner], seconds: float) -> dict[str, Any]:
    """Take turns for ``seconds`` (but no fewer than seven pairs): what else runs meanwhile slows both.

    The ratio is the median of the pairs' own ratios, so that a moment's load counts in one pair alone.
    """
    for runner in runners.values():
        runner.begin(_WARMING)
    for runner in runners.values():
        runner.end()
    once = min(runners["plain"].train(2)["seconds"])
    runners["fast"].train(2)
    steps = max(1, round(_TURN / once))
    pairs: list[dict[str, float]] = []
    memory = dict.fromkeys(ENGINES, 0)
    until = time.monotonic() + seconds
    while len(pairs) < _LEAST or time.monotonic() < until:
        pair = {}
        for engine in ENGINES if len(pairs) % 2 else ENGINES[::-1]:
            result = runners[engine].train(steps)
            pair[engine] = statistics.fmean(result["seconds"])
            memory[engine] = max(memory[engine], result["memory"])
        pairs.append(pair)
    ratios = [pair["plain"] / pair["fast"] for pair in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "plain_seconds": statistics.median(pair["plain"] for pair in pairs),
        "fast_seconds": statistics.median(pair["fast"] for pair in pairs),
        "ratio": middle,
        "p25": low,
        "p75": high,
        "turns": len(pairs),
        "steps_a_turn": steps,
        "plain_bytes": memory["plain"],
        "fast_bytes": memory["fast"],
    }


def _load() -> float:
    """The machine's load over the last minute."""
    return round(psutil.getloadavg()[0], 2)


def serve(options: dict[str, Any]) -> None:
    """Train as many steps as each line of standard input says."""
    import torch

    from backend.trainer.bench.__main__ import config_of
    from backend.trainer.bench.rig import Rig, build_rig
    from benchmarks.plain_loop import PlainLoop

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    device = torch.device("cpu")
    config = config_of(options)
    build = PlainLoop if options["engine"] == "plain" else build_rig
    rig: Rig = build(options, config, device)
    (width, height), done = options["sizes"][0], 0
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            rig.train(done, width, height)
            seconds.append(time.perf_counter() - began)
            done += 1
        memory = int(psutil.Process().memory_info().rss)
        try:
            import resource

            memory = max(memory, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        except ImportError:
            pass  # Windows
        print("ROUND " + json.dumps({"seconds": seconds, "memory": memory}), flush=True)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
