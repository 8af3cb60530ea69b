"""What a resumed run takes over of its saved state when its config has changed since."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.trainer.ema import Ema
from backend.trainer.lora import Lora
from backend.trainer.lora_rank import fit_rank
from backend.trainer.optimizer import name_of, settings_of
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    import torch


def load_network(state: dict[str, Any], lora: Lora, ema: Ema | None, report: Reporter) -> bool:
    """Take over the weights; returns whether they are the same network's (the optimizer's state fits).

    Raises:
        TrainingError: The state belongs to another network.
    """
    weights, average, before = state["lora"], state["ema"], state["network"]
    same = bool(before == {"type": lora.kind, "rank": lora.rank, "scale": lora.scale})
    if not same and before["type"] == lora.kind:
        fitted = fit_rank(weights, lora, before["scale"])
        if fitted is not None:
            average = None if average is None else fit_rank(average, lora, before["scale"])
            weights = fitted
            report.warning(
                f"the network changed from rank {before['rank']} to {lora.rank} since the last save: what it "
                "learned is kept as far as it fits, the optimizer starts afresh",
                "rank_changed",
            )
    lora.load(weights)
    if ema is not None:
        ema.load(average if average is not None else weights)
    return same


def load_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer, report: Reporter) -> None:
    """Take over what the optimizer has learned; its settings are the config's, not the saved ones."""
    if state["optimizer_name"] != name_of(optimizer):
        report.warning("the optimizer changed since the last save: it starts afresh", "optimizer_changed")
        return
    settings = settings_of(optimizer)
    optimizer.load_state_dict(state["optimizer"])
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)
