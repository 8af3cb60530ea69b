"""sd-scripts' ``network_module`` and ``network_args`` as ``network``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from config.importers import files, optimisation
from config.importers.draft import Block, Draft, shown
from config.importers.options import ImportRefusedError, Options

_DOUBLE, _SINGLE = 19, 38  # transformer blocks of FLUX.1

# Parts of a block whose rank can be set apart, as substrings of diffusers' names; ``{d}`` and ``{s}``
# stand for each double and single block, because attention has the same names in both.
_PARTS: dict[str, tuple[str, ...]] = {
    "img_attn_dim": (
        "transformer.transformer_blocks.{d}.attn.to_q",
        "transformer.transformer_blocks.{d}.attn.to_k",
        "transformer.transformer_blocks.{d}.attn.to_v",
        ".attn.to_out",
    ),
    "txt_attn_dim": (".attn.add_", ".attn.to_add_out"),
    "img_mlp_dim": (".ff.net",),
    "txt_mlp_dim": (".ff_context.net",),
    "img_mod_dim": (".norm1.linear",),
    "txt_mod_dim": (".norm1_context.linear",),
    "single_dim": (".proj_mlp", ".proj_out", "transformer.single_transformer_blocks.{s}.attn."),
    "single_mod_dim": (".norm.linear",),
}
_IGNORED = {
    "split_qkv": "q, k and v always have factors of their own here",
    "verbose": "the log names what is trained",
    "conv_dim": "FLUX.1's transformer has no convolutions",
    "conv_alpha": "FLUX.1's transformer has no convolutions",
}


def network(draft: Draft, options: Options, beside: Path) -> None:
    """``network`` from rank, alpha and arguments.

    Raises:
        ImportRefusedError: The adapter is of a kind that is not trained here, or T5 is trained.
    """
    block = draft["network"]
    module = (options.text("network_module") or "networks.lora_flux").lower()
    words = options.raw("network_args") or []
    arguments = optimisation.key_values(words)
    block.set("type", _kind(module, arguments))
    rank = options.integer("network_dim")
    block.set("linear", rank or 4)
    alpha = options.number("network_alpha")
    why = None if alpha is not None else "kohya's default"
    block.set("linear_alpha", alpha if alpha else (1 if alpha is None else rank or 4), why)
    block.set("respect_alpha", True, "kohya scales by alpha / rank")
    if (dropout := options.number("network_dropout")) is not None and 0 < dropout < 1:
        block.set("dropout", dropout)
    if weights := options.text("network_weights"):
        block.set("pretrained_lora_path", files.path_text(weights, beside))
    _arguments(block, arguments)
    if block.get("type") == "lora" and arguments.get("split_qkv") is not True:
        block.note(
            "kohya gives q, k and v of a block one pair of factors; here each has its own of this rank"
        )


def _kind(module: str, arguments: dict[str, Any]) -> str:
    if module in ("networks.lora_flux", "networks.lora"):
        return "lora"
    if module.startswith("lycoris"):
        algo = str(arguments.pop("algo", "lora")).lower()
        if algo in ("lora", "locon"):
            return "dora" if arguments.pop("dora_wd", False) is True else "lora"
        if algo == "lokr":
            return "lokr"
        raise ImportRefusedError(f"trains a LyCORIS {shown(algo)}; lora, dora and lokr are trained here")
    raise ImportRefusedError(f"uses {shown(module)}; networks.lora_flux and lycoris.kohya are understood")


def _arguments(block: Block, arguments: dict[str, Any]) -> None:
    if str(arguments.pop("train_t5xxl", "false")).lower() == "true":
        raise ImportRefusedError("trains T5 too (network_args train_t5xxl), which is not possible here")
    kwargs: dict[str, Any] = {}
    only: list[str] = []
    ignore: list[str] = []
    blocks = str(arguments.pop("train_blocks", "all")).lower()
    if blocks == "single":
        only.append("single_transformer_blocks.")
    elif blocks == "double":
        ignore.append("single_transformer_blocks.")
    elif blocks not in ("all", "none"):
        block.note(f"network_args train_blocks: {shown(blocks)}  is not understood")
    _indices(block, arguments, only, ignore)
    for part, names in _PARTS.items():
        rank = arguments.pop(part, None)
        if rank == 0:
            ignore += [name for pattern in names for name in _each(pattern)]
        elif rank is not None and rank != block.get("linear"):
            block.note(f"network_args {part}: {shown(rank)}  has no equal: all adapters have one rank")
    if only:
        kwargs["only_if_contains"] = only
    if ignore:
        kwargs["ignore_if_contains"] = ignore
    for key in ("rank_dropout", "module_dropout"):
        if arguments.get(key):
            kwargs[key] = arguments.pop(key)
    if kwargs:
        block.set("network_kwargs", kwargs)
    if (factor := arguments.pop("factor", None)) is not None and block.get("type") == "lokr":
        block.set("lokr_factor", factor)
    if block.get("type") == "lokr":
        block.set("lokr_full_rank", arguments.pop("full_matrix", False) is True)
    for key, value in arguments.items():
        if value in (None, False, "", 0):
            continue
        if key in _IGNORED:
            if value is True and key == "split_qkv":
                continue
            block.note(f"network_args {key}: {shown(value)}  is not needed: {_IGNORED[key]}")
        else:
            block.note(
                f"network_args {key}: {shown(value)}  has no equal: all adapters have one rank and one rate"
            )


def _indices(block: Block, arguments: dict[str, Any], only: list[str], ignore: list[str]) -> None:
    double = _chosen(arguments.pop("train_double_block_indices", None), _DOUBLE)
    single = _chosen(arguments.pop("train_single_block_indices", None), _SINGLE)
    if double is None and single is None:
        return
    for name, chosen, count in (
        ("transformer_blocks", double, _DOUBLE),
        ("single_transformer_blocks", single, _SINGLE),
    ):
        wanted = set(range(count)) if chosen is None else chosen
        only += (
            [f"transformer.{name}.{i}." for i in sorted(wanted)]
            if len(wanted) < count
            else [f"transformer.{name}."]
        )
    if not (double or double is None) and not (single or single is None):
        block.note(
            "train_double_block_indices and train_single_block_indices are both none: nothing would be "
            "trained"
        )


def _chosen(value: Any, count: int) -> set[int] | None:
    """Block numbers such as ``0,1,8-12``; None for all."""
    if isinstance(value, list):
        value = ",".join(map(str, value))
    text = str(value).strip().lower() if value is not None else "all"
    if text == "all":
        return None
    chosen: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if low.isdigit() and (not dash or high.isdigit()):
            chosen.update(range(int(low), min(int(high or low), count - 1) + 1))
    return {index for index in chosen if index < count}


def _each(pattern: str) -> list[str]:
    if "{d}" in pattern:
        return [pattern.replace("{d}", str(i)) for i in range(_DOUBLE)]
    if "{s}" in pattern:
        return [pattern.replace("{s}", str(i)) for i in range(_SINGLE)]
    return [pattern]
