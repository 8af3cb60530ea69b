"""OneTrainer's configs and presets (JSON).

Names and defaults of options: OneTrainer, ``modules/util/config/TrainConfig.py`` and the enums beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from config.importers import base_models, files, optimisation, run_length
from config.importers.draft import Draft, run_name, shown
from config.importers.onetrainer_data import datasets, sample_items
from config.importers.onetrainer_reasons import NO_EQUAL, QUIET
from config.importers.options import ImportRefusedError, Options

_DTYPES = {"BFLOAT_16": "bf16", "FLOAT_16": "fp16", "FLOAT_32": "float32", "TFLOAT_32": "float32"}
_SAVED = {**_DTYPES, "FLOAT_8": "float8"}
_QUANTISED = {
    "FLOAT_8": "float8",
    "FLOAT_W8A8": "float8",
    "INT_8": "int8",
    "INT_W8A8": "int8",
    "NFLOAT_4": "nf4",
    "INT_4": "nf4",
}
_OPTIMIZERS = {
    "DADAPT_ADAM": "DAdaptAdam",
    "DADAPT_LION": "DAdaptLion",
    "DADAPT_SGD": "DAdaptSGD",
    "DADAPT_ADA_GRAD": "DAdaptAdaGrad",
}
_PARTS = ("transformer", "prior")  # the transformer was called prior in older versions
_ARGUMENTS = (
    "eps", "weight_decay", "momentum", "dampening", "nesterov", "d0", "d_coef", "growth_rate", "decouple",
    "use_bias_correction", "safeguard_warmup", "slice_p", "clip_threshold", "decay_rate", "relative_step",
    "scale_parameter", "warmup_init", "beta3", "amsgrad", "initial_accumulator_value", "lr_decay", "alpha",
)  # fmt: skip
_UNIT_STEPS = ("STEP", "STEPS")


def draft_from(values: Mapping[str, Any], beside: Path, stem: str) -> Draft:
    """A draft from a config or preset.

    Raises:
        ImportRefusedError: It is not for a LoRA of FLUX.1, or trains text encoders.
    """
    options = Options(values)
    _refuse(options)
    part = options.section(next((key for key in _PARTS if isinstance(values.get(key), dict)), "transformer"))
    options.raw(*_PARTS)
    if part.raw("train") is False and "prior" not in options:
        raise ImportRefusedError(
            "does not train the transformer (transformer.train is false); there is nothing to learn"
        )
    destination = options.text("output_model_destination")
    draft = Draft(run_name(PureWindowsPath(destination).stem if destination else None, stem))
    datasets(draft, options, beside)
    _network(draft, options, beside)
    _model(draft, options, part, beside)
    steps, epoch = _length(draft, options, beside)
    _optimisation(draft, options, part, steps)
    _noise(draft, options, part)
    _save(draft, options, epoch)
    _sample(draft, options, beside, epoch)
    if part.raw("attention_mask") is True:
        draft["model"].note("transformer.attention_mask  has no equal: attention sees all text tokens")
    for key in ("offload_fraction", "stop_training_after", "activation_offloading"):
        if part.raw(key):
            draft["train"].note(f"transformer.{key}: {shown(part.raw(key))}  has no equal")
    options.explain_rest(draft, NO_EQUAL, QUIET)
    return draft


def _refuse(options: Options) -> None:
    kind = options.text("model_type") or "STABLE_DIFFUSION_15"
    if kind != "FLUX_DEV_1":
        raise ImportRefusedError(f"trains {shown(kind)} (model_type); only LoRAs of FLUX_DEV_1 are imported")
    method = options.text("training_method") or "FINE_TUNE"
    if method != "LORA":
        raise ImportRefusedError(f"has training_method {shown(method)}; only LORA is trained here")
    peft = options.text("peft_type") or "LORA"
    if peft not in ("LORA", "LOKR"):
        raise ImportRefusedError(f"trains a {shown(peft)} (peft_type); LoRA, DoRA and LoKr are trained here")
    for key in ("text_encoder", "text_encoder_2"):
        encoder = options.raw(key)
        if isinstance(encoder, dict) and encoder.get("train") is True:
            raise ImportRefusedError(
                f"trains text encoders too ({key}.train), which is not possible here; set it to false to "
                "import the rest"
            )


def _network(draft: Draft, options: Options, beside: Path) -> None:
    block = draft["network"]
    lokr = options.text("peft_type") == "LOKR"
    dora = options.flag("lora_decompose")
    block.set("type", "lokr" if lokr else "dora" if dora else "lora")
    rank = (options.integer("lokr_dim") if lokr else None) or options.integer("lora_rank") or 16
    alpha = options.number("lora_alpha")
    block.set("linear", rank)
    if lokr:
        block.set("lokr_full_rank", options.flag("lokr_full_matrix"))
        block.set("lokr_factor", options.integer("lokr_decompose_factor") or -1)
    else:
        block.set("linear_alpha", alpha or 1, None if alpha else "OneTrainer's default")
        block.set("respect_alpha", True, "OneTrainer scales by alpha / rank")
    dropout = options.number("dropout_probability")
    if dropout is not None and 0 < dropout < 1:
        block.set("dropout", dropout)
    preset = options.text("layer_filter_preset")
    names = [part.strip() for part in (options.text("layer_filter") or "").split(",") if part.strip()]
    if options.flag("layer_filter_regex"):
        block.note(
            f"layer_filter: {shown(', '.join(names))}  is a regular expression, which has no equal: see "
            "network_kwargs"
        )
    elif names:
        block.set("network_kwargs", {"only_if_contains": names})
    elif preset in (None, "full"):
        block.set("transformer_only", False, "OneTrainer trains the layers outside the blocks too")
    else:
        block.note(f"layer_filter_preset: {shown(preset)}  names no layers in the file: see network_kwargs")
    if weights := options.text("lora_model_name"):
        block.set("pretrained_lora_path", files.path_text(weights, beside))


def _model(draft: Draft, options: Options, part: Options, beside: Path) -> None:
    base_models.base_model(draft, options.text("base_model_name"), beside)
    block = draft["model"]
    if transformer := part.text("model_name"):
        block.set("extras_name_or_path", block.get("name_or_path"))
        block.set("name_or_path", files.path_text(transformer, beside))
    if vae := options.section("vae").text("model_name"):
        block.set("vae_path", files.path_text(vae, beside))
    whole = options.text("weight_dtype") or "NONE"
    kind = part.text("weight_dtype") or whole
    if ours := _QUANTISED.get(kind.partition("_SVD")[0]):
        block.set("quantize", True)
        why = f"was {shown(kind)}; weights alone are smaller here" if "A8" in kind else None
        block.set("qtype", ours, why)
        encoder = options.section("text_encoder_2").text("weight_dtype") or whole
        block.set("quantize_te", encoder in _QUANTISED)
    elif kind.startswith("GGUF"):
        block.set("quantize", True)
        block.set("qtype", "nf4", f"was {shown(kind)}, which has no equal here; the nearest")
    first, second = options.section("text_encoder"), options.section("text_encoder_2")
    rates = [
        rate for rate in (first.number("dropout_probability"), second.number("dropout_probability")) if rate
    ]
    if rates:
        for dataset in draft.datasets:
            dataset.set("caption_dropout_rate", min(1.0, max(rates)), "text_encoder.dropout_probability")
        if len(set(rates)) > 1 or len(rates) == 1:
            draft["datasets"].note(
                "OneTrainer drops the caption for each text encoder on its own; here for both at once"
            )


def _length(draft: Draft, options: Options, beside: Path) -> tuple[int | None, int | None]:
    block = draft["train"]
    batch = options.integer("batch_size") or 1
    block.set("batch_size", batch)
    accumulation = options.integer("gradient_accumulation_steps") or 1
    count = run_length.samples_an_epoch(draft.datasets, beside, each_size=False)
    epoch = run_length.updates(1, count, batch, accumulation) if count else None
    epochs = options.integer("epochs") or 100
    steps = math.ceil(epochs * epoch) if epoch else None
    if steps is not None:
        block.set("steps", steps, f"{epochs} epochs of {epoch} steps ({count} pictures, repeats included)")
    else:
        block.set("steps", 1000, "not imported: see the top of the file")
        draft.urgent.append(
            f"{epochs} epochs, but the pictures are not on this machine: set train.steps to epochs x "
            "pictures x "
            "repeats / (batch_size x gradient_accumulation)"
        )
    if accumulation > 1:
        block.set("gradient_accumulation", accumulation)
    return steps, epoch


def _optimisation(draft: Draft, options: Options, part: Options, steps: int | None) -> None:
    block = draft["train"]
    value = options.raw("optimizer")
    given = Options(value if isinstance(value, dict) else {"optimizer": value})
    name = given.text("optimizer") or "ADAMW"
    arguments: dict[str, Any] = {}
    first, second = given.number("beta1"), given.number("beta2")
    if first is not None and second is not None:
        arguments["betas"] = [first, second]
    for key in _ARGUMENTS:
        if (argument := given.raw(key)) is not None and argument is not False:
            arguments[key] = argument
    optimisation.optimizer(draft, _OPTIMIZERS.get(name, name.replace("_", "")), arguments)
    own, common = part.number("learning_rate"), options.number("learning_rate")
    rate = own if own else common if common else 3e-6
    block.set("lr", rate, None if own or common else "OneTrainer's default")
    warmup = options.number("learning_rate_warmup_steps")
    optimisation.schedule(
        draft,
        options.text("learning_rate_scheduler") or "CONSTANT",
        warmup=200 if warmup is None else warmup,
        cycles=options.number("learning_rate_cycles") or 1,
        steps=steps,
        floor=options.number("learning_rate_min_factor") or 0,
    )
    if (scaler := options.text("learning_rate_scaler") or "NONE") != "NONE":
        block.note(
            f"learning_rate_scaler: {shown(scaler)}  has no equal: write the learning rate that is meant"
        )
    norm = options.number("clip_grad_norm")
    block.set("max_grad_norm", 1.0 if norm is None else norm)
    checkpointing = part.raw("gradient_checkpointing")
    whole = options.raw("gradient_checkpointing")
    block.set(
        "gradient_checkpointing",
        checkpointing is not False if whole is None else str(whole).upper() not in ("OFF", "FALSE"),
    )
    if str(whole).upper() == "CPU_OFFLOADED":
        block.note(
            "gradient_checkpointing: CPU_OFFLOADED  has no equal: nothing is moved to the CPU while training"
        )
    block.set("dtype", _DTYPES.get(options.text("train_dtype") or "FLOAT_16", "bf16"))
    if (options.text("ema") or "OFF") != "OFF":
        decay = options.number("ema_decay")
        block.set("ema_config", {"use_ema": True, "ema_decay": decay if decay and 0 < decay < 1 else 0.999})
        block.note("ema_update_step_interval: the average is updated at every step here")
    options.raw("ema_decay", "ema_update_step_interval")
    _loss(draft, options)


def _loss(draft: Draft, options: Options) -> None:
    block = draft["train"]
    squared = options.number("mse_strength")
    strengths = {
        "mse": 1.0 if squared is None else squared,
        "mae": options.number("mae_strength") or 0.0,
        "pseudo_huber": max(
            options.number("huber_strength") or 0.0, options.number("log_cosh_strength") or 0.0
        ),
    }
    best = max(strengths, key=lambda key: strengths[key])
    block.set("loss_type", best)
    if sum(value > 0 for value in strengths.values()) > 1:
        block.note(
            "mse_strength, mae_strength, huber_strength and log_cosh_strength: one loss only here, the "
            "strongest"
        )
    elif best == "pseudo_huber":
        block.note("log_cosh_strength and huber_strength: pseudo_huber has a fixed c of 0.01 here")
    if (weight := options.text("loss_weight_fn") or "CONSTANT") != "CONSTANT":
        block.note(
            f"loss_weight_fn: {shown(weight)}  has no equal: it weighs by signal-to-noise, FLUX.1 is a "
            "flow-matching model"
        )
    if (offset := options.number("offset_noise_weight")) is not None and offset > 0:
        block.set("noise_offset", offset)


def _noise(draft: Draft, options: Options, part: Options) -> None:
    block = draft["train"]
    kind = options.text("timestep_distribution") or "UNIFORM"
    shift = options.number("timestep_shift")
    shift = 1.0 if shift is None else shift
    dynamic = options.flag("dynamic_timestep_shifting")
    how = "by the picture's size" if dynamic else f"by {shift:g}"
    shifted = dynamic or shift != 1
    bias, weight = options.number("noising_bias") or 0.0, options.number("noising_weight") or 0.0
    if kind == "UNIFORM":
        block.set(
            "timestep_type",
            "flux_shift" if shifted else "linear",
            f"was shifted {how}; ours by the picture's size" if shifted and not dynamic else None,
        )
    elif kind == "LOGIT_NORMAL" and shifted:
        block.set(
            "timestep_type",
            "flux_shift",
            f"OneTrainer shifts a normal draw {how}; ours a uniform one by the picture's size, so it is "
            "broader",
        )
    elif kind == "LOGIT_NORMAL":
        block.set("timestep_type", "sigmoid")
    else:
        block.set("timestep_type", "sigmoid", f"was {shown(kind)}, which has no equal here; the nearest")
    if bias or weight:
        block.note(
            f"noising_bias: {bias:g} and noising_weight: {weight:g}  have no equal: the draw is a "
            "standard normal"
        )
    low, high = options.number("min_noising_strength"), options.number("max_noising_strength")
    if high is not None and 0 < high < 1:
        block.set(
            "min_denoising_steps",
            round((1 - high) * 1000),
            f"max_noising_strength {high:g}, from the noisy end",
        )
    if low is not None and 0 < low < 1:
        block.set(
            "max_denoising_steps",
            round((1 - low) * 1000),
            f"min_noising_strength {low:g}, from the noisy end",
        )
    guidance = part.number("guidance_scale")
    block.set("cfg_scale", 1.0 if guidance is None else guidance, "guidance fed to the model while training")


def _save(draft: Draft, options: Options, epoch: int | None) -> None:
    block = draft["save"]
    block.set("dtype", _SAVED.get(options.text("output_dtype") or "FLOAT_32", "float16"))
    every, why = _interval(
        options.number("save_every") or 0, options.text("save_every_unit") or "NEVER", epoch
    )
    block.set("save_every", every, why or ("only at the end" if not every else None))
    block.set("max_step_saves_to_keep", 0, "all")


def _interval(number: float, unit: str, epoch: int | None) -> tuple[int, str | None]:
    """An interval in steps, and what it was if it could not be kept."""
    if unit in ("NEVER", "") or number <= 0:
        return 0, None
    if unit in _UNIT_STEPS:
        return max(1, int(number)), None
    if unit == "EPOCH" and epoch:
        return max(1, round(number * epoch)), f"every {number:g} epochs"
    return 250, f"was every {number:g} {unit.lower()}s, which has no equal here"


def _sample(draft: Draft, options: Options, beside: Path, epoch: int | None) -> None:
    block = draft["sample"]
    after = options.number("sample_after")
    every, why = _interval(
        10 if after is None else after, options.text("sample_after_unit") or "MINUTE", epoch
    )
    block.set("sample_every", every, why)
    if skip := options.integer("sample_skip_first"):
        block.set(
            "sample_start_step",
            skip if (options.text("sample_after_unit") or "") in _UNIT_STEPS else skip * (epoch or 1),
        )
    if (form := (options.text("sample_image_format") or "JPG").lower()) in ("jpg", "png", "webp"):
        block.set("format", form)
    items = sample_items(draft, options, beside)
    if items:
        block.set("samples", items)
