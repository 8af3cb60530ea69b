"""Two trainers on small models on the CPU, each in a process that waits for its rounds."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any

import psutil

from backend.bench import Variant

ENGINES = ("fast", "plain")


class Runner:
    """A trainer in a process of its own that trains when it is told to."""

    def __init__(self, variant: Variant) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side_by_side", json.dumps(asdict(variant))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def train(self, steps: int) -> dict[str, Any]:
        """Seconds of each step of a round, and the most memory that the process had so far."""
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(f"{steps}\n")
        pipe.flush()
        for line in self._process.stdout or ():
            if line.startswith("ROUND "):
                return dict(json.loads(line[6:]))
        raise SystemExit(f"the {self._process.args!r} ended early")

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Print and return steps a second and peak memory of both, model by model, and their ratios."""
    found = []
    print(f"{'model':<28}{'px':>6}{'plain/s':>10}{'ours/s':>10}{'ratio':>8}{'plain MiB':>11}{'ours MiB':>10}")
    for text in options.models.split(","):
        width, double, single, pixels, words = (int(part) for part in text.split(":"))
        runners: dict[str, Runner] = {}
        for engine in ENGINES:
            variant = Variant(
                sizes=((pixels, pixels),),
                engine=engine,
                model=(width, double, single),
                device="cpu",
                threads=options.threads,
                rank=options.rank,
                text_tokens=words,
            )
            runners[engine] = Runner(variant)
            runners[engine].train(3)  # compiles
        steps = options.steps
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        memory = dict.fromkeys(ENGINES, 0)
        for number in range(options.rounds):
            order = ENGINES if number % 2 == 0 else ENGINES[::-1]
            for engine in order:
                result = runners[engine].train(steps)
                seconds[engine] += result["seconds"]
                memory[engine] = max(memory[engine], result["memory"])
        for runner in runners.values():
            runner.close()
        median = {engine: statistics.median(values) for engine, values in seconds.items()}
        ratio = median["plain"] / median["fast"]
        row = {
            "model": [width, double, single],
            "pixels": pixels,
            "text_tokens": words,
            "plain_seconds": median["plain"],
            "fast_seconds": median["fast"],
            "ratio": ratio,
            "plain_bytes": memory["plain"],
            "fast_bytes": memory["fast"],
        }
        found.append(row)
        name = f"{width} wide, {double} + {single} blocks"
        print(
            f"{name:<28}{pixels:>6}{1 / median['plain']:10.2f}{1 / median['fast']:10.2f}{ratio:8.2f}"
            f"{memory['plain'] / 2**20:11.0f}{memory['fast'] / 2**20:10.0f}",
            flush=True,
        )
    return found


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
