"""Attaching an adapter (LoRA, DoRA, LoKr) to the transformer, and reading its weights back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from backend.trainer.errors import TrainingError
from config.schema import NetworkConfig

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel

    from backend.trainer.flat import FlatParameters

ADAPTER = "default"
PREFIX = "transformer"

_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")


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


class Lora:
    """The adapter on a transformer.

    Attributes:
        kind: ``lora``, ``dora`` or ``lokr``.
        parameters: Trainable float32 parameters by name: ``<module>.lora_A.weight`` ``[rank, in]`` and
            ``<module>.lora_B.weight`` ``[out, rank]``; DoRA has ``<module>.lora_magnitude_vector``
            ``[out]`` too, LoKr has ``<module>.lokr_w1`` and ``<module>.lokr_w2`` instead (or their
            low-rank factors, ``_a`` and ``_b``).
        layers: peft's layers by module name.
        rank: r.
        scale: Factor on the adapter's output.
        flat: All parameters as one buffer, where they are kept so; None elsewhere.
    """

    flat: FlatParameters | None = None

    def __init__(
        self, parameters: dict[str, nn.Parameter], layers: dict[str, Any], network: NetworkConfig
    ) -> None:
        self.kind: str = network.type
        self.parameters = parameters
        self.layers = layers
        self.rank = network.rank
        self.scale = network.scale

    def state(self) -> dict[str, torch.Tensor]:
        """A copy of all weights on the CPU."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    def fits(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Whether ``weights`` have the names and shapes of this adapter's."""
        mine = {name: parameter.shape for name, parameter in self.parameters.items()}
        return mine == {name: tensor.shape for name, tensor in weights.items()}

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take over weights saved by :meth:`state`.

        Raises:
            TrainingError: They belong to another kind of network, another rank or other layers.
        """
        if not self.fits(weights):
            raise TrainingError(
                "the saved state belongs to another network (type or layers differ): undo the change of "
                "network in the config, or start a new run",
                "state_mismatch",
            )
        for name, parameter in self.parameters.items():
            parameter.copy_(weights[name])

    def scaled(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights with :attr:`scale` multiplied in, so that their readers need to know of none."""
        return self._times(self.scale, weights)

    def unscaled(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The inverse of :meth:`scaled`, but for rounding."""
        return self._times(1.0 / self.scale, weights)

    @staticmethod
    def _times(factor: float, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if factor == 1.0:
            return dict(weights)
        ends = ("lora_B.weight", "lokr_w1", "lokr_w1_a")
        return {name: w * factor if name.endswith(ends) else w for name, w in weights.items()}

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """While active, the transformer is the base model."""
        for layer in self.layers.values():
            layer._disable_adapters = True  # the public switch also turns gradients off and on
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer._disable_adapters = False

    @contextlib.contextmanager
    def strength(self, weight: float) -> Iterator[None]:
        """While active, the adapter's output is multiplied by ``weight`` as well."""
        if weight == 1.0:
            yield
            return
        for layer in self.layers.values():
            layer.scaling[ADAPTER] = self.scale * weight
        try:
            yield
        finally:
            for layer in self.layers.values():
                layer.scaling[ADAPTER] = self.scale


def network_warnings(network: NetworkConfig) -> list[str]:
    """A sentence for each setting that the network's type has no use for."""
    if network.type == "lora":
        return []
    extra = network.network_kwargs
    unused = {"network.dropout": network.dropout}
    if network.type == "dora":
        unused["network.network_kwargs.rank_dropout"] = extra.rank_dropout
        unused["network.network_kwargs.module_dropout"] = extra.module_dropout
    return [
        f"{key} has no effect with network.type: {network.type}" for key, value in unused.items() if value
    ]


def attach_lora(
    transformer: FluxTransformer2DModel, network: NetworkConfig, generator: torch.Generator
) -> Lora:
    """Freeze the transformer and put an adapter on its chosen layers.

    A is drawn as LoRA's authors do (Kaiming uniform, a = sqrt 5), B is zero: the model is unchanged at
    first. LoKr's first factor is drawn the same way, the second is zero (or its last part), as in
    LyCORIS. The draws are made on the CPU, so they are the same on every device.

    Raises:
        TrainingError: No layer is chosen.
    """
    names = select_modules(transformer, network)
    transformer.requires_grad_(False)
    transformer.add_adapter(_peft_config(network, names), adapter_name=ADAPTER)
    modules: dict[str, Any] = dict(transformer.named_modules())
    layers = {name: modules[name] for name in names}
    parameters: dict[str, nn.Parameter] = {}
    for name, layer in layers.items():
        own = (
            _prepare_lokr(layer, generator)
            if network.type == "lokr"
            else _prepare_lora(layer, network, generator)
        )
        parameters |= {f"{name}.{key}": parameter for key, parameter in own.items()}
    trainable = {id(parameter) for parameter in transformer.parameters() if parameter.requires_grad}
    if trainable != {id(parameter) for parameter in parameters.values()}:  # peft matches by suffix
        raise TrainingError(f"the adapter landed on other layers than the {len(names)} chosen", "internal")
    return Lora(parameters, layers, network)


def _peft_config(network: NetworkConfig, names: list[str]) -> Any:
    from peft import LoKrConfig, LoraConfig

    rank, alpha = network.rank, network.rank * network.scale
    if network.type == "lokr":
        full = network.lokr_full_rank
        whole = 1 << 30  # larger than any layer: no factor is split
        return LoKrConfig(
            r=whole if full else rank,
            alpha=whole * network.scale if full else alpha,
            decompose_factor=network.lokr_factor,
            target_modules=names,
            rank_dropout=network.network_kwargs.rank_dropout or 0.0,
            module_dropout=network.network_kwargs.module_dropout or 0.0,
        )
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_dora=network.type == "dora",
        target_modules=names,
        init_lora_weights=False,
    )


def _prepare_lora(layer: Any, network: NetworkConfig, generator: torch.Generator) -> dict[str, nn.Parameter]:
    from backend.trainer.adapter_layers import ComputeDtypeLinear, PreciseMagnitude, RankLinear

    a, b = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    a.__class__, b.__class__ = RankLinear, ComputeDtypeLinear
    if network.type == "lora":  # DoRA looks at A itself, which must not be dropped there
        a.dropout = network.dropout or 0.0
        a.rank_dropout = network.network_kwargs.rank_dropout or 0.0
        a.module_dropout = network.network_kwargs.module_dropout or 0.0
    a.to(torch.float32)
    b.to(torch.float32)
    layer.cast_input_dtype_enabled = False
    parameters: dict[str, nn.Parameter] = {"lora_A.weight": a.weight, "lora_B.weight": b.weight}
    _draw(a.weight, generator)
    _zero(b.weight)
    if network.type == "dora":
        magnitude = layer.lora_magnitude_vector[ADAPTER]
        magnitude.__class__ = PreciseMagnitude
        magnitude.to(torch.float32)
        parameters["lora_magnitude_vector"] = magnitude.weight
        if magnitude.weight.device.type != "meta":
            with torch.no_grad():  # B was random when peft measured it
                magnitude.weight.copy_(base_weight(layer).float().norm(dim=1))
    return parameters


def _prepare_lokr(layer: Any, generator: torch.Generator) -> dict[str, nn.Parameter]:
    from backend.trainer.adapter_layers import KroneckerLinear

    layer.__class__ = KroneckerLinear
    parameters: dict[str, nn.Parameter] = {}
    for key in _LOKR:
        held = getattr(layer, key)
        if ADAPTER not in held:
            continue
        parameter = held[ADAPTER]
        parameter.data = parameter.data.to(torch.float32)
        parameters[key] = parameter
        if key in ("lokr_w2", "lokr_w2_b"):
            _zero(parameter)
        else:
            _draw(parameter, generator)
    return parameters


def base_weight(layer: Any) -> torch.Tensor:
    """The frozen weight ``[out, in]`` under an adapter, whatever format it is kept in."""
    from peft.utils.integrations import dequantize_module_weight

    weight: torch.Tensor = dequantize_module_weight(layer.get_base_layer())
    return weight.detach()


@torch.no_grad()
def _draw(parameter: nn.Parameter, generator: torch.Generator) -> None:
    if parameter.device.type == "meta":
        return
    drawn = torch.empty(parameter.shape, dtype=torch.float32)
    nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
    parameter.copy_(drawn)


@torch.no_grad()
def _zero(parameter: nn.Parameter) -> None:
    if parameter.device.type != "meta":
        parameter.zero_()
