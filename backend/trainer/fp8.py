"""Linear layers computed in float8: on Hopper, Ada and Blackwell twice the rate of bfloat16's products.

Weights and activations are scaled by row to float8_e4m3fn's range (Micikevicius et al. 2022,
arXiv:2209.05433): a frozen weight once, for the forward product by its rows and, as a transposed copy, for
the input's gradient by its columns; activations and gradients at each product. The LoRA stays in bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from backend.trainer.fast_blocks import Product, Rows, b_gradient
from backend.trainer.products import at_strength, scaled_product_plus

FORMAT = torch.float8_e4m3fn
_LARGEST = 448.0  # of float8_e4m3fn
_SMALLEST = 1e-12
_EMULATED = {"cpu", "mps"}


def scaled(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``x`` ``[n, k]`` by row in float8, and what each row must be multiplied by, float32 ``[n, 1]``."""
    largest = x.abs().amax(dim=1, keepdim=True).float().clamp(min=_SMALLEST)
    scale = largest / _LARGEST
    return (x.float() / scale).clamp(-_LARGEST, _LARGEST).to(FORMAT).contiguous(), scale


@torch.no_grad()
def quantised(product: Product) -> Product:
    """A fused layer in float8, for both directions."""
    codes, scale = scaled(product.weight)
    back, scale_back = scaled(product.weight.t().contiguous())
    return product._replace(
        weight=codes,
        scale=scale.t().contiguous(),
        transposed=back,
        scale_transposed=scale_back.t().contiguous(),
    )


def can_compute(device: torch.device) -> bool:
    """Whether a device has float8 products with scales by row."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def product_fp8(
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None = None,
    ranks: torch.Tensor | None = None,
    up: torch.Tensor | None = None,
) -> torch.Tensor:
    """``x W^T + bias + ranks up`` like ``x``: ``[n, k]`` by a float8 ``[m, k]`` with scales ``[1, m]``.

    Without such products on the device, the rounding is the same and the arithmetic float32's.
    """
    codes, own = scaled(x)
    if x.device.type in _EMULATED:
        result = ((codes.float() @ weight.float().t()) * own * scale).to(x.dtype)
        result = result if bias is None else result + bias
        return result if ranks is None or up is None else result + ranks @ up
    if ranks is not None and up is not None:
        return scaled_product_plus(codes, weight, own, scale, bias, ranks, up)
    return torch._scaled_mm(
        codes, weight.t(), scale_a=own, scale_b=scale, bias=bias, out_dtype=x.dtype, use_fast_accum=True
    )


class _Linear(torch.autograd.Function):
    """The float8 product beside a LoRA in the model's own format."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        transposed: torch.Tensor,
        scale_transposed: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        diagonal: torch.Tensor,
        strength: torch.Tensor | None,
        rows: Rows,
    ) -> torch.Tensor:
        ranks = at_strength(x @ a.t(), strength)
        ctx.save_for_backward(x, ranks, transposed, scale_transposed, a, diagonal, strength)
        ctx.rows, ctx.rank = rows, b.shape[1]
        return product_fp8(x, weight, scale, bias, ranks, diagonal.t())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (grad,) = gradients
        x, ranks, transposed, scale_transposed, a, diagonal, strength = ctx.saved_tensors
        dranks = at_strength(grad @ diagonal, strength)
        dx = product_fp8(grad, transposed, scale_transposed, None, dranks, a)
        da = dranks.t() @ x
        db = b_gradient(grad, ranks, ctx.rank, ctx.rows)
        return dx, None, None, None, None, None, da, db, None, None, None


class _Frozen(torch.autograd.Function):
    """The float8 product of a layer without a LoRA."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        transposed: torch.Tensor,
        scale_transposed: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.save_for_backward(transposed, scale_transposed)
        return product_fp8(x, weight, scale, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return product_fp8(gradients[0], *ctx.saved_tensors), None, None, None, None, None


def linear_fp8(x: torch.Tensor, layer: Product, rows: Rows, strength: torch.Tensor | None) -> torch.Tensor:
    """The fused layer on ``x`` ``[n, in]``, its adapter at ``strength``: ``[n, out]``."""
    weights = layer.weight, layer.scale, layer.transposed, layer.scale_transposed, layer.bias
    if layer.a is None or layer.b is None:
        return _Frozen.apply(x, *weights)  # type: ignore[no-untyped-call,no-any-return]
    return _Linear.apply(  # type: ignore[no-untyped-call,no-any-return]
        x, *weights, layer.a, layer.b, layer.diagonal, strength, rows
    )


def best_compute(device: torch.device, tokens: int = 2816, width: int = 3072) -> tuple[str, str]:
    """Whether ``bf16`` or ``fp8`` products are faster on this very card, with scaling counted in.

    Measured on a single block's layer of FLUX.1 in both directions.

    Returns:
        The faster, and what was measured as a sentence (empty where there is no choice).
    """
    if not can_compute(device):
        return "bf16", ""
    x = torch.randn(tokens, width, device=device).bfloat16()
    weight = torch.randn(7 * width, width, device=device).bfloat16() * 0.02
    product = quantised(Product(weight))
    if product.scale is None or product.transposed is None or product.scale_transposed is None:
        raise ValueError("the layer was not quantised")
    forward, back = (product.weight, product.scale), (product.transposed, product.scale_transposed)
    compiled = torch.compile(product_fp8)

    def in_fp8() -> None:
        compiled(compiled(x, *forward), *back)

    def in_bf16() -> None:
        (x @ weight.t()) @ weight

    try:
        fp8, bf16 = _seconds(in_fp8), _seconds(in_bf16)
    except Exception as error:  # kernels and compilers fail in many ways; then there is one format less
        return "bf16", f"float8 products do not run here: {str(error).splitlines()[0]}"
    chosen = "fp8" if fp8 < 0.8 * bf16 else "bf16"
    return chosen, (
        f"a layer forward and backward takes {fp8 * 1e3:.2f} ms in float8, {bf16 * 1e3:.2f} ms in bfloat16: "
        f"{chosen} is used"
    )


def _seconds(work: Callable[[], None], repeats: int = 10) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats
