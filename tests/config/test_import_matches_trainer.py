"""What importers write into free-form keys is what the trainer takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.importers import import_text
from config.importers.optimisation import _ARGUMENTS, _DADAPT
from config.schema.train import OPTIMIZERS

pytest.importorskip("torch")

_IMPORTED = sorted({*_ARGUMENTS, "dadaptation", "dadaptadam"})


@pytest.mark.parametrize("name", _IMPORTED)
def test_the_trainers_optimizers_take_the_arguments_that_importers_keep(name: str) -> None:
    from backend.trainer.optimizer import _EIGHT_BIT, _class_of

    assert name in OPTIMIZERS
    plain = _EIGHT_BIT[name][0] if name in _EIGHT_BIT else name
    taken = set(inspect.signature(_class_of(plain)).parameters)
    assert set(_ARGUMENTS.get(name, _DADAPT)) <= taken


def _network(arguments: str) -> Any:
    text = f"python flux_train_network.py --t5xxl x --network_train_unet_only --network_args {arguments}"
    process = yaml.safe_load(import_text(text, "x", Path("/nowhere")).text)["config"]["process"][0]
    return process["network"].get("network_kwargs", {})


_PATHS = [
    *(
        f"transformer.transformer_blocks.{i}.{leaf}"
        for i in range(19)
        for leaf in (
            "attn.to_q",
            "attn.add_q_proj",
            "attn.to_out.0",
            "attn.to_add_out",
            "ff.net.2",
            "norm1.linear",
        )
    ),
    *(
        f"transformer.single_transformer_blocks.{i}.{leaf}"
        for i in range(38)
        for leaf in ("attn.to_q", "proj_mlp", "proj_out", "norm.linear")
    ),
]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ("train_blocks=single", 38 * 4),
        ("train_blocks=double", 19 * 6),
        ("train_double_block_indices=none train_single_block_indices=7,20-21", 3 * 4),
        ("train_double_block_indices=1 train_single_block_indices=none", 6),
        ("train_single_block_indices=0", 19 * 6 + 4),
        ("single_dim=0 img_attn_dim=0", 19 * 4 + 38),
        ("txt_attn_dim=0", 19 * 4 + 38 * 4),
    ],
)
def test_names_select_the_layers_that_kohya_would(arguments: str, count: int) -> None:
    chosen = _network(arguments)
    only, ignored = chosen.get("only_if_contains", []), chosen.get("ignore_if_contains", [])
    left = [
        path
        for path in _PATHS
        if (not only or any(part in path for part in only)) and not any(part in path for part in ignored)
    ]
    assert len(left) == count
