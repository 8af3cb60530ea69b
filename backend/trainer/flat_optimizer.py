"""AdamW over all of an adapter's weights as one tensor."""

from __future__ import annotations

from typing import Any

import torch

from backend.trainer.lora import Lora

_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class FlatAdamW(torch.optim.AdamW):
    """AdamW whose one parameter is the adapter's flat buffer: one fused kernel, no Python a tensor.

    The numbers are those of AdamW over the single parameters, and so is what it saves: a run may be
    resumed with either.

    Args:
        lora: The adapter, its parameters in one buffer.
        settings: As of ``torch.optim.AdamW``.
    """

    same_as = torch.optim.AdamW

    def __init__(self, lora: Lora, **settings: Any) -> None:
        if lora.flat is None:
            raise ValueError("the adapter's parameters are not in one buffer")
        self._flat = lora.flat
        settings.setdefault("fused", True)
        super().__init__([lora.flat.master], **settings)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to zero; their buffer stays, for all gradients are views of it."""
        if self._flat.master.grad is not None:
            self._flat.master.grad.zero_()

    def state_dict(self) -> dict[str, Any]:
        """The state by single parameters, as ``torch.optim.AdamW`` over them would save it."""
        state = super().state_dict()
        (group,) = state["param_groups"]
        count = len(self._flat.names)
        single: dict[int, dict[str, Any]] = {}
        for whole in state["state"].values():
            for index, name in enumerate(self._flat.names):
                single[index] = {
                    key: self._flat.view(value, name).clone() if key in _MOMENTS else value
                    for key, value in whole.items()
                }
        return {"state": single, "param_groups": [{**group, "params": list(range(count))}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` saved."""
        whole: dict[str, Any] = {}
        for index, name in enumerate(self._flat.names):
            for key, value in state_dict["state"].get(index, {}).items():
                if key not in _MOMENTS:
                    whole[key] = value.clone() if isinstance(value, torch.Tensor) else value
                    continue
                buffer = whole.setdefault(key, torch.zeros_like(self._flat.master.data))
                self._flat.view(buffer, name).copy_(value)
        (group,) = state_dict["param_groups"]
        state = {0: whole} if whole else {}
        super().load_state_dict({"state": state, "param_groups": [{**group, "params": [0]}]})
