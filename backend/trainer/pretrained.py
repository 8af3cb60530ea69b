"""Starting from the weights of a LoRA file instead of fresh ones."""

from __future__ import annotations

from pathlib import Path

import torch

from backend.trainer.errors import TrainingError
from backend.trainer.lora import Lora, base_weight
from backend.trainer.lora_rank import truncate
from backend.trainer.report import Reporter
from backend.trainer.side_lora import read_side_lora


@torch.no_grad()
def load_pretrained(path: Path, lora: Lora, report: Reporter) -> None:
    """Give a freshly attached adapter the effect of a LoRA file (PEFT's, diffusers' or kohya's keys).

    Its rank may differ: a smaller one is filled up with fresh ranks that have no effect yet, a larger
    one is reduced to the nearest of the adapter's rank. Layers that only one of them has are reported.

    Raises:
        TrainingError: The file cannot be read, is no LoRA of this model, or the network is a LoKr.
    """
    if lora.kind == "lokr":
        raise TrainingError(
            "network.pretrained_lora_path does not go with network.type lokr; use lora or dora",
            "bad_config",
            bad_input=True,
        )
    given = read_side_lora(path, path.name).layers
    shared = [name for name in lora.layers if name in given]
    if not shared:
        raise TrainingError(
            f"network.pretrained_lora_path: {path.name} has none of the layers that are trained",
            "unsupported_lora",
            bad_input=True,
        )
    reduced = False
    for name in shared:
        down, up = given[name]
        a, b = lora.parameters[f"{name}.lora_A.weight"], lora.parameters[f"{name}.lora_B.weight"]
        if (down.shape[1], up.shape[0]) != (a.shape[1], b.shape[0]):
            raise TrainingError(
                f"network.pretrained_lora_path: {path.name} was made for another model; its layer {name} is "
                f"{up.shape[0]} x {down.shape[1]} instead of {b.shape[0]} x {a.shape[1]}",
                "unsupported_lora",
                bad_input=True,
            )
        if down.shape[0] > lora.rank:
            down, up = truncate(down, up, lora.rank)
            reduced = True
        a[: down.shape[0]].copy_(down)
        b[:, : up.shape[1]].copy_(up / lora.scale)
        if lora.kind == "dora":  # so that it begins with the effect of the plain LoRA
            whole = base_weight(lora.layers[name]).float() + lora.scale * (b @ a)
            lora.parameters[f"{name}.lora_magnitude_vector"].copy_(whole.norm(dim=1))
    _tell(path.name, len(shared), len(given), lora, reduced, report)


def _tell(name: str, shared: int, given: int, lora: Lora, reduced: bool, report: Reporter) -> None:
    report.line(f"starting from {name}: {shared} of {len(lora.layers)} layers")
    if given > shared:
        report.warning(
            f"{given - shared} layers of {name} are not trained here and were left out", "pretrained_layers"
        )
    if reduced:
        report.warning(
            f"{name} has a higher rank than network.linear ({lora.rank}): it was reduced", "pretrained_rank"
        )
