"""Attention kernels for the fast blocks; which of them is used is measured, see :mod:`.attention_trials`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from backend.trainer.fast_blocks import Attention
from backend.trainer.flash3 import flash_3
from backend.trainer.operators import gradients_like, keep_all


def cudnn(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention by cuDNN on ``[b, heads, tokens, width]``, only ever given contiguous tensors.

    With FLUX's transposed layouts its gradients were seen to be wrong (see ``prepare_device``).
    """
    # Made contiguous out here, where a compiler lets the kernels before write them so, and kept so.
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    result: torch.Tensor = torch.ops.fluxlora.cudnn_attention(q, k, v)[0]
    return result


@torch.library.custom_op("fluxlora::cudnn_attention", mutates_args=())
def _cudnn_forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    # A custom operator, so that a compiler can choose no other layout than these; no copies if they have it.
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out, lse, _, _, _, _, seed, offset, _ = torch.ops.aten._scaled_dot_product_cudnn_attention(
        q, k, v, None, True, 0.0, False, False
    )
    return out.contiguous(), lse.contiguous(), _number(seed, q), _number(offset, q)


def _number(value: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """The state of a dropout that is not used; an operator may return neither nothing nor its inputs."""
    return torch.zeros((), device=like.device, dtype=torch.int64) if value is None else value.clone()


@_cudnn_forward.register_fake
def _(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    lse = q.new_empty((*q.shape[:-1], 1), dtype=torch.float32)
    seed = q.new_empty((), dtype=torch.int64)
    return q.new_empty(q.shape), lse, seed, q.new_empty((), dtype=torch.int64)


@torch.library.custom_op("fluxlora::cudnn_attention_backward", mutates_args=())
def _cudnn_backward(
    grad: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    seed: torch.Tensor,
    offset: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, v, grad = q.contiguous(), k.contiguous(), v.contiguous(), grad.contiguous()
    dq, dk, dv = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
        grad, q, k, v, out, lse, seed, offset, None, None, None, q.shape[2], k.shape[2], 0.0, False
    )
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


_cudnn_backward.register_fake(gradients_like)


def _gradient(ctx: Any, grad: torch.Tensor, *unused: Any) -> Any:
    return torch.ops.fluxlora.cudnn_attention_backward(grad, *ctx.saved_tensors)


_cudnn_forward.register_autograd(_gradient, setup_context=keep_all)


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """FlashAttention-2 as torch brings it (Dao 2023)."""
    result: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return result


def efficient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Memory-efficient attention as torch brings it (Rabe and Staats 2021)."""
    result: torch.Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]
    return result


def math(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention as plain products, which keep the whole matrix."""
    result: torch.Tensor = torch.ops.aten._scaled_dot_product_attention_math(q, k, v)[0]
    return result


def native(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Whichever kernel torch chooses."""
    return scaled_dot_product_attention(q, k, v)


KERNELS: dict[str, Attention] = {
    "flash_3": flash_3,
    "cudnn": cudnn,
    "flash": flash,
    "efficient": efficient,
    "native": native,
    "math": math,
}
"""All that there are, by name; any may lack on a machine."""


def kernel_name(wanted: str) -> str | None:
    """The name in :data:`KERNELS` that a config or a user means, as diffusers spells it or as we do.

    ``auto`` stays; None if it is no kernel's.
    """
    name = wanted.strip().lower().lstrip("_").removeprefix("native_").removesuffix("_hub")
    return name if name in KERNELS or name == "auto" else None
