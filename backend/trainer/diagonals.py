"""B matrices of fused layers as block diagonals, all in one buffer that two kernels bring up to date."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


class Diagonals:
    """Copies of B matrices, each a strip of rows in the block diagonal of its product.

    A copy of its own for each strip takes a kernel each, 8 microseconds on an H100 whatever its size.

    Args:
        compute: What the adapter computes with, one buffer ``[n]`` that the B matrices are views of.
        rank: Of the B matrices.
        diagonals: ``[out, ranks]`` each, zeros; they become views of one buffer.
        strips: Of each diagonal, its first output, its first column, and the B matrix that belongs there.
    """

    def __init__(
        self,
        compute: torch.Tensor,
        rank: int,
        diagonals: Sequence[torch.Tensor],
        strips: Sequence[Sequence[tuple[int, int, torch.Tensor]]],
    ) -> None:
        self._compute = compute
        sources = [source for some in strips for *_, source in some]
        offsets = [source.storage_offset() - compute.storage_offset() for source in sources]
        self._unit = unit = math.gcd(rank, *offsets, compute.numel())  # elements that are moved together
        total = sum(diagonal.numel() for diagonal in diagonals)
        self._buffer = torch.zeros(total, dtype=compute.dtype, device=compute.device)
        taken, put = [], []
        at = 0
        units = rank // unit
        within = torch.arange(units)
        for diagonal, some in zip(diagonals, strips, strict=True):
            across = diagonal.shape[1]
            for first, column, source in some:
                begin = (source.storage_offset() - compute.storage_offset()) // unit
                taken.append(begin + torch.arange(source.numel() // unit))
                rows = torch.arange(first, first + source.shape[0])
                put.append(((at + rows * across + column)[:, None] // unit + within).flatten())
            diagonal.data = self._buffer[at : at + diagonal.numel()].view(diagonal.shape)
            at += diagonal.numel()
        self._from = torch.cat(taken).to(compute.device)
        self._to = torch.cat(put).to(compute.device)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the B matrices as they are now."""
        values = self._compute.view(-1, self._unit).index_select(0, self._from)
        self._buffer.view(-1, self._unit).index_copy_(0, self._to, values)
