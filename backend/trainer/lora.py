"""Attaching a LoRA to the transformer, and reading its weights back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.trainer.errors import TrainingError
from config.schema import NetworkConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

ADAPTER = "default"
PREFIX = "transformer"


def select_modules(transformer: nn.Module, network: NetworkConfig) -> list[str]:
    """Names of the linear layers that get an adapter, chosen as by ai-toolkit (``toolkit/lora_special.py``).

    By default all of the double and single blocks: 494 in FLUX.1. The strings of ``network_kwargs``
    are looked for in ``transformer.<module path>``, and in the same with ``$$`` for its dots.

    Raises:
        TrainingError: None is left.
    """
    chosen = network.network_kwargs
    names = [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
        and (not network.transformer_only or "transformer_blocks" in name)
        and not _contains_any(name, chosen.ignore_if_contains)
        and (not chosen.only_if_contains or _contains_any(name, chosen.only_if_contains))
    ]
    if not names:
        raise TrainingError(
            "no layer is left to train: network.network_kwargs (only_if_contains, ignore_if_contains) match "
            "no layer of this model",
            "no_target_modules",
            bad_input=True,
        )
    return names


def _contains_any(name: str, parts: list[str]) -> bool:
    full = f"{PREFIX}.{name}"
    dollars = full.replace(".", "$$")
    return any(part in full or part in dollars for part in parts)


class _ComputeDtypeLinear(nn.Linear):
    """A linear layer with float32 parameters that computes in the number format of its input.

    The optimizer needs float32 to add up small updates; the arithmetic beside a bfloat16 model does
    not, and runs several times faster without it.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - nn.Linear's name
        return nn.functional.linear(input, self.weight.to(input.dtype))


class Lora:
    """The adapter on a transformer.

    Attributes:
        parameters: Trainable float32 parameters by name: ``<module>.lora_A.weight`` ``[rank, in]`` and
            ``<module>.lora_B.weight`` ``[out, rank]``.
        rank: r.
        scale: Factor on the adapter's output.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], network: NetworkConfig) -> None:
        self.parameters = parameters
        self.rank = network.rank
        self.scale = network.scale

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of all weights on the CPU."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over weights saved by :meth:`state`.

        Raises:
            TrainingError: They belong to another rank or other layers.
        """
        mine = {name: tuple(parameter.shape) for name, parameter in self.parameters.items()}
        if mine != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
            raise TrainingError(
                "the saved state belongs to another network (rank or layers differ): undo the change of "
                "network in the config, or start a new run",
                "state_mismatch",
            )
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])


def attach_lora(
    transformer: FluxTransformer2DModel, network: NetworkConfig, generator: torch.Generator
) -> Lora:
    """Freeze the transformer and put an adapter on its chosen layers.

    A is drawn as LoRA's authors do (Kaiming uniform, a = sqrt 5), B is zero: the model is unchanged at
    first. The draws are made on the CPU, so they are the same on every device.

    Raises:
        TrainingError: No layer is chosen.
    """
    from peft import LoraConfig

    names = select_modules(transformer, network)
    transformer.requires_grad_(False)
    transformer.add_adapter(
        LoraConfig(
            r=network.rank,
            lora_alpha=network.rank * network.scale,
            lora_dropout=network.dropout or 0.0,
            target_modules=names,
            init_lora_weights=False,
        ),
        adapter_name=ADAPTER,
    )
    parameters: dict[str, nn.Parameter] = {}
    modules: dict[str, Any] = dict(transformer.named_modules())
    for name in names:
        layer = modules[name]
        for kind in ("lora_A", "lora_B"):
            linear = getattr(layer, kind)[ADAPTER]
            linear.__class__ = _ComputeDtypeLinear
            linear.to(torch.float32)
            parameters[f"{name}.{kind}.weight"] = linear.weight
        layer.cast_input_dtype_enabled = False
        _initialise(layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight, generator)
    trainable = sum(parameter.requires_grad for parameter in transformer.parameters())
    if trainable != len(parameters):  # peft matches by suffix: it must have matched what was asked
        raise TrainingError(
            f"the adapter landed on {trainable // 2} layers instead of {len(names)}", "internal"
        )
    return Lora(parameters, network)


@torch.no_grad()
def _initialise(a: torch.Tensor, b: torch.Tensor, generator: torch.Generator) -> None:
    if a.device.type == "meta":
        return
    drawn = torch.empty(a.shape, dtype=torch.float32)
    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    a.copy_(drawn)
    b.zero_()
