"""Which attention kernel is the fastest on the very device at the very shapes that a run has, and right."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from backend.trainer.attention_kernels import KERNELS
from backend.trainer.buckets import Bucket
from backend.trainer.budget import tokens_of
from backend.trainer.fast_blocks import Attention

NATIVE = "native"

_TOLERANCE = 2e-2  # relative error against float32; bfloat16 kernels are seen to have 0.3 %
_HEADS = 1  # whose numbers are looked at: each head is computed by itself
_REPEATS = 5
_SHAPES = 3  # that are measured, those on which a run spends most


@dataclass(frozen=True)
class Sequences:
    """What attention is computed on.

    Attributes:
        count: Pictures in a batch.
        tokens: Of text and picture.
        share: Of the run's batches.
    """

    count: int
    tokens: int
    share: float = 1.0

    def __str__(self) -> str:
        return f"{self.tokens} tokens" + (f" x {self.count}" if self.count > 1 else "")


FULL = (Sequences(1, 4608),)
"""A picture of 1024 x 1024 and its text."""


def sequences_of(shapes: Mapping[tuple[Bucket, int], int], text_tokens: int) -> list[Sequences]:
    """The shapes that a run spends most of its attention on, at most three, the longest first.

    Args:
        shapes: How many batches of an epoch are of a bucket and so many pictures.
        text_tokens: Of a text.
    """
    batches: Counter[tuple[int, int]] = Counter()
    for (bucket, count), number in shapes.items():
        batches[count, tokens_of(bucket, text_tokens)] += number
    cost = {key: number * key[0] * key[1] ** 2 for key, number in batches.items()}
    chosen = sorted(cost, key=lambda key: -cost[key])[:_SHAPES]
    total = sum(batches[key] for key in chosen)
    return [
        Sequences(*key, share=batches[key] / total) for key in sorted(chosen, key=lambda key: (-key[1], key))
    ]


@dataclass(frozen=True)
class Trial:
    """How a kernel did: mean seconds forward and backward over the run's batches, or why it is out.

    Attributes:
        each: Seconds at each shape.
    """

    name: str
    seconds: float | None
    why: str = ""
    each: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.name}: {self.why}"
        return f"{self.name} " + " / ".join(f"{seconds * 1e3:.2f}" for seconds in self.each) + " ms"


def try_kernels(
    device: torch.device,
    dtype: torch.dtype,
    *,
    heads: int = 24,
    width: int = 128,
    shapes: Sequence[Sequences] = FULL,
    kernels: Mapping[str, Attention] | None = None,
) -> list[Trial]:
    """Measure kernels, the fastest first; one is out that fails or is wrong at any of the shapes.

    Right is what plain products in float32 give. Inputs and the output's gradient have the layouts that
    FLUX's blocks have.
    """
    kernels = kernels or KERNELS
    found: dict[str, list[float]] = {name: [] for name in kernels}
    out: dict[str, str] = {}
    for shape in shapes:
        try:
            inputs, grad = _drawn(shape, heads, width, device, dtype)
            expected = _expected(inputs, grad)
        except torch.OutOfMemoryError:
            why = f"there is no memory to compare it at {shape}"
            out = dict.fromkeys(kernels, why) | out
            break
        for name, kernel in kernels.items():
            if name in out:
                continue
            try:
                error = _apart(_run(kernel, inputs, grad), expected)
                if not error < _TOLERANCE:
                    out[name] = f"its results are wrong by {error:.1%} at {shape}"
                    continue
                found[name].append(_time(functools.partial(_run, kernel, inputs, grad), device))
            except Exception as problem:  # missing libraries, old drivers, shapes that a kernel does not know
                out[name] = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trials = [
        Trial(name, None, out[name])
        if name in out
        else Trial(name, sum(t * s.share for t, s in zip(times, shapes, strict=True)), each=tuple(times))
        for name, times in found.items()
    ]
    return sorted(trials, key=lambda trial: (trial.seconds is None, trial.seconds or 0.0))


def best_kernel(
    device: torch.device,
    dtype: torch.dtype,
    shapes: Sequence[Sequences] = FULL,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """The fastest kernel whose results are right; ``native`` where there is no choice.

    Args:
        device: Where.
        dtype: Of the tensors.
        shapes: Of the batches.
        say: Told what was measured.
    """
    if device.type != "cuda":
        return NATIVE
    trials = try_kernels(device, dtype, shapes=shapes)
    say(told(trials, shapes))
    return trials[0].name if trials[0].seconds is not None else NATIVE


def told(trials: Sequence[Trial], shapes: Sequence[Sequences]) -> str:
    """What was found, as a line."""
    at = " / ".join(map(str, shapes))
    return f"attention, forward and backward at {at}: {', '.join(map(str, trials))}"


def _drawn(
    shape: Sequences, heads: int, width: int, device: torch.device, dtype: torch.dtype
) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator(device=device).manual_seed(0)
    size = (shape.count, shape.tokens, heads, width)

    def draw() -> torch.Tensor:
        return torch.randn(size, device=device, generator=generator).to(dtype).transpose(1, 2)

    return [draw().requires_grad_() for _ in range(3)], draw()


def _expected(inputs: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of the first picture's first heads, by plain products in float32."""
    part = [_part(tensor).float().requires_grad_() for tensor in inputs]
    return _run(KERNELS["math"], part, _part(grad).float())


def _part(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach()[:1, :_HEADS]


def _run(kernel: Attention, inputs: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    out = kernel(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def _apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest relative error of the four tensors."""
    pairs = [(_part(one).float(), other) for one, other in zip(found, expected, strict=True)]
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def _time(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds; on a GPU as a recorded graph, as runs have it, in which launching costs nothing."""
    if device.type != "cuda":
        return _clocked(work, lambda: None)
    from backend.trainer.graphs import CudaRecorder

    def wait() -> None:
        torch.cuda.synchronize(device)

    recorder = CudaRecorder(device)

    def once() -> None:
        with torch.autograd.set_multithreading_enabled(False):
            work()

    try:
        recorder.warm(once)
        return _clocked(recorder.record(once), wait)
    except Exception:  # what cannot be recorded may yet be run
        return _clocked(work, wait)
    finally:
        recorder.release()


def _clocked(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    work()
    wait()
    began = time.perf_counter()
    for _ in range(_REPEATS):
        work()
    wait()
    return (time.perf_counter() - began) / _REPEATS
