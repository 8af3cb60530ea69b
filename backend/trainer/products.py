"""Products of a frozen weight and of a LoRA beside it, written into one result where it lies.

A compiler that adds one product to another copies the first before the second kernel adds to it: of FLUX.1's
step at 1024 pixels that was 5 % (seen on an H100). These operators hand the kernels the result itself. They
are worth their dispatch on a GPU only; elsewhere the plain expression is returned, for the compiler to fuse.
"""

from __future__ import annotations

from typing import Any

import torch

IN_PLACE_ON = {"cuda"}
"""Types of devices whose products go through the operators."""


def at_strength(ranks: torch.Tensor, strength: torch.Tensor | None) -> torch.Tensor:
    """An adapter's rank-r activations at its strength; at 1, which is what trains, there is nothing to do."""
    return ranks if strength is None else ranks * strength


def product_plus(
    x: torch.Tensor,
    right: torch.Tensor,
    bias: torch.Tensor | None,
    ranks: torch.Tensor,
    up: torch.Tensor,
) -> torch.Tensor:
    """``x right + bias + ranks up``: ``[n, k]`` by ``[k, m]``, and ``[n, r]`` by ``[r, m]``."""
    if x.device.type in IN_PLACE_ON:
        result: torch.Tensor = torch.ops.fluxlora.product_plus(x, right, bias, ranks, up)
        return result
    return (x @ right if bias is None else torch.addmm(bias, x, right)) + ranks @ up


def scaled_product_plus(
    codes: torch.Tensor,
    weight: torch.Tensor,
    own: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    ranks: torch.Tensor,
    up: torch.Tensor,
) -> torch.Tensor:
    """``codes weight^T`` times the scales of rows and outputs, ``+ bias + ranks up``; codes are float8.

    Only on devices that have such products.
    """
    result: torch.Tensor = torch.ops.fluxlora.scaled_product_plus(codes, weight, own, scale, bias, ranks, up)
    return result


def input_gradient(
    grad: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, strength: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of a product's input and of its rank-r activations, where the weight holds B as well.

    Args:
        grad: Of the output, ``[n, out]``.
        weight: ``[out, in + ranks]``.
        a: ``[ranks, in]``.
        strength: Of the adapter, a number; None for 1.

    Returns:
        ``[n, in]``, on a GPU a part of something wider, and ``[n, ranks]``.
    """
    if grad.device.type in IN_PLACE_ON:
        dx, dranks = torch.ops.fluxlora.input_gradient(grad, weight, a, strength)
        return dx, dranks
    both, width = grad @ weight, a.shape[1]
    dranks = at_strength(both[:, width:], strength)
    return both[:, :width] + dranks @ a, dranks


@torch.library.custom_op("fluxlora::product_plus", mutates_args=())
def _product_plus(
    x: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None, ranks: torch.Tensor, up: torch.Tensor
) -> torch.Tensor:
    result = x @ right if bias is None else torch.addmm(bias, x, right)
    return result.addmm_(ranks, up)


@_product_plus.register_fake
def _(x: Any, right: Any, bias: Any, ranks: Any, up: Any) -> Any:
    return x.new_empty((x.shape[0], right.shape[1]))


@torch.library.custom_op("fluxlora::scaled_product_plus", mutates_args=())
def _scaled_product_plus(
    codes: torch.Tensor,
    weight: torch.Tensor,
    own: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    ranks: torch.Tensor,
    up: torch.Tensor,
) -> torch.Tensor:
    result = torch._scaled_mm(
        codes, weight.t(), scale_a=own, scale_b=scale, bias=bias, out_dtype=ranks.dtype, use_fast_accum=True
    )
    return result.addmm_(ranks, up)


@_scaled_product_plus.register_fake
def _(codes: Any, weight: Any, own: Any, scale: Any, bias: Any, ranks: Any, up: Any) -> Any:
    return ranks.new_empty((codes.shape[0], weight.shape[0]))


@torch.library.custom_op("fluxlora::input_gradient", mutates_args=())
def _input_gradient(
    grad: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, strength: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    both, width = grad @ weight, a.shape[1]
    dranks = at_strength(both[:, width:], strength).contiguous()
    return both[:, :width].addmm_(dranks, a), dranks


@_input_gradient.register_fake
def _(grad: Any, weight: Any, a: Any, strength: Any) -> Any:
    rows, width = grad.shape[0], a.shape[1]
    dx = grad.new_empty_strided((rows, width), (weight.shape[1], 1))
    return dx, grad.new_empty((rows, a.shape[0]))
