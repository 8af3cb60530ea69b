"""Attention kernels for the fast blocks, the fastest of which is found by measuring on the very device."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from backend.trainer.fast_blocks import Attention

_TOLERANCE = 2e-2  # relative error, of bfloat16 kernels against one another
_REPEATS = 5


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


@_cudnn_backward.register_fake
def _(grad: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, *output)


def _gradient(ctx: Any, grad: torch.Tensor, *unused: Any) -> Any:
    return torch.ops.fluxlora.cudnn_attention_backward(grad, *ctx.saved_tensors)


_cudnn_forward.register_autograd(_gradient, setup_context=_setup)


def native(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Whichever kernel torch chooses."""
    return scaled_dot_product_attention(q, k, v)


KERNELS: dict[str, Attention] = {"native": native, "cudnn": cudnn}


@dataclass(frozen=True)
class Trial:
    """How a kernel did: seconds forward and backward, or why it is out."""

    name: str
    seconds: float | None
    why: str = ""


def try_kernels(
    device: torch.device,
    dtype: torch.dtype,
    *,
    heads: int = 24,
    width: int = 128,
    tokens: int = 4608,
    kernels: dict[str, Attention] | None = None,
) -> list[Trial]:
    """Measure the kernels at a size, the fastest first; the first in ``kernels`` is what others must match.

    Inputs and the output's gradient have the layouts that FLUX's blocks have.
    """
    generator = torch.Generator(device=device).manual_seed(0)

    def draw() -> torch.Tensor:
        drawn = torch.randn(1, tokens, heads, width, device=device, generator=generator).to(dtype)
        return drawn.transpose(1, 2)

    inputs = [draw().requires_grad_() for _ in range(3)]
    grad = draw()
    trials: list[Trial] = []
    expected: list[torch.Tensor] | None = None
    for name, kernel in (kernels or KERNELS).items():
        try:
            found = _run(kernel, inputs, grad)
            if expected is None:
                expected = found
            error = max(_error(one, other) for one, other in zip(found, expected, strict=True))
            if not error < _TOLERANCE:
                trials.append(Trial(name, None, f"its results are wrong by {error:.1%}"))
                continue
            trials.append(Trial(name, _time(functools.partial(_run, kernel, inputs, grad), device)))
        except Exception as problem:  # missing libraries, old drivers, shapes that a kernel does not know
            why = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            trials.append(Trial(name, None, why))
    return sorted(trials, key=lambda trial: (trial.seconds is None, trial.seconds or 0.0))


def best_kernel(device: torch.device, dtype: torch.dtype) -> str:
    """The fastest kernel whose gradients are right; ``native`` where there is no choice."""
    if device.type != "cuda":
        return "native"
    best = try_kernels(device, dtype)[0]
    return best.name if best.seconds is not None else "native"


def _run(kernel: Attention, inputs: list[torch.Tensor], grad: torch.Tensor) -> list[torch.Tensor]:
    out = kernel(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, grad)]


def _error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected.float()).norm() / expected.float().norm())


def _time(work: Callable[[], Any], device: torch.device) -> float:
    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    work()
    wait()
    began = time.perf_counter()
    for _ in range(_REPEATS):
        work()
    wait()
    return (time.perf_counter() - began) / _REPEATS
