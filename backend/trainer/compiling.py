"""Compiling FLUX's blocks: where its results are kept, and the warm-up that a user can watch."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from backend.events import Phase
from backend.home import cache_dir
from backend.trainer.batches import Batch
from backend.trainer.fast_flux import FastFlux
from backend.trainer.loading import free_memory
from backend.trainer.report import Reporter
from backend.trainer.step import FlowModel

if TYPE_CHECKING:
    from backend.trainer.buckets import Bucket

_GRAPHS = 64  # of one function, of all shapes, with gradients and without
_PROBED = 4  # blocks that are kept to learn what one takes


def wants_compiling(wanted: bool | str, device: torch.device) -> bool:
    """What ``train.compile`` comes to: ``auto`` is on where there is CUDA."""
    return device.type == "cuda" if wanted == "auto" else bool(wanted)


def block_compiler(backend: str = "inductor") -> Callable[..., Any]:
    """What compiles a block's function; results are kept in the app's data folder between runs."""
    folder = cache_dir() / "compiled"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))
    torch._dynamo.config.recompile_limit = _GRAPHS
    return functools.partial(torch.compile, fullgraph=True, backend=backend)


@dataclass(frozen=True, order=True)
class WarmShape:
    """A batch to warm up with: latents of ``height`` x ``width`` cells, ``count`` pictures."""

    height: int
    width: int
    count: int

    def __str__(self) -> str:
        return f"{self.width * 8}x{self.height * 8}" + (f" x {self.count}" if self.count > 1 else "")

    def tokens(self, text: int) -> int:
        """Of all its pictures with texts of ``text`` tokens each: what it costs."""
        return (self.height * self.width // 4 + text) * self.count


def shapes_of(batches: Iterable[tuple[Bucket, int]], text_tokens: int) -> list[WarmShape]:
    """The distinct shapes of batches of a bucket and so many pictures, the costliest first."""
    shapes = {WarmShape(bucket.height // 8, bucket.width // 8, count) for bucket, count in batches}
    return sorted(shapes, key=lambda shape: (-shape.tokens(text_tokens), shape.height, shape.count))


class WarmUp:
    """Runs each shape once, forward and backward, so that what can fail fails here.

    Args:
        fast: The rebuilt transformer.
        model: It, as training calls it.
        config: The transformer's config.
        text_tokens: Length of a text.
        dtype: Of latents and texts.
        report: Told of the progress and of what was found.
    """

    def __init__(
        self,
        fast: FastFlux,
        model: FlowModel,
        config: Any,
        text_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        report: Reporter,
    ) -> None:
        self._fast = fast
        self._model = model
        self._config = config
        self._tokens = text_tokens
        self._device = device
        self._dtype = dtype
        self._report = report

    def run(self, shapes: Sequence[WarmShape], *, measure: bool, drawn: Sequence[WarmShape] = ()) -> None:
        """Compile for ``shapes``, the costliest first, then for what runs without gradients.

        Args:
            shapes: Of the batches to come, as :func:`shapes_of` orders them.
            measure: Find the smallest number of blocks that must be computed again in the backward pass.
            drawn: Of samples and of validation.
        """
        total = len(shapes) + len(drawn)
        began = time.monotonic()
        for index, shape in enumerate((*shapes, *drawn)):
            self._report.phase(Phase.COMPILING, index, total, str(shape))
            if index == 0 and measure:
                self._fit(shape)
            elif index < len(shapes):
                self._try(shape)
            else:
                self._draw(shape)
        self._report.phase(Phase.COMPILING, total, total)
        self._report.line(
            f"{total} shapes are ready after {time.monotonic() - began:.0f} s"
            + (", compiled" if self._fast.compiled else "")
        )

    def _fit(self, shape: WarmShape) -> None:
        """The fewest blocks computed again with which a step fits into the memory."""
        fast, blocks = self._fast, self._fast.blocks
        fast.checkpointed = 0
        if self._fits(shape):
            return
        fast.checkpointed = blocks
        least = self._peak(shape)
        fast.checkpointed = max(0, blocks - _PROBED)
        try:
            each = max(1.0, (self._peak(shape) - least) / (blocks - fast.checkpointed))
        except torch.OutOfMemoryError:
            fast.discard()
            free_memory(self._device)
            fast.checkpointed = blocks
            self._report.line(f"gradient checkpointing: {blocks} of {blocks} blocks; no more fits")
            return
        free = torch.cuda.get_device_properties(self._device).total_memory * 0.94 - least
        fast.checkpointed = min(blocks, max(1, blocks - math.floor(free / each)))
        while fast.checkpointed < blocks and not self._fits(shape):
            fast.checkpointed = min(blocks, fast.checkpointed + _PROBED)
        self._report.line(
            f"gradient checkpointing: {fast.checkpointed} of {blocks} blocks; keeping one takes "
            f"{each / 2**30:.2f} GiB"
        )

    def _fits(self, shape: WarmShape) -> bool:
        try:
            self._try(shape)
        except torch.OutOfMemoryError:
            pass
        else:
            return True
        self._fast.discard()
        free_memory(self._device)
        return False

    def _peak(self, shape: WarmShape) -> int:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._try(shape)
        return torch.cuda.max_memory_allocated(self._device)

    def _try(self, shape: WarmShape) -> None:
        """Forward and backward on zeros; without compiling if that fails."""
        try:
            self._step(shape)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what a compiler can fail with is not to be listed
            if not self._fast.compiled:
                raise
            self._fast.discard()
            self._fast.stop_compiling()
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._report.warning(f"torch.compile is not used: {why}", "compile_failed")
            self._step(shape)

    def _draw(self, shape: WarmShape) -> None:
        """A forward pass without gradients; what fails here is left to whoever needs it."""
        try:
            with torch.no_grad():
                self._forward(shape)
        except Exception as error:  # a sample is never worth a training run
            self._fast.discard()
            free_memory(self._device)
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._report.line(f"pictures of {shape} are not prepared: {why}")

    def _forward(self, shape: WarmShape) -> torch.Tensor:
        batch = self._batch(shape)
        sigmas = torch.full((shape.count,), 0.5, device=self._device)
        return self._model.velocity(batch.latents.float(), sigmas, batch.t5, batch.clip)

    def _step(self, shape: WarmShape) -> None:
        try:
            predicted = self._forward(shape)
            predicted.float().square().mean().backward()  # type: ignore[no-untyped-call]
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        finally:
            self._fast.discard()

    def _batch(self, shape: WarmShape) -> Batch:
        config = self._config

        def zeros(*size: int) -> torch.Tensor:
            return torch.zeros(size, device=self._device, dtype=self._dtype)

        return Batch(
            latents=zeros(shape.count, config.in_channels // 4, shape.height, shape.width),
            t5=zeros(shape.count, self._tokens, config.joint_attention_dim),
            clip=zeros(shape.count, config.pooled_projection_dim),
        )
