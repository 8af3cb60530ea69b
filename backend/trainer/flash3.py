"""FlashAttention-3 (Shah et al. 2024), where its package ``flash_attn_interface`` is installed.

Its functions are wrapped as operators of our own, so that every version of it can be compiled with and
recorded; their parameters differ between versions and are filled in by name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch

from backend.trainer.operators import gradients_like, keep_all

PACKAGE = "flash_attn_interface"


def flash_3(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention on ``[b, heads, tokens, width]`` in bfloat16 or float16.

    Raises:
        ImportError: The package is not there.
    """
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    result: torch.Tensor = torch.ops.fluxlora.flash_3(q, k, v)[0].transpose(1, 2)
    return result


@functools.cache
def _interface() -> Any:
    import importlib

    try:
        return importlib.import_module(PACKAGE)
    except ImportError as error:
        raise ImportError(f"its package {PACKAGE} is not installed") from error


# Operators take [b, tokens, heads, width], as the package does.


@torch.library.custom_op("fluxlora::flash_3", mutates_args=())
def _forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    call = _interface()._flash_attn_forward
    out, lse, *_ = _call(call, (q, k, v), softmax_scale=q.shape[-1] ** -0.5, causal=False)
    return out.contiguous(), lse.contiguous()


@_forward.register_fake
def _(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    count, tokens, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((count, heads, tokens), dtype=torch.float32)


@torch.library.custom_op("fluxlora::flash_3_backward", mutates_args=())
def _backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad, q, k, v = grad.contiguous(), q.contiguous(), k.contiguous(), v.contiguous()
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    _call(
        _interface()._flash_attn_backward,
        (grad, q, k, v, out, lse),
        dq=dq,
        dk=dk,
        dv=dv,
        softmax_scale=q.shape[-1] ** -0.5,
        causal=False,
        is_causal=False,
    )
    return dq, dk, dv


_backward.register_fake(gradients_like)


def _gradient(ctx: Any, grad: torch.Tensor, *unused: Any) -> Any:
    return torch.ops.fluxlora.flash_3_backward(grad, *ctx.saved_tensors)


_forward.register_autograd(_gradient, setup_context=keep_all)


def _call(function: Callable[..., Any], tensors: tuple[torch.Tensor, ...], **named: Any) -> Any:
    """Call it with ``tensors`` first, those of ``named`` that it knows, and None for all else it requires."""
    plain = getattr(function, "_init_fn", function)  # of an operator, what it was made of
    parameters = list(inspect.signature(plain).parameters.values())[len(tensors) :]
    known = {one.name: named[one.name] for one in parameters if one.name in named}
    required = {one.name: None for one in parameters if one.default is one.empty and one.name not in known}
    return function(*tensors, **known, **required)
