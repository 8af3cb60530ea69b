"""Keeping frozen weights in a smaller format: float8, int8 or nf4, weights only.

A quantised layer stores its weight small and spreads it out again for each matrix product, in the
forward and in the backward pass; what is computed is what the number format of the activations gives.
The formats, by weight ``w`` of a row or block with largest magnitude ``m``:

* float8: ``w / s`` rounded to e4m3 (largest value 448), one power of two ``s >= m / 448`` a row, so
  that spreading out is exact in bfloat16.
* int8: ``w / s`` rounded to -127..127, ``s = m / 127`` a row.
* nf4: the nearest of 16 quantiles of the normal distribution times ``m``, in blocks of 64
  (QLoRA, https://arxiv.org/abs/2305.14314, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Literal, cast

import torch
from torch import nn

QType = Literal["float8", "int8", "nf4"]

BLOCK = 64  # weights that share a scale in nf4
_FLOAT8 = torch.float8_e4m3fn
_FLOAT8_MAX = 448.0
# QLoRA, appendix E.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def quantise(weight: torch.Tensor, qtype: QType) -> tuple[torch.Tensor, torch.Tensor]:
    """The stored form of a weight ``[out, in]``.

    Returns:
        The codes, uint8: ``[out, in]``, for nf4 ``[ceil(out * in / 64) * 32]`` with two codes a byte
        (the first in the low half). The scales, float32: ``[out, 1]``, for nf4 ``[blocks, 1]``.
    """
    values = weight.detach().float()
    if qtype == "nf4":
        return _quantise_nf4(values)
    largest = values.abs().amax(dim=1, keepdim=True)
    if qtype == "float8":
        scales = torch.exp2(torch.ceil(torch.log2(_positive(largest / _FLOAT8_MAX))))
        return (values / scales).to(_FLOAT8).view(torch.uint8), scales
    scales = _positive(largest / 127.0)
    return (values / scales).round().clamp(-127, 127).to(torch.int8).view(torch.uint8), scales


def _quantise_nf4(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    flat = values.reshape(-1)
    flat = nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    scales = _positive(flat.abs().amax(dim=1, keepdim=True))
    levels = torch.tensor(NF4, device=values.device)
    codes = torch.bucketize(flat / scales, (levels[1:] + levels[:-1]) / 2).to(torch.uint8).reshape(-1)
    return codes[0::2] | (codes[1::2] << 4), scales


def _positive(scales: torch.Tensor) -> torch.Tensor:
    return scales.clamp_min(torch.finfo(torch.float32).tiny)


def dequantise(
    codes: torch.Tensor, scales: torch.Tensor, qtype: QType, shape: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """The weight ``shape`` that :func:`quantise` stored, in ``dtype``."""
    if qtype == "float8":
        return codes.view(_FLOAT8).to(dtype).mul_(scales.to(dtype))
    if qtype == "int8":
        return (codes.view(torch.int8) * scales).to(dtype)
    values = _pairs(dtype, codes.device).index_select(0, codes.int()).view(-1, BLOCK).mul_(scales.to(dtype))
    return values.view(-1)[: shape[0] * shape[1]].view(shape)


@lru_cache(maxsize=8)
def _pairs(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The two levels that each byte stands for, ``[256, 2]``; making it anew would wait for the GPU."""
    with torch.inference_mode(False):
        levels = torch.tensor(NF4, dtype=dtype, device=device)
        byte = torch.arange(256, device=device)
        return torch.stack((levels[byte & 15], levels[byte >> 4]), dim=1)


class _LinearOfCodes(torch.autograd.Function):
    """``x @ W.T + b`` that keeps only the codes of W for the backward pass, not W."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        codes: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        qtype: QType,
        shape: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.qtype, ctx.shape = qtype, shape
        return nn.functional.linear(x, dequantise(codes, scales, qtype, shape, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        codes, scales = ctx.saved_tensors
        weight = dequantise(codes, scales, ctx.qtype, ctx.shape, gradient.dtype)
        return gradient @ weight, None, None, None, None, None


class QuantisedLinear(nn.Linear):
    """A frozen linear layer whose weight is stored small.

    Args:
        linear: The layer it replaces, on any device.
        qtype: The format.
    """

    codes: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: nn.Linear, qtype: QType) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make the weight that is not wanted
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.qtype: QType = qtype
        self.dtype = linear.weight.dtype
        codes, scales = quantise(linear.weight, qtype)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The weight ``[out, in]`` spread out: computed at each access."""
        return dequantise(
            self.codes, self.scales, self.qtype, (self.out_features, self.in_features), self.dtype
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """``input`` ``[..., in]`` to ``[..., out]``, in the number format of ``input``."""
        shape = (self.out_features, self.in_features)
        args = (input, self.codes, self.scales, self.bias, self.qtype, shape)
        return cast(torch.Tensor, _LinearOfCodes.apply(*args))  # type: ignore[no-untyped-call]


def is_block_layer(name: str) -> bool:
    """Whether a layer lies in one of the blocks: those hold 99 % of a FLUX transformer's weights.

    What lies around them (embedders, output) is small and feels rounding most.
    """
    return "transformer_blocks." in name


def matches(name: str, include: Iterable[str], exclude: Iterable[str]) -> bool:
    """Whether patterns with ``*`` choose a layer; without ``include``, those in the blocks are chosen."""
    include = list(include)
    chosen = any(fnmatchcase(name, pattern) for pattern in include) if include else is_block_layer(name)
    return chosen and not any(fnmatchcase(name, pattern) for pattern in exclude)


def quantise_model(
    model: nn.Module,
    qtype: QType,
    chosen: Callable[[str], bool],
    device: torch.device,
    *,
    on_cpu: bool = False,
) -> int:
    """Replace chosen linear layers by quantised ones, one by one, and move all of the model to ``device``.

    At no time is more than one layer of the unquantised model on the device.

    Args:
        model: Frozen; usually on the CPU.
        qtype: The format.
        chosen: Tells by its name whether a layer is quantised.
        device: Where the model goes.
        on_cpu: Compute the codes on the CPU instead of on the device: slower, no extra memory there.

    Returns:
        How many layers were replaced.
    """
    count = 0
    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and chosen(f"{path}.{name}" if path else name):
                layer = child.cpu() if on_cpu else child.to(device)
                setattr(parent, name, QuantisedLinear(layer, qtype).to(device))
                count += 1
    model.to(device)
    return count
