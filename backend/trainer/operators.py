"""What the attention operators that come with their gradient have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def keep_all(ctx: Any, inputs: Any, output: Any) -> None:
    """Keep an operator's inputs and outputs for its gradient."""
    ctx.save_for_backward(*inputs, *output)


def gradients_like(grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> Any:
    """Empty gradients of what attends, for a compiler that only wants their shapes."""
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
