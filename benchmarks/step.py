"""What the trainer adds to each step, beside the model's forward, backward and the optimizer's step.

The real trainer runs the demo in this process, its events and its log going to files. A step's time is
that from the end of one update to the end of the next, so it holds everything: the data, the noise, the
loss, clipping, the look for a stop request, the records. After each step a bare loop does the same work
on a copy of the model, with the very inputs of that step: forward, mean of squares, backward,
optimizer, nothing else. The trainer's own is the difference of the two, pair by pair.

    python benchmarks/step.py [--steps N] [--batch-size N] [--resolution PIXELS] [--limit MS]
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as the trainer has it

import argparse
import contextlib
import copy
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from diffusers import FluxTransformer2DModel

from backend.demo import prepare_demo
from backend.runs.folder import RunFolder
from backend.trainer.attempt import run_attempt
from backend.trainer.loop import TrainingLoop
from config.load import load_config

PARTS = ("forward", "backward", "optimizer")


class BareLoop:
    """Forward, backward and optimizer on a copy of a model with its LoRA attached."""

    def __init__(self, model: FluxTransformer2DModel, lr: float) -> None:
        self._model = copy.deepcopy(model)
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(parameters, lr=lr, eps=1e-6)
        self._optimizer.zero_grad(set_to_none=True)

    def step(self, inputs: dict[str, Any]) -> float:
        """One step on the inputs of a forward pass; returns its seconds."""
        target = torch.randn_like(inputs["hidden_states"])
        began = time.perf_counter()
        predicted = self._model(**inputs)[0]
        torch.nn.functional.mse_loss(predicted, target).backward()
        del predicted  # frees the graph, which is the model's and costs a quarter of a millisecond
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began


class Stopwatch:
    """Times the trainer's steps and the parts of them that are the model's and the optimizer's."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.parts: dict[str, list[float]] = {part: [] for part in PARTS}
        self.bare: list[float] = []
        self._running = dict.fromkeys(PARTS, 0.0)
        self._inside = False  # a trainer's update is going on
        self._last: float | None = None
        self._model: FluxTransformer2DModel | None = None
        self._inputs: dict[str, Any] = {}
        self._loop: BareLoop | None = None

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time added to ``part`` where the trainer calls it."""

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not self._inside:
                return function(*args, **kwargs)
            if part == "forward":
                self._model, self._inputs = args[0], kwargs
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._running[part] += time.perf_counter() - began

        return wrapper

    def update(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``TrainingLoop._update``, timed, and followed by a step of the bare loop."""

        @functools.wraps(function)
        def wrapper(loop: TrainingLoop, *args: Any) -> None:
            self._running = dict.fromkeys(PARTS, 0.0)
            self._inside = True
            function(loop, *args)
            self._inside = False
            now = time.perf_counter()
            if self._last is not None:
                self.steps.append(now - self._last)
                for part, seconds in self._running.items():
                    self.parts[part].append(seconds)
            assert self._model is not None
            if self._loop is None:
                self._loop = BareLoop(self._model, loop.config.process.train.lr)
            seconds = self._loop.step(self._inputs)
            if self._last is not None:
                self.bare.append(seconds)
            self._last = time.perf_counter()

        return wrapper

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Time what the trainer does while this is open."""
        places = (
            (FluxTransformer2DModel, "forward", functools.partial(self.timed, "forward")),
            (torch.Tensor, "backward", functools.partial(self.timed, "backward")),
            (torch.optim.AdamW, "step", functools.partial(self.timed, "optimizer")),
            (TrainingLoop, "_update", self.update),
        )
        with contextlib.ExitStack() as stack:
            for owner, name, wrap in places:
                stack.enter_context(mock.patch.object(owner, name, wrap(getattr(owner, name))))
            yield


def measure(folder: Path, steps: int, batch_size: int, resolution: int) -> Stopwatch:
    """Train the demo for ``steps`` steps; raises SystemExit if that fails."""
    os.environ["FLUXLORA_HOME"] = str(folder / "home")
    project = prepare_demo(folder / "demo", progress=lambda text: print(text, file=sys.stderr))
    settings = [
        f"train.steps={steps}",
        f"train.batch_size={batch_size}",
        f"datasets.0.resolution={resolution}",
        "train.disable_sampling=true",
        "save.save_every=0",
        "device=cpu",
    ]
    run = RunFolder(folder / "run")
    run.create()
    run.config.write_text(load_config(project.config, settings).dump(), encoding="utf-8")
    watch = Stopwatch()
    with run.log.open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log), watch.installed():
        code = run_attempt(run.path)
    if code:
        raise SystemExit(run.log.read_text(encoding="utf-8"))
    return watch


def _load() -> float:
    """The machine's over the last minute."""
    return float(psutil.getloadavg()[0])


def row(name: str, seconds: list[float]) -> str:
    """Median and 95th percentile in milliseconds."""
    high = statistics.quantiles(seconds, n=20)[-1]
    return f"  {name:<28}{statistics.median(seconds) * 1e3:9.2f}{high * 1e3:9.2f}"


def main() -> int:
    """Print a table; returns 1 if the median is above ``--limit``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="steps to time (default 300)")
    parser.add_argument("--warmup", type=int, default=20, help="steps before that (default 20)")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="torch's threads")
    parser.add_argument("--limit", type=float, help="fail if the median overhead is more milliseconds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="fluxlora-step-", ignore_cleanup_errors=True) as name:
        total = options.steps + options.warmup + 1
        watch = measure(Path(name), total, options.batch_size, options.resolution)

    steps, bare = watch.steps[options.warmup :], watch.bare[options.warmup :]
    parts = {part: seconds[options.warmup :] for part, seconds in watch.parts.items()}
    overhead = [step - sum(own) for step, *own in zip(steps, *parts.values(), strict=True)]
    print(
        f"{len(steps)} steps of {options.batch_size} at {options.resolution} px on the CPU, "
        f"{options.threads} threads, torch {torch.__version__}"
    )
    print(f"  {'milliseconds':<28}{'median':>9}{'p95':>9}")
    print(row("step of the trainer", steps))
    for part, seconds in parts.items():
        print(row(f"- {part}", seconds))
    print(row("= all else in the step", overhead))
    print(row("step of the bare loop", bare))
    more = [step - other for step, other in zip(steps, bare, strict=True)]
    print(row("the trainer's own", more))
    ratio = statistics.median(steps) / statistics.median(bare)
    print(f"  trainer / bare loop: {ratio:.3f}x")
    median = statistics.median(more) * 1e3
    print(f"target: under 2 ms; {'met' if median < 2 else 'missed'} with {median:.2f} ms; load {_load():.2f}")
    return int(options.limit is not None and median > options.limit)


if __name__ == "__main__":
    sys.exit(main())
