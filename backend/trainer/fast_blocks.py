"""FLUX's blocks as functions of tensors: what is compiled and trained where speed counts.

They compute what diffusers' ``FluxTransformerBlock`` and ``FluxSingleTransformerBlock`` compute (Black Forest
Labs' architecture), with three differences in how: layers that read the same input are one product (q, k and
v; in single blocks the MLP's first layer too); a LoRA rides along in the inner dimension of its layer's
product instead of in passes over the output; and text and picture stay one sequence through the single
blocks. A compiled function of plain tensors has few guards to check and one graph serves all blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, rms_norm, silu

from backend.trainer.products import at_strength, input_gradient, product_plus

EPS = 1e-6  # of all norms in FLUX's blocks

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Product(NamedTuple):
    """The tensors of one fused linear layer; what is absent is None.

    Attributes:
        weight: ``[out, in + ranks]``: the frozen weights, then the B matrices as a block diagonal; without
            a LoRA, and in float8, ``[out, in]``.
        bias: ``[out]``.
        a: A matrices below one another, ``[ranks, in]``.
        b: B matrices below one another, ``[rows with an adapter, rank]``.
        scale: float32 ``[1, out]``: of the rows of a float8 weight.
        transposed: The weight once more for the backward pass, ``[in, out]`` in float8.
        scale_transposed: float32 ``[1, in]``.
        diagonal: The B matrices as a block diagonal ``[out, ranks]`` where the weight does not hold them.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    a: torch.Tensor | None = None
    b: torch.Tensor | None = None
    scale: torch.Tensor | None = None
    transposed: torch.Tensor | None = None
    scale_transposed: torch.Tensor | None = None
    diagonal: torch.Tensor | None = None


Rows = tuple[tuple[int, int], ...]  # of the outputs that have an adapter: first and end, one pair a layer


class _WithLora(torch.autograd.Function):
    """``x W^T + bias + s (x A^T) B^T`` as one product of ``[x | s x A^T]`` with ``[W | B]``.

    The gradient of the input comes out of one product as well, together with what A's and B's need.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        strength: torch.Tensor | None,
        rows: Rows,
        needs_dx: bool,
    ) -> torch.Tensor:
        ranks = at_strength(x @ a.t(), strength)
        wide = torch.cat((x, ranks), dim=-1)
        result = wide @ weight.t() if bias is None else torch.addmm(bias, wide, weight.t())
        ctx.save_for_backward(wide, weight, a, b, strength)
        ctx.rows, ctx.needs_dx = rows, needs_dx
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (grad,) = gradients
        wide, weight, a, b, strength = ctx.saved_tensors
        width, rank = a.shape[1], b.shape[1]
        x, ranks = wide[:, :width], wide[:, width:]
        dx = None
        if ctx.needs_dx:
            dx, dranks = input_gradient(grad, weight, a, strength)
        else:
            dranks = at_strength(rank_gradient(grad, b, ctx.rows), strength)
        da = dranks.t() @ x
        db = b_gradient(grad, ranks, rank, ctx.rows)
        return dx, None, None, da, db, None, None, None


class _BesideLora(torch.autograd.Function):
    """``x W^T + bias + s (x A^T) B^T`` with the LoRA as products of their own.

    For layers with fewer outputs than inputs: adding to the output costs less there than copying the input
    to have the rank-r activations beside it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        diagonal: torch.Tensor,
        strength: torch.Tensor | None,
        rows: Rows,
        needs_dx: bool,
    ) -> torch.Tensor:
        ranks = at_strength(x @ a.t(), strength)
        ctx.save_for_backward(x, ranks, weight, a, diagonal, strength)
        ctx.rows, ctx.rank, ctx.needs_dx = rows, b.shape[1], needs_dx
        return product_plus(x, weight.t(), bias, ranks, diagonal.t())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (grad,) = gradients
        x, ranks, weight, a, diagonal, strength = ctx.saved_tensors
        dranks = at_strength(grad @ diagonal, strength)
        dx = product_plus(grad, weight, None, dranks, a) if ctx.needs_dx else None
        da = dranks.t() @ x
        db = b_gradient(grad, ranks, ctx.rank, ctx.rows)
        return dx, None, None, da, db, None, None, None, None


def rank_gradient(grad: torch.Tensor, b: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Gradient of the rank-r activations ``[n, ranks]`` from the output's ``[n, out]``."""
    parts, at = [], 0
    for first, end in rows:
        parts.append(grad[:, first:end] @ b[at : at + end - first])
        at += end - first
    return torch.cat(parts, dim=1)


def b_gradient(grad: torch.Tensor, ranks: torch.Tensor, rank: int, rows: Rows) -> torch.Tensor:
    """Gradient of the B matrices, from the output's and the (scaled) rank-r activations."""
    whole = grad.t() @ ranks  # all pairs of outputs and ranks; the blocks on the diagonal are wanted
    blocks = [whole[first:end, i * rank : (i + 1) * rank] for i, (first, end) in enumerate(rows)]
    return torch.cat(blocks, dim=0)


def linear(
    x: torch.Tensor, layer: Product, rows: Rows, strength: torch.Tensor | None, needs_dx: bool = True
) -> torch.Tensor:
    """The fused layer on ``x`` ``[..., in]``, with its adapter at ``strength``: ``[..., out]``."""
    flat = x.reshape(-1, x.shape[-1])
    if layer.scale is not None:
        from backend.trainer.fp8 import linear_fp8

        result: torch.Tensor = linear_fp8(flat, layer, rows, strength)
    elif layer.a is None or layer.b is None:
        result = nn.functional.linear(flat, layer.weight, layer.bias)
    elif layer.diagonal is not None:
        result = _BesideLora.apply(  # type: ignore[no-untyped-call]
            flat, layer.weight, layer.bias, layer.a, layer.b, layer.diagonal, strength, rows, needs_dx
        )
    else:
        result = _WithLora.apply(  # type: ignore[no-untyped-call]
            flat, layer.weight, layer.bias, layer.a, layer.b, strength, rows, needs_dx
        )
    return result.view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Shape:
    """What is fixed about a block: how many heads, how it attends, which outputs have adapters.

    Attributes:
        heads: Attention heads.
        attention: Attends; ``[b, heads, tokens, width]`` each.
        rows: By the name of a product, its outputs with adapters.
        temb_learns: Whether the conditioning depends on what is trained: only then it needs a gradient.
    """

    heads: int
    attention: Attention
    rows: tuple[tuple[str, Rows], ...]
    temb_learns: bool = False

    def of(self, name: str) -> Rows:
        """The rows of a product."""
        return dict(self.rows)[name]


class Double(NamedTuple):
    """The tensors of a double block."""

    norm1: Product
    norm1_context: Product
    qkv: Product
    qkv_context: Product
    out: Product
    out_context: Product
    up: Product
    down: Product
    up_context: Product
    down_context: Product
    norm_q: torch.Tensor
    norm_k: torch.Tensor
    norm_added_q: torch.Tensor
    norm_added_k: torch.Tensor


class Single(NamedTuple):
    """The tensors of a single block."""

    norm: Product
    qkv_mlp: Product
    out: Product
    norm_q: torch.Tensor
    norm_k: torch.Tensor


def double_block(
    shape: Shape,
    layers: Double,
    x: torch.Tensor,
    context: torch.Tensor,
    temb: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    strength: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Picture tokens ``[b, n, width]`` and text tokens ``[b, m, width]``, each after the block."""

    def apply(name: str, value: torch.Tensor, needs_dx: bool = True) -> torch.Tensor:
        return linear(value, getattr(layers, name), shape.of(name), strength, needs_dx)

    signal = silu(temb)
    mod = apply("norm1", signal, shape.temb_learns).unsqueeze(1).chunk(6, dim=-1)
    mod_c = apply("norm1_context", signal, shape.temb_learns).unsqueeze(1).chunk(6, dim=-1)
    q, k, v = _heads(apply("qkv", _modulated(x, mod[0], mod[1])), shape.heads)
    qc, kc, vc = _heads(apply("qkv_context", _modulated(context, mod_c[0], mod_c[1])), shape.heads)
    q, k = _normed(q, layers.norm_q), _normed(k, layers.norm_k)
    qc, kc = _normed(qc, layers.norm_added_q), _normed(kc, layers.norm_added_k)
    attended = _attend(shape, torch.cat((qc, q), 1), torch.cat((kc, k), 1), torch.cat((vc, v), 1), cos, sin)
    text = context.shape[1]
    x = x + mod[2] * apply("out", attended[:, text:])
    context = context + mod_c[2] * apply("out_context", attended[:, :text])
    x = x + mod[5] * apply("down", gelu(apply("up", _modulated(x, mod[3], mod[4])), approximate="tanh"))
    up_c = apply("up_context", _modulated(context, mod_c[3], mod_c[4]))
    context = context + mod_c[5] * apply("down_context", gelu(up_c, approximate="tanh"))
    return x, context


def single_block(
    shape: Shape,
    layers: Single,
    x: torch.Tensor,
    temb: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    strength: torch.Tensor | None,
) -> torch.Tensor:
    """Text and picture tokens ``[b, m + n, width]`` after the block."""
    width = x.shape[-1]
    norm = linear(silu(temb), layers.norm, shape.of("norm"), strength, shape.temb_learns)
    shift, scale, gate = norm.unsqueeze(1).chunk(3, dim=-1)
    wide = linear(_modulated(x, shift, scale), layers.qkv_mlp, shape.of("qkv_mlp"), strength)
    q, k, v = _heads(wide[..., : 3 * width], shape.heads)
    q, k = _normed(q, layers.norm_q), _normed(k, layers.norm_k)
    attended = _attend(shape, q, k, v, cos, sin)
    inner = torch.cat((attended, gelu(wide[..., 3 * width :], approximate="tanh")), dim=-1)
    return x + gate * linear(inner, layers.out, shape.of("out"), strength)


def _modulated(x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return layer_norm(x, (x.shape[-1],), eps=EPS) * (1 + scale) + shift


def _heads(qkv: torch.Tensor, heads: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, v = qkv.view(*qkv.shape[:-1], 3, heads, -1).unbind(2)
    return q, k, v


def _normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return rms_norm(x, (x.shape[-1],), weight, EPS)


def _attend(
    shape: Shape, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    q, k, v = (value.transpose(1, 2) for value in (_turned(q, cos, sin), _turned(k, cos, sin), v))
    return shape.attention(q, k, v).transpose(1, 2).flatten(2)


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al. 2021) of neighbouring pairs: ``x`` is ``[b, n, heads, width]``."""
    cos, sin = cos[None, :, None], sin[None, :, None]
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    turned = torch.stack((-imaginary, real), dim=-1).flatten(-2)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)
