"""LoRA files beside the one that is trained: fused into the base model, or on only while sampling.

An assistant adapter is both: fused for training, and taken off again while sampling by adding it with
the weight -1, as in ai-toolkit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from backend.trainer.errors import TrainingError
from backend.trainer.lora import PREFIX


@dataclass(frozen=True)
class SideLora:
    """A LoRA as low-rank factors of the weights' changes.

    Attributes:
        name: What the user calls it.
        layers: By module name: A ``[rank, in]`` and B ``[out, rank]``, the scale multiplied into B;
            float32, on the CPU.
    """

    name: str
    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]

    def check(self, transformer: nn.Module) -> int:
        """Compare with a model before it is changed; returns how many of the layers it lacks.

        Raises:
            TrainingError: It has none of them, or one has another shape.
        """
        modules = dict(transformer.named_modules())
        missing = 0
        for name, (a, b) in self.layers.items():
            module = modules.get(name)
            if not isinstance(module, nn.Linear):
                missing += 1
            elif (module.out_features, module.in_features) != (b.shape[0], a.shape[1]):
                raise TrainingError(
                    f"the LoRA {self.name} was made for another model: its layer {name} is "
                    f"{b.shape[0]} x {a.shape[1]}, the base model's {module.out_features} x "
                    f"{module.in_features}",
                    "unsupported_lora",
                    bad_input=True,
                )
        if missing == len(self.layers):
            raise TrainingError(
                f"the LoRA {self.name} has no layer of this base model", "unsupported_lora", bad_input=True
            )
        return missing

    @torch.no_grad()
    def fuse(self, transformer: nn.Module, weight: float = 1.0) -> None:
        """Add ``weight * B A`` to the model's weights; layers that it lacks are passed over."""
        modules = dict(transformer.named_modules())
        for name, (a, b) in self.layers.items():
            module = modules.get(name)
            if isinstance(module, nn.Linear):
                device = module.weight.device
                change = (b.to(device) @ a.to(device)) * weight
                module.weight.copy_((module.weight.float() + change).to(module.weight.dtype))


def read_side_lora(path: Path, name: str) -> SideLora:
    """Read a FLUX LoRA file of any naming that diffusers understands (its own, kohya's, XLabs').

    Raises:
        TrainingError: It cannot be read, or holds no LoRA of FLUX.1's transformer.
    """
    from diffusers import FluxPipeline
    from safetensors.torch import load_file

    problem = f"the LoRA {name} cannot be used"
    try:
        tensors: dict[str, Any] = load_file(path)
        state, alphas = FluxPipeline.lora_state_dict(tensors, return_alphas=True)
    except Exception as error:  # foreign files fail in as many ways as there are
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(f"{problem}: {why}", "unsupported_lora", bad_input=True) from error
    layers = {}
    for key, a in state.items():
        module, mark, _ = key.partition(".lora_A.")
        if not mark or not module.startswith(f"{PREFIX}."):
            continue
        b = state.get(f"{module}.lora_B.weight")
        if b is None:
            raise TrainingError(f"{problem}: {module} has no lora_B", "unsupported_lora", bad_input=True)
        alpha = (alphas or {}).get(f"{module}.alpha")
        scale = 1.0 if alpha is None else float(alpha) / a.shape[0]
        layers[module.removeprefix(f"{PREFIX}.")] = (a.float(), b.float() * scale)
    if not layers:
        raise TrainingError(
            f"{problem}: {path.name} holds no LoRA of FLUX.1's transformer",
            "unsupported_lora",
            bad_input=True,
        )
    return SideLora(name, layers)


@contextlib.contextmanager
def added(transformer: nn.Module, loras: Sequence[tuple[SideLora, float]]) -> Iterator[None]:
    """While open, the model answers as if each LoRA were fused with its weight; no weight is changed."""
    handles = []
    modules = dict(transformer.named_modules())
    try:
        for lora, weight in loras:
            for name, (a, b) in lora.layers.items():
                module = modules.get(name)
                if module is not None:
                    handles.append(module.register_forward_hook(_adder(a, b, weight)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(a: torch.Tensor, b: torch.Tensor, weight: float) -> Any:
    placed: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        if not placed:
            placed.extend((a.to(x.device, x.dtype), (b * weight).to(x.device, x.dtype)))
        return output + nn.functional.linear(nn.functional.linear(x, placed[0]), placed[1])

    return hook
