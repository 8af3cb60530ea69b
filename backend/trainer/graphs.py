"""Forward and backward passes as CUDA graphs: recorded once for each shape, then replayed by one call.

At FLUX.1's smaller sizes Python and the launching of some thousand kernels take longer than the kernels do.
A graph launches them all at once. What is drawn at random is drawn outside and copied into its inputs, so
that a run gives the same numbers with graphs and without.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from backend.events import Phase
from backend.trainer.batches import Batch
from backend.trainer.fast_flux import FastFlux
from backend.trainer.lora import Lora
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    from backend.trainer.step import Draws

MOST = 12  # graphs; what comes beyond runs without
_WARMING = 2  # runs before one is recorded: compilers and libraries choose their kernels in them
_SPARE = 4 << 30  # bytes that must stay free beside the graphs: samples are made there

LossAt = Callable[[Batch, torch.Tensor, torch.Tensor, "torch.Tensor | None"], torch.Tensor]


class Recorder(Protocol):
    """Records what is launched."""

    def warm(self, work: Callable[[], None]) -> None:
        """Run ``work`` once where it will be recorded."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record ``work`` without running it; returns what runs it."""

    def release(self) -> None:
        """Give back the memory of all that was recorded; none of it may run again."""

    def short(self) -> bool:
        """Whether too little memory is left beside what was recorded."""


class CudaRecorder:
    """CUDA graphs that share one pool of memory: one at a time may run, and none hands anything out.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        cuda: Any = torch.cuda
        self._device = device
        self._stream = cuda.Stream(device)
        self._pool: Any = cuda.graph_pool_handle()
        self._graphs: list[Any] = []

    def warm(self, work: Callable[[], None]) -> None:
        """Run ``work`` on the stream of the recording."""
        cuda: Any = torch.cuda
        self._stream.wait_stream(cuda.current_stream(self._device))
        with cuda.stream(self._stream):
            work()
        cuda.current_stream(self._device).wait_stream(self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record ``work``; returns what launches it on the current stream."""
        cuda: Any = torch.cuda
        graph = cuda.CUDAGraph()
        # Other threads may go on copying batches, so only this one is watched for what cannot be recorded.
        with cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        self._graphs.append(graph)
        replay: Callable[[], None] = graph.replay
        return replay

    def release(self) -> None:
        """Free the graphs and their memory."""
        cuda: Any = torch.cuda
        cuda.synchronize(self._device)
        for graph in self._graphs:
            graph.reset()
        self._graphs.clear()
        self._pool = cuda.graph_pool_handle()
        cuda.empty_cache()

    def short(self) -> bool:
        """Whether samples might not fit any more."""
        cuda: Any = torch.cuda
        cuda.empty_cache()
        return bool(cuda.mem_get_info(self._device)[0] < _SPARE)


@dataclass(frozen=True)
class _Key:
    """What a graph is good for: shapes and all that is not a tensor."""

    shapes: tuple[tuple[str, torch.Size, torch.dtype], ...]
    network_weight: float
    is_reg: bool
    share: float
    first: bool  # whether its gradients are the update's first; later ones are added

    @property
    def size(self) -> int:
        """What orders them by memory."""
        return {name: shape.numel() for name, shape, _ in self.shapes}["latents"]


@dataclass
class _Recorded:
    """A graph, its inputs and its output; ``kept`` are cached tensors that it reads."""

    inputs: dict[str, torch.Tensor]
    loss: torch.Tensor
    replay: Callable[[], None]
    kept: Any


class GraphedUpdate:
    """Computes a batch's loss and gradient by replaying a graph, where that is possible.

    Args:
        fast: The rebuilt transformer.
        lora: Its adapter.
        loss_at: The loss of a batch at given noise, levels and weights.
        recorder: Records.
        said: Told once why there are no graphs (any more).
        most: How many graphs are kept.

    Attributes:
        reason: Why nothing is recorded any more; None while all is well.
    """

    def __init__(
        self,
        fast: FastFlux,
        lora: Lora,
        loss_at: LossAt,
        recorder: Recorder,
        said: Callable[[str], None],
        most: int = MOST,
    ) -> None:
        self._fast = fast
        self._lora = lora
        self._loss_at = loss_at
        self._recorder = recorder
        self._said = said
        self._most = most
        self._recorded: dict[_Key, _Recorded] = {}
        self.reason: str | None = None

    def __len__(self) -> int:
        return len(self._recorded)

    @property
    def most(self) -> int:
        """How many graphs are kept."""
        return self._most

    def backward(self, batch: Batch, draws: Draws, share: float) -> torch.Tensor | None:
        """Add the gradient of ``share`` times the batch's loss to the adapter's; returns that loss.

        None, with nothing done, if this batch has to go the usual way.
        """
        if self.reason is not None or not can_record(batch):
            return None
        given = _tensors(batch, draws)
        key = _key(batch, given, share, self._fast.empty)
        one = self._recorded.get(key)
        if one is None:
            if len(self._recorded) >= self._most:
                return None
            one = self._record(key, batch, given)
            if one is None:
                return None
        for name, value in given.items():
            one.inputs[name].copy_(value, non_blocking=True)
        one.replay()
        self._fast.begin(first=False)
        return one.loss.clone()

    def prepare(self, batch: Batch, draws: Draws, share: float, *, first: bool) -> bool:
        """Record the graph that :meth:`backward` will want; gradients stay as they are.

        Args:
            batch: A batch like those to come.
            draws: Likewise; their values do not matter.
            share: Of each batch in its update.
            first: Whether it is the update's first.

        Returns:
            Whether there is a graph now.
        """
        if self.reason is not None or not can_record(batch):
            return False
        given = _tensors(batch, draws)
        key = _key(batch, given, share, first)
        if key not in self._recorded:
            if len(self._recorded) >= self._most:
                return False
            self._record(key, batch, given)
            self._fast.begin(first=True)
        return key in self._recorded

    def release(self) -> bool:
        """Let all graphs and their memory go; whether there were any. They are recorded again when needed."""
        had = bool(self._recorded)
        self._recorded.clear()
        self._recorder.release()
        return had

    def stop(self, reason: str) -> None:
        """Use no graphs from now on."""
        self.release()
        self.reason = reason
        self._said(reason)

    def _record(self, key: _Key, batch: Batch, given: dict[str, torch.Tensor]) -> _Recorded | None:
        # Memory that smaller graphs left in the pool is in pieces too small for a larger one.
        if self._recorded and key.size > max(other.size for other in self._recorded):
            self.release()
        fast = self._fast
        inputs = {name: value.clone() for name, value in given.items()}
        fixed = replace(
            batch,
            latents=inputs["latents"],
            t5=inputs["t5"],
            clip=inputs["clip"],
            mask=inputs.get("mask"),
            loss_weight=inputs.get("loss_weight"),
        )
        loss = torch.zeros((), device=batch.latents.device)

        def work() -> None:
            fast.begin(key.first)
            with self._lora.strength(key.network_weight), torch.autograd.set_multithreading_enabled(False):
                part = self._loss_at(fixed, inputs["noise"], inputs["sigmas"], inputs.get("weights"))
                part = part * key.share
                part.backward()  # type: ignore[no-untyped-call]
                fast.collect()
                loss.copy_(part.detach())

        gradient = fast.flat.master.grad
        before = None if gradient is None else gradient.clone()
        try:
            for _ in range(_WARMING):
                self._recorder.warm(work)
            replay = self._recorder.record(work)
            if self._recorder.short():
                raise _ShortError("they would leave too little memory for samples")
        except Exception as error:  # drivers, kernels and compilers fail in many ways
            fast.drop()
            cause = _first(error)
            said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            self.stop(said if isinstance(cause, _ShortError) else f"{said} ({_place(cause)})")
            return None
        finally:
            if before is not None and gradient is not None:
                with torch.no_grad():
                    gradient.copy_(before)
            fast.begin(key.first)
        one = self._recorded[key] = _Recorded(inputs, loss, replay, fast.cached())
        return one


def can_record(batch: Batch) -> bool:
    """Whether a batch's pass is one that a graph can hold: one forward pass, one backward."""
    return not batch.prior_reg and batch.preserved_t5 is None


def record_ahead(
    graphs: GraphedUpdate,
    examples: Sequence[tuple[Batch, int]],
    draws_of: Callable[[Batch], Draws],
    accumulation: int,
    share: float,
    report: Reporter,
) -> None:
    """Record what a run will replay before it begins, the largest first, and tell how far that is.

    Args:
        graphs: Records.
        examples: A batch of each kind to come, and how frequent it is.
        draws_of: Noise and levels for one, drawn from nobody's generator.
        accumulation: Batches of an update that this process computes.
        share: Of each batch in its update.
        report: Told.
    """
    able = [item for item in examples if can_record(item[0])]
    turns = (True, False) if accumulation > 1 else (True,)
    chosen = sorted(able, key=lambda item: -item[1])[: max(1, graphs.most // len(turns))]
    if len(chosen) < len(able):
        report.line(f"{len(chosen)} of {len(able)} kinds of batches get graphs")
    chosen.sort(key=lambda item: -item[0].latents.numel())
    work = [(batch, first) for batch, _ in chosen for first in turns]
    began = time.monotonic()
    for done, (batch, first) in enumerate(work):
        count, _, height, width = batch.latents.shape
        pictures = f"{width * 8}x{height * 8}" + (f" x {count}" if count > 1 else "")
        report.phase(Phase.COMPILING, done, len(work), f"recording {pictures}")
        if not graphs.prepare(batch, draws_of(batch), share, first=first) and graphs.reason is not None:
            return  # it was said why
    report.phase(Phase.COMPILING, len(work), len(work))
    report.line(f"{len(graphs)} CUDA graphs are recorded after {time.monotonic() - began:.0f} s")


class _ShortError(Exception):
    """Memory is short."""


def _first(error: BaseException) -> BaseException:
    """What an error began with: a recording that is broken off fails once more when it is ended."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _place(error: BaseException) -> str:
    """Where an error arose, as file:line: what a report of it needs and its sentence rarely says."""
    traces = traceback.extract_tb(error.__traceback__)
    return f"{Path(traces[-1].filename).name}:{traces[-1].lineno}" if traces else "?"


def _key(batch: Batch, given: dict[str, torch.Tensor], share: float, first: bool) -> _Key:
    shapes = tuple((name, value.shape, value.dtype) for name, value in given.items())
    return _Key(shapes, batch.network_weight, batch.is_reg, share, first)


def _tensors(batch: Batch, draws: Draws) -> dict[str, torch.Tensor]:
    """A graph's inputs by name: those that there are."""
    named = {
        "latents": batch.latents,
        "t5": batch.t5,
        "clip": batch.clip,
        "mask": batch.mask,
        "loss_weight": batch.loss_weight,
        "noise": draws.noise,
        "sigmas": draws.sigmas,
        "weights": draws.weights,
    }
    return {name: value for name, value in named.items() if value is not None}
