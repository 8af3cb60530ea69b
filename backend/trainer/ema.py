"""Exponential moving average of the LoRA's weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch

from backend.trainer.flat import FlatParameters


class Ema:
    """Shadow weights ``s <- s - (1 - decay) * (s - p)`` after every update, in float32, no warm-up.

    As in ai-toolkit (``toolkit/ema.py``), except that a resume restores both the shadow and the raw
    weights.

    Args:
        parameters: The weights to follow.
        decay: Share of the old average kept at each update.
        flat: The weights as one buffer, where they are kept so.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], decay: float, flat: FlatParameters | None = None
    ) -> None:
        self._parameters = dict(parameters)
        self._weight = 1.0 - decay
        self._pairs: list[tuple[torch.Tensor, torch.Tensor]]
        if flat is not None:
            buffer = flat.master.detach().clone()
            self._shadow = {name: flat.view(buffer, name) for name in parameters}
            self._pairs = [(buffer, flat.master.detach())]
        else:
            self._shadow = {name: tensor.detach().clone() for name, tensor in parameters.items()}
            self._pairs = [(self._shadow[name], tensor.detach()) for name, tensor in parameters.items()]

    @torch.no_grad()
    def update(self, ruined: torch.Tensor | None = None) -> None:
        """Move the shadow towards the present weights.

        Args:
            ruined: A scalar on the device, 1 if the weights were not updated: then neither is the shadow.
        """
        if ruined is None:
            torch._foreach_lerp_(
                list(self._shadow.values()), [p.detach() for p in self._parameters.values()], self._weight
            )
        else:
            weight = self._weight * (1.0 - ruined)
            for shadow, parameter in self._pairs:
                shadow.lerp_(parameter, weight)

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of the shadow on the CPU."""
        return {name: tensor.cpu().clone() for name, tensor in self._shadow.items()}

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over a shadow saved by :meth:`state`."""
        for name, tensor in self._shadow.items():
            tensor.copy_(weights[name])

    @contextlib.contextmanager
    @torch.no_grad()
    def swapped_in(self) -> Iterator[None]:
        """While active, the model computes with the shadow instead of the raw weights."""
        raw = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._copy(self._shadow)
        try:
            yield
        finally:
            self._copy(raw)

    def _copy(self, weights: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
