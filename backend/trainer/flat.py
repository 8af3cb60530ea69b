"""One buffer for all of an adapter's weights: one kernel updates, clips or averages them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

_ALIGN = 64  # elements: 16-byte loads in every format


class FlatParameters:
    """Parameters as views of one float32 buffer, and their gradients likewise.

    Args:
        parameters: float32, by name; they become views of the buffer and keep their values.
        order: Names that must lie next to one another without gaps, in groups.
        dtype: Number format of :attr:`compute`.

    Attributes:
        master: The float32 weights ``[n]``, a parameter whose gradient is one buffer too.
        compute: The weights in the format that the model computes in, ``[n]``.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], order: Sequence[Sequence[str]], dtype: torch.dtype
    ) -> None:
        grouped = {name for names in order for name in names}
        groups = [*order, *([name] for name in parameters if name not in grouped)]
        self._parameters = dict(parameters)
        self._places: dict[str, int] = {}
        at = 0
        for names in groups:
            for name in names:
                self._places[name] = at
                at += parameters[name].numel()
            at += -at % _ALIGN
        device = next(iter(parameters.values())).device
        self.master = nn.Parameter(torch.zeros(at, device=device))
        self.master.grad = torch.zeros(at, device=device)
        self.compute = torch.zeros(at, device=device, dtype=dtype)
        with torch.no_grad():
            for name, parameter in parameters.items():
                view = self.view(self.master.data, name)
                view.copy_(parameter)
                parameter.data = view
                parameter.grad = self.view(self.master.grad, name)
        self.cast()

    @property
    def names(self) -> list[str]:
        """Of the parameters, in the adapter's order."""
        return list(self._parameters)

    def view(self, buffer: torch.Tensor, name: str) -> torch.Tensor:
        """A parameter's part of a buffer laid out like the weights, in the parameter's shape."""
        at, shape = self._places[name], self._parameters[name].shape
        return buffer[at : at + shape.numel()].view(shape)

    def leaf(self, names: Sequence[str], shape: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """What some neighbouring parameters are computed with, as one leaf, and where its gradient goes."""
        first = self._places[names[0]]
        end = first + sum(self._parameters[name].numel() for name in names)
        leaf = self.compute[first:end].view(tuple(shape)).detach().requires_grad_()
        if self.master.grad is None:
            raise ValueError("the gradient's buffer was let go")
        return leaf, self.master.grad[first:end].view(tuple(shape))

    @torch.no_grad()
    def cast(self) -> None:
        """Bring :attr:`compute` up to date with the weights."""
        self.compute.copy_(self.master)
