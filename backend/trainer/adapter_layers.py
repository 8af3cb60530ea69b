"""What peft's adapter layers are turned into after they were attached.

peft's own run in float32, have dropout before A instead of on the rank-r activations, and build LoKr's
whole Kronecker product at every call (3072 x 12288 numbers for one of FLUX's layers).
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lokr.layer import Linear as LoKrLinear
from peft.tuners.lora.dora import DoraLinearLayer
from torch import nn

ADAPTER = "default"


class ComputeDtypeLinear(nn.Linear):
    """A linear layer with float32 parameters that computes in the number format of its input.

    The optimizer needs float32 to add up small updates; the arithmetic beside a bfloat16 model does
    not, and runs several times faster without it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """``x @ W.T`` in the number format of x."""
        return nn.functional.linear(input, self.weight.to(input.dtype))


class RankLinear(ComputeDtypeLinear):
    """A, from the input to the rank-r activations, with the dropouts of ai-toolkit and kohya.

    Attributes:
        dropout: Probability of dropping each rank-r activation; the others grow to make up for it.
        rank_dropout: Probability of dropping each rank for a whole picture, likewise.
        module_dropout: Probability of leaving the adapter out for the whole batch.
    """

    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        """The rank-r activations ``[..., rank]``."""
        if not self.training:
            return super().forward(input)
        if self.module_dropout and float(torch.rand(())) < self.module_dropout:
            return input.new_zeros((*input.shape[:-1], self.weight.shape[0]))
        ranks = super().forward(input)
        if self.dropout:
            ranks = nn.functional.dropout(ranks, self.dropout)
        if self.rank_dropout:
            shape = (ranks.shape[0], *(1 for _ in ranks.shape[1:-1]), ranks.shape[-1])
            kept = torch.rand(shape, device=ranks.device) >= self.rank_dropout
            ranks = ranks * kept.to(ranks.dtype) / (1.0 - self.rank_dropout)
        return ranks


class PreciseMagnitude(DoraLinearLayer):  # type: ignore[misc]  # peft has no types
    """DoRA's magnitudes over norms in float32.

    peft rounds the norms to the model's number format: in bfloat16 each row would be off by up to 0.4 %
    from the first step on, more than a young adapter changes it.
    """

    def get_weight_norm(
        self, weight: torch.Tensor, lora_weight: torch.Tensor, scaling: float, adapter_name: str | None = None
    ) -> torch.Tensor:
        """Norm of each row of ``weight + scaling * lora_weight``, ``[out]``."""
        norms: torch.Tensor = torch.linalg.vector_norm(
            weight + scaling * lora_weight, dim=1, dtype=torch.float32
        )
        return norms


class KroneckerLinear(LoKrLinear):  # type: ignore[misc]  # peft has no types
    """LoKr's linear layer without ever forming ``kron(w1, w2)``: two small products instead.

    With x as a matrix ``X [in1, in2]`` the answer is ``w1 X w2^T``, of shape ``[out1, out2]``.
    """

    def _get_delta_activations(
        self, adapter_name: str, x: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        first, second = (factor.to(x.dtype) for factor in kronecker_factors(self, adapter_name))
        matrix = x.reshape(*x.shape[:-1], first.shape[1], second.shape[1])
        product = first @ nn.functional.linear(matrix, second)
        result: torch.Tensor = product.flatten(-2) * self.scaling[adapter_name]
        drop = self.rank_dropout[adapter_name]
        if self.training and drop:  # of rows of the weight, as LyCORIS does
            result = result * (torch.rand(result.shape[-1], device=result.device) >= drop).to(result.dtype)
        return result


def kronecker_factors(layer: Any, adapter: str = ADAPTER) -> tuple[torch.Tensor, torch.Tensor]:
    """``w1`` and ``w2`` of a LoKr layer, low-rank ones multiplied out."""
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        whole = getattr(layer, name)
        if adapter in whole:
            factors.append(whole[adapter])
        else:
            factors.append(getattr(layer, f"{name}_a")[adapter] @ getattr(layer, f"{name}_b")[adapter])
    return factors[0], factors[1]
