"""Optimizers and learning-rate schedules by the names of other trainers."""

from __future__ import annotations

import ast
import re
from typing import Any

from config.importers.draft import Draft, shown

_OPTIMIZERS = {
    "adamw": "adamw",
    "adam": "adam",
    "adamw8bit": "adamw8bit",
    "adam8bit": "adam8bit",
    "pagedadamw8bit": "adamw8bit",
    "pagedadamw": "adamw",
    "pagedadamw32bit": "adamw",
    "adamwbf16": "adamw",
    "lion": "lion",
    "lion8bit": "lion8bit",
    "pagedlion8bit": "lion8bit",
    "ademamix8bit": "ademamix8bit",
    "pagedademamix8bit": "ademamix8bit",
    "adagrad": "adagrad",
    "adafactor": "adafactor",
    "prodigy": "prodigy",
    "dadaptation": "dadaptation",
    "dadaptadampreprint": "dadaptadam",
    "dadaptadam": "dadaptadam",
    "dadaptlion": "dadaptlion",
    "sgd": "sgd",
    "sgdnesterov": "sgd",
}
# Names that mean nearly one of ours.
_NEARLY = {
    "aoadamw8bit": "adamw8bit",
    "aoadamw4bit": "adamw8bit",
    "aoadamfp8": "adam8bit",
    "aoadamwfp8": "adamw8bit",
    "bnbadamw": "adamw",
    "bnbadam": "adam",
    "bnbadagrad": "adagrad",
    "bnbadamw8bit": "adamw8bit",
    "bnbadam8bit": "adam8bit",
    "bnbadamwpaged": "adamw",
    "bnbadamw8bitpaged": "adamw8bit",
    "bnblion": "lion",
    "bnblion8bit": "lion8bit",
    "bnblionpaged": "lion",
    "bnblion8bitpaged": "lion8bit",
    "bnbademamix8bit": "ademamix8bit",
    "bnbademamix8bitpaged": "ademamix8bit",
    "bnbademamix": "ademamix8bit",
    "ademamix": "ademamix8bit",
    "optimiadamw": "adamw",
    "optimistableadamw": "adamw",
    "optimiadam": "adam",
    "optimilion": "lion",
    "optimisgd": "sgd",
    "sgdnesterov8bit": "sgd",
    "sgd8bit": "sgd",
    "adagrad8bit": "adagrad",
    "dadaptsgd": "dadaptation",
    "prodigyplusschedulefree": "prodigy",
    "prodigyadv": "prodigy",
    "adamwadv": "adamw",
    "lionadv": "lion",
}
_ADAM = ("betas", "eps", "weight_decay", "amsgrad")
_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "adamw": _ADAM,
    "adam": _ADAM,
    "adamw8bit": _ADAM,
    "adam8bit": _ADAM,
    "lion": ("betas", "weight_decay"),
    "lion8bit": ("betas", "weight_decay"),
    "ademamix8bit": ("betas", "eps", "weight_decay", "alpha"),
    "adagrad": ("weight_decay", "eps", "lr_decay", "initial_accumulator_value"),
    "adafactor": ("eps", "clip_threshold", "decay_rate", "beta1", "weight_decay"),
    "prodigy": (
        "betas", "beta3", "eps", "weight_decay", "weight_decouple", "bias_correction", "safeguard_warmup",
        "d0", "d_coef", "growth_rate",
    ),
    "dadaptlion": ("betas", "weight_decay", "weight_decouple", "d0"),
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
}  # fmt: skip
_DADAPT = ("betas", "eps", "weight_decay", "weight_decouple", "d0", "growth_rate")
# Names of arguments in the libraries that other trainers use, and in the one that is used here.
_RENAMED = {"decouple": "weight_decouple", "use_bias_correction": "bias_correction"}
_FIXED_OFF = ("relative_step", "scale_parameter", "warmup_init")  # adafactor's, as in ai-toolkit


def optimizer(draft: Draft, name: str, arguments: dict[str, Any]) -> str:
    """``train.optimizer`` and ``optimizer_params``; returns our name for it."""
    block = draft["train"]
    bare = re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower())
    ours = _OPTIMIZERS.get(bare)
    why = None
    if ours is None:
        ours = _NEARLY.get(bare, "adamw")
        why = f"was {shown(name)}, which has no equal here; the nearest"
    elif bare.startswith("paged"):
        why = f"was {shown(name)}; nothing is paged here"
    block.set("optimizer", ours, why)
    if bare.startswith("sgdnesterov"):
        arguments = {"momentum": 0.9, "nesterov": True, **arguments}
    known = _ARGUMENTS.get(ours, _DADAPT)
    taken: dict[str, Any] = {}
    for key, value in arguments.items():
        if value is None:
            continue
        if _RENAMED.get(key, key) in known:
            taken[_RENAMED.get(key, key)] = value
        elif ours == "adafactor" and key in _FIXED_OFF:
            if value:
                block.note(f"{key}: true of adafactor has no equal: the rate is train.lr, as in ai-toolkit")
        elif value not in (False, 0, ""):
            block.note(f"{key}: {shown(value)} is no argument of {ours} here")
    if taken:
        block.set("optimizer_params", taken)
    return ours


def literal(text: str) -> Any:
    """A Python literal such as ``0.01``, ``True`` or ``0.9,0.99``; else the text itself."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        low = text.strip().lower()
        return low == "true" if low in ("true", "false") else text.strip()
    return list(value) if isinstance(value, tuple | set) else value


def key_values(words: Any) -> dict[str, Any]:
    """``a=1`` words, in a list or in one text, as a dict."""
    listed = words if isinstance(words, list) else re.split(r"[\s,]+(?=\w+\s*=)", str(words))
    pairs = (str(word).partition("=") for word in listed)
    return {key.strip(): literal(value) for key, equals, value in pairs if equals}


def schedule(
    draft: Draft, name: str, *, warmup: float = 0, cycles: float = 1, steps: int | None, floor: float = 0
) -> None:
    """``train.lr_scheduler`` and its arguments.

    Args:
        draft: The config.
        name: constant, linear, cosine, ... in the source's spelling.
        warmup: Warm-up in steps, or as a share of the run if below 1.
        cycles: Restarts of cosine_with_restarts.
        steps: Steps of the run, if known.
        floor: Lowest rate as a share of the highest.
    """
    block = draft["train"]
    if 0 < warmup < 1:
        if steps:
            warmup = round(warmup * steps)
        else:
            block.note(
                f"a warm-up over {warmup:g} of the run needs the number of steps: set num_warmup_steps"
            )
            warmup = 0
    length = max(0, int(warmup))
    bare = name.strip().lower()
    why = None
    arguments: dict[str, Any] = {}
    if bare in ("constant", "constant_with_warmup"):
        ours = "constant_with_warmup" if length else "constant"
    elif bare in ("linear", "cosine"):
        ours = bare
    elif bare in ("cosine_with_restarts", "cosine_with_hard_restarts"):
        ours = "cosine_with_restarts"
        arguments["num_cycles"] = max(1, int(cycles))
    elif bare in ("polynomial", "cosine_with_min_lr", "sine", "rex"):
        ours = "linear" if bare in ("polynomial", "rex") else "cosine"
        why = f"was {shown(name)}; the nearest"
    elif bare == "adafactor":
        ours, why = "constant", "adafactor's own schedule has no equal here"
    else:
        ours, why = "constant", f"was {shown(name)}, which has no equal here"
    if length:
        arguments["num_warmup_steps"] = length
        if ours == "constant":
            ours = "constant_with_warmup"
    lr = block.get("lr")
    if floor > 0 and ours.startswith("cosine") and isinstance(lr, float | int):
        arguments["eta_min"] = lr * floor
    elif floor > 0:
        block.note(f"a lowest learning rate of {floor:g} times the highest has an equal for cosine only")
    block.set("lr_scheduler", ours, why)
    if arguments:
        block.set("lr_scheduler_params", arguments)
