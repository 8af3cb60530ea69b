"""What a run saves of itself to be continued exactly, and how another process takes it over.

What the config has changed meanwhile takes effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backend.trainer.ema import Ema
from backend.trainer.lora import Lora
from backend.trainer.lora_rank import fit_rank
from backend.trainer.optimizer import name_of, settings_of
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    import torch

    from backend.trainer.loop import TrainingLoop


def state_of(loop: TrainingLoop) -> dict[str, Any]:
    """Everything that an exact continuation needs.

    In the middle of a failed update, random numbers and data position are those of its start.
    """
    boundary = loop.boundary or {"random": loop.random.state(), "order": loop.order.state()}
    lora = loop.lora
    return {
        "step": loop.step,
        "training_seed": loop.facts.training_seed,
        "optimizer_name": name_of(loop.optimizer),
        "lora": lora.state(),
        "ema": loop.ema.state() if loop.ema is not None else None,
        "optimizer": loop.optimizer.state_dict(),
        "smoothed": [loop.smoothed.mean, loop.smoothed.weight],
        "network": {"type": lora.kind, "rank": lora.rank, "scale": lora.scale},
        "validation": {"best": loop.best.state(), "validated": loop.validated},
        "guard": loop.guard.state(),
        "rollback": loop.rollback.state(),
        "drawn_well": loop.drawn_well,
        **boundary,
    }


def take_up(loop: TrainingLoop, state: dict[str, Any]) -> None:
    """Go on from a saved state; what the config changed since takes effect, with a warning if it must.

    Raises:
        TrainingError: The state belongs to another network.
    """
    if load_network(state, loop.lora, loop.ema, loop.report):
        load_optimizer(state, loop.optimizer, loop.report)
    loop.best.load(state["validation"]["best"])
    loop.validated = int(state["validation"]["validated"])
    loop.guard.load(state["guard"])
    loop.rollback.load(state["rollback"], loop.config.process.train.lr)
    loop.train_step.schedule.scale = loop.rollback.scale
    loop.drawn_well = bool(state["drawn_well"])
    loop.smoothed.mean, loop.smoothed.weight = state["smoothed"]
    if not loop.random.load(state["random"]):
        loop.report.warning(
            "the run was begun on another kind of device: it continues with other noise", "device_changed"
        )
    if not loop.order.load(state["order"]):
        loop.report.warning(
            "the pictures or the batch size changed since the last save: a new epoch begins",
            "data_changed",
        )
    loop.step = loop.saved = int(state["step"])
    loop.drawn_at = None


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
