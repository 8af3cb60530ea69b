"""Automagic: a learning rate of its own for every weight, raised and lowered by the signs of its updates.

After ai-toolkit's optimizer of that name (no kept library has it): the update is Adafactor's, the
gradient over the root of its factored second moment (Shazeer & Stern 2018), clipped by its root mean
square. Each element's rate grows by a fixed amount while its updates keep their sign and shrinks by it
when they turn (the idea of Rprop, Riedmiller & Braun 1993), between two bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Automagic(torch.optim.Optimizer):
    """The optimizer.

    Args:
        params: What is trained.
        lr: Rate that every element starts with; a schedule's factor on it scales all rates.
        min_lr: Lowest rate.
        max_lr: Highest rate.
        lr_bump: What a step adds to a rate, or takes from it.
        beta2: Decay of the second moment.
        eps: Added to squared gradients.
        clip_threshold: Largest root mean square of a parameter's update before rates.
        weight_decay: Decoupled weight decay, times the element's rate.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-6,
        min_lr: float = 1e-7,
        max_lr: float = 1e-3,
        lr_bump: float = 1e-6,
        beta2: float = 0.999,
        eps: float = 1e-30,
        clip_threshold: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        if not 0 < min_lr <= max_lr:
            raise ValueError(f"min_lr {min_lr:g} and max_lr {max_lr:g} are no range")
        if not 0 <= beta2 < 1:
            raise ValueError(f"beta2 {beta2:g} is outside 0 to 1")
        super().__init__(
            params,
            {
                "lr": lr,
                "initial_lr": lr,
                "min_lr": min_lr,
                "max_lr": max_lr,
                "lr_bump": lr_bump,
                "beta2": beta2,
                "eps": eps,
                "clip_threshold": clip_threshold,
                "weight_decay": weight_decay,
            },
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            factor = group["lr"] / group["initial_lr"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.float(), group, factor)

    def _update(
        self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any], factor: float
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["rates"] = torch.full_like(gradient, group["initial_lr"])
            state["rates"].clamp_(group["min_lr"], group["max_lr"])
            state["positive"] = torch.zeros_like(gradient, dtype=torch.bool)
            state["begun"] = False
        update = gradient * self._inverse_root(state, gradient.square() + group["eps"], group["beta2"])
        rms = update.square().mean().sqrt()
        update /= (rms / group["clip_threshold"]).clamp(min=1.0)
        positive = update > 0
        rates = state["rates"]
        if state["begun"]:
            same = positive == state["positive"]
            rates += torch.where(same, group["lr_bump"], -group["lr_bump"])
            rates.clamp_(group["min_lr"], group["max_lr"])
        state["positive"], state["begun"] = positive, True
        if group["weight_decay"]:
            parameter.mul_(1.0 - factor * group["weight_decay"] * rates)
        parameter.sub_(factor * rates * update)

    @staticmethod
    def _inverse_root(state: dict[str, Any], squares: torch.Tensor, beta2: float) -> torch.Tensor:
        """1 / sqrt of the second moment, kept as row and column means for matrices."""
        if squares.dim() < 2:
            moment: torch.Tensor = state.setdefault("moment", squares.clone())
            moment.lerp_(squares, 1.0 - beta2)
            return moment.rsqrt()
        rows: torch.Tensor = state.setdefault("rows", squares.mean(dim=-1))
        columns: torch.Tensor = state.setdefault("columns", squares.mean(dim=-2))
        rows.lerp_(squares.mean(dim=-1), 1.0 - beta2)
        columns.lerp_(squares.mean(dim=-2), 1.0 - beta2)
        row_factor = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt().unsqueeze(-1)
        return row_factor * columns.rsqrt().unsqueeze(-2)
