"""Changing the rank of low-rank weights, and making plain LoRAs of other adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from backend.trainer.lora import Lora

_EXACT = 1024  # up to this edge a matrix's singular values are computed exactly
_POWER_ITERATIONS = 6
_SPARE = 16  # ranks computed beyond those kept, for accuracy

# Pairs of factors, [rank, in] and [out, rank].
_PAIRS = (("lora_A.weight", "lora_B.weight"), ("lokr_w1_b", "lokr_w1_a"), ("lokr_w2_b", "lokr_w2_a"))
_SCALED = ("lora_B.weight", "lokr_w1", "lokr_w1_a")


def fit_rank(weights: Mapping[str, torch.Tensor], lora: Lora, scale: float) -> dict[str, torch.Tensor] | None:
    """Saved weights of another rank in the shapes of ``lora``, whose own weights must be freshly drawn.

    A larger rank leaves the adapter's effect as it was: new ranks get the fresh weights, of which one
    factor is zero. A smaller one keeps the nearest matrix of that rank (Eckart & Young 1936).

    Args:
        weights: By parameter name.
        lora: The adapter they shall fit.
        scale: The factor on the output of the adapter that they belong to.

    Returns:
        The fitting weights, on the CPU; None if more than the rank differs.
    """
    fresh = lora.state()
    if weights.keys() != fresh.keys():
        return None
    ratio = scale / lora.scale
    fitted = {name: w * ratio if name.endswith(_SCALED) else w for name, w in weights.items()}
    for down_end, up_end in _PAIRS:
        for name in [name for name in fresh if name.endswith(f".{down_end}")]:
            other = name.removesuffix(down_end) + up_end
            down, up = fitted[name], fitted[other]
            old, new = down.shape[0], fresh[name].shape[0]
            if new > old:
                fitted[name] = torch.cat((down, fresh[name][old:]), dim=0)
                fitted[other] = torch.cat((up, fresh[other][:, old:]), dim=1)
            elif new < old:
                fitted[name], fitted[other] = truncate(down, up, new)
    return fitted if lora.fits(fitted) else None


def truncate(down: torch.Tensor, up: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best approximation of ``up @ down`` by a smaller rank.

    Args:
        down: A, ``[r, in]``.
        up: B, ``[out, r]``.
        rank: The wanted rank, at most r.

    Returns:
        A ``[rank, in]`` and B ``[out, rank]``, with the singular values shared evenly between them.
    """
    q_up, r_up = torch.linalg.qr(up.double())
    q_down, r_down = torch.linalg.qr(down.double().T)
    u, s, v = torch.linalg.svd(r_up @ r_down.T)
    root = s[:rank].sqrt()
    new_up = (q_up @ u[:, :rank]) * root
    new_down = (v[:rank] @ q_down.T) * root[:, None]
    return new_down.to(down.dtype).contiguous(), new_up.to(up.dtype).contiguous()


@torch.no_grad()
def plain_lora(lora: Lora, weights: Mapping[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """What programs that know only LoRA get of a DoRA or LoKr: its effect at a limited rank.

    LoKr's best approximation is found exactly from its factors' singular values; DoRA's, which needs
    the base weights, by randomised subspace iteration (Halko, Martinsson & Tropp 2011).

    Args:
        lora: The adapter, attached to its model.
        weights: The weights to export, by parameter name (the moving average, perhaps).
        rank: Of the result; less for layers that are smaller.

    Returns:
        ``<module>.lora_A.weight`` ``[rank, in]`` and ``<module>.lora_B.weight`` ``[out, rank]``, float32
        on the CPU, to be used with the scale 1.
    """
    result: dict[str, torch.Tensor] = {}
    for name in lora.layers:
        mine = {
            key.removeprefix(f"{name}."): weight
            for key, weight in weights.items()
            if key.startswith(f"{name}.")
        }
        if lora.kind == "lokr":
            down, up = _plain_lokr(mine, lora.scale, rank)
        elif lora.kind == "dora":
            down, up = _plain_dora(mine, lora, name, rank)
        else:
            down, up = mine["lora_A.weight"], mine["lora_B.weight"] * lora.scale
        result[f"{name}.lora_A.weight"] = down.float().cpu().contiguous()
        result[f"{name}.lora_B.weight"] = up.float().cpu().contiguous()
    return result


def _plain_lokr(
    weights: Mapping[str, torch.Tensor], scale: float, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The singular values of a Kronecker product are the products of its factors'."""
    first, second = (_factor(weights, name).double() for name in ("lokr_w1", "lokr_w2"))
    u1, s1, v1 = torch.linalg.svd(first, full_matrices=False)
    u2, s2, v2 = torch.linalg.svd(second, full_matrices=False)
    products = torch.outer(s1, s2).flatten()
    chosen = products.sort(descending=True, stable=True).indices[:rank]
    one, two = chosen // len(s2), chosen % len(s2)
    root = (products[chosen] * abs(scale)).sqrt()
    left = torch.einsum("ar,br->abr", u1[:, one], u2[:, two]).flatten(0, 1)
    right = torch.einsum("ra,rb->rab", v1[one], v2[two]).flatten(1, 2)
    return right * root[:, None], left * root * (1.0 if scale >= 0 else -1.0)


def _factor(weights: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    whole = weights.get(name)
    return whole if whole is not None else weights[f"{name}_a"] @ weights[f"{name}_b"]


def _plain_dora(
    weights: Mapping[str, torch.Tensor], lora: Lora, name: str, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``m * (W + B A) / |W + B A| - W``, with the norm of each row (DoRA, arXiv:2402.09353, eq. 5)."""
    from backend.trainer.lora import base_weight

    base = base_weight(lora.layers[name]).float()
    down, up, magnitude = (
        weights[key].to(base.device) for key in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    )
    changed = base + lora.scale * (up @ down)
    change = changed * (magnitude / changed.norm(dim=1))[:, None] - base
    return nearest(change, rank)


def nearest(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors A ``[rank, in]`` and B ``[out, rank]`` of the matrix of that rank nearest to one."""
    smaller = min(matrix.shape)
    rank = min(rank, smaller)
    if smaller <= _EXACT or rank + _SPARE >= smaller:
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    else:
        devices = [matrix.device] if matrix.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # training's draws are not touched
            torch.manual_seed(0)
            u, s, vh = torch.svd_lowrank(matrix, q=rank + _SPARE, niter=_POWER_ITERATIONS)
            v = vh.T
    root = s[:rank].sqrt()
    return v[:rank] * root[:, None], u[:, :rank] * root
