"""Block swap: some blocks' frozen weights wait in the CPU's memory and are copied over as they are needed.

Two places on the device hold the weights of one swapped block each. While a block computes, the next
one's weights are copied into the other place on a stream of their own, so that a copy costs time only where
it takes longer than the blocks between. It needs gradient checkpointing: a block is then computed again right
before its gradients, which is when its weights must be there a second time, in the reverse order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

_SHARE = 0.92  # of the free memory that may be planned with
_ALIGN = 256  # bytes


def blocks_of(transformer: FluxTransformer2DModel) -> list[nn.Module]:
    """Double, then single blocks, in the order in which they compute."""
    return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]


def frozen_bytes(module: nn.Module) -> int:
    """Bytes of a module's frozen weights, in the format in which they are kept."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _frozen(module))


def spread(count: int, blocks: int) -> list[int]:
    """Numbers of ``count`` of ``blocks`` blocks, as far apart as they can be."""
    count = min(count, blocks)
    return [(2 * number + 1) * blocks // (2 * count) for number in range(count)]


def blocks_to_swap(
    wanted: int | Literal["auto"], sizes: Sequence[int], others: int, free: int, reserve: int
) -> int:
    """How many blocks to swap: as many as are wanted, or for ``auto`` the fewest that fit.

    Args:
        wanted: From the config.
        sizes: Bytes of each block's frozen weights.
        others: Bytes of the weights outside the blocks.
        free: Bytes that are free on the device before anything of the model is there.
        reserve: Bytes that a step needs beside the weights (see :func:`.memory.recomputed_bytes`).
    """
    if wanted != "auto":
        return min(wanted, len(sizes))
    room = free * _SHARE - reserve - others
    return next((count for count in range(len(sizes)) if resident(sizes, count) <= room), len(sizes))


def resident(sizes: Sequence[int], count: int) -> int:
    """Bytes of the blocks' weights on the device when ``count`` are swapped, the two places included."""
    gone = [sizes[index] for index in spread(count, len(sizes))] if count else []
    return sum(sizes) - sum(gone) + 2 * max(gone, default=0)


def fits(sizes: Sequence[int], count: int, others: int, free: int, reserve: int) -> bool:
    """Whether a step fits with ``count`` blocks swapped; arguments as of :func:`blocks_to_swap`."""
    return resident(sizes, count) <= free * _SHARE - reserve - others


class BlockSwap:
    """Swaps some of a transformer's blocks; once made, the transformer is used as ever.

    Args:
        transformer: Frozen but for its adapter, gradient checkpointing on; what is swapped may be on the
            CPU already.
        count: How many blocks are swapped, spread evenly.
        device: Where it computes.

    Attributes:
        swapped: Numbers of the swapped blocks.
        copies: How many times a block's weights were copied to the device.

    Raises:
        ValueError: Nothing is recomputed, so that all weights would be kept anyway.
    """

    def __init__(self, transformer: FluxTransformer2DModel, count: int, device: torch.device) -> None:
        if not transformer.is_gradient_checkpointing:
            raise ValueError("swapping blocks needs gradient checkpointing")
        blocks = blocks_of(transformer)
        self._device = device
        self.swapped = spread(count, len(blocks)) if count else []
        self._homes = [_Home(blocks[index], device) for index in self.swapped]
        size = max((home.nbytes for home in self._homes), default=0)
        self._places = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2)]
        self._held: list[int | None] = [None, None]  # which swapped block each place holds
        self._ready: list[Any] = [None, None]
        self._stream: Any = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.copies = 0
        for number, index in enumerate(self.swapped):
            blocks[index].register_forward_pre_hook(self._before(number))

    def _before(self, number: int) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            place = self._bring(number, keep=None)
            if self._ready[place] is not None:
                torch.cuda.current_stream(self._device).wait_event(self._ready[place])
            following = self._following(number)
            if following is not None:
                self._bring(following, keep=place)

        return hook

    def _following(self, number: int) -> int | None:
        """Which block is needed after this one; None where it is there already."""
        last = len(self._homes) - 1
        if torch._C._current_graph_task_id() != -1:  # in a backward pass
            return number - 1 if number else None
        if number < last:
            return number + 1
        return None  # the backward pass begins with the two that are there

    def _bring(self, number: int, keep: int | None) -> int:
        """Have a block's weights copied to a place, if they are at none; which place that is."""
        if number in self._held:
            return self._held.index(number)
        place = 0 if keep is None else 1 - keep
        if keep is None and self._held[0] is not None and self._held[1] is None:
            place = 1
        home, target = self._homes[number], self._places[place]
        before = self._held[place]
        if before is not None:
            self._homes[before].leave()
        self._held[place] = number
        if self._stream is None:
            home.copy_to(target)
        else:  # what used the place is in the computing stream's queue by now
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                home.copy_to(target)
            self._ready[place] = self._stream.record_event()
        self.copies += 1
        return place


class _Home:
    """Where a swapped block's weights wait: one buffer in the CPU's memory, pinned for a GPU."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self._tensors = _frozen(block)
        self._spans: list[tuple[int, int]] = []
        at = 0
        for tensor in self._tensors:
            size = tensor.numel() * tensor.element_size()
            self._spans.append((at, at + size))
            at += size + -size % _ALIGN
        self.nbytes = at
        self._bytes = torch.empty(at, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._forms = [(tensor.dtype, tensor.shape) for tensor in self._tensors]
        for tensor, (first, end) in zip(self._tensors, self._spans, strict=True):
            self._bytes[first:end].copy_(tensor.detach().contiguous().view(-1).view(torch.uint8))
        for parameter in block.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(device)
        self.leave()

    def leave(self) -> None:
        """Refer to the weights in the CPU's memory."""
        self._refer_to(self._bytes)

    def copy_to(self, target: torch.Tensor) -> None:
        """Copy the weights to ``target`` and refer to them there."""
        target[: self.nbytes].copy_(self._bytes, non_blocking=True)
        self._refer_to(target)

    def _refer_to(self, buffer: torch.Tensor) -> None:
        for tensor, (first, end), (dtype, shape) in zip(self._tensors, self._spans, self._forms, strict=True):
            tensor.data = buffer[first:end].view(dtype).view(shape)


def _frozen(module: nn.Module) -> list[torch.Tensor]:
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    return [tensor for tensor in (*frozen, *module.buffers()) if tensor.numel() > 0]
