"""SimpleTuner's ``config.json``.

Names and defaults of options: SimpleTuner, ``documentation/OPTIONS.md`` and ``DATALOADER.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.importers import base_models, files, optimisation, run_length
from config.importers.draft import Draft, run_name, shown
from config.importers.options import ImportRefusedError, Options
from config.importers.simpletuner_data import datasets, epoch_samples
from config.importers.simpletuner_reasons import NO_EQUAL, QUIET

_BASES = {"dev": base_models.DEV, "schnell": base_models.SCHNELL, "krea": base_models.KREA}
_DTYPES = {"bf16": "bf16", "fp16": "fp16", "no": "float32", "fp8": "bf16"}
# Which layers a target names, as substrings of diffusers' module names; None for all of ours.
_TARGETS: dict[str, list[str] | None] = {
    "all": [".attn."],
    "all+ffs": [".attn.", ".ff.net", ".ff_context.net", ".proj_mlp", ".proj_out"],
    "mmdit": [".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out"],
    "context": [".attn.add_", ".attn.to_add_out"],
    "context+ffs": [".attn.add_", ".attn.to_add_out", ".ff_context.net"],
    "ai-toolkit": None,
    "tiny": ["single_transformer_blocks.7.proj_out", "single_transformer_blocks.20.proj_out"],
    "nano": ["single_transformer_blocks.7.proj_out"],
}


def draft_from(values: Mapping[str, Any], beside: Path, stem: str) -> Draft:
    """A draft from options by name, without leading dashes.

    Raises:
        ImportRefusedError: They are not for a LoRA of FLUX.1, or train text encoders.
    """
    options = Options(values)
    _refuse(options)
    hub_id = options.text("hub_model_id")
    name = (hub_id or "").rpartition("/")[2] or options.text("tracker_run_name")
    draft = Draft(run_name(name, stem))
    base_models.training_folder(draft, "output_dir", options.text("output_dir"))
    datasets(draft, options, beside)
    if (seed := options.integer("seed")) is not None:
        draft[""].set("training_seed", seed)
    _network(draft, options, beside)
    _model(draft, options, beside)
    steps, epoch = _length(draft, options, beside)
    _optimisation(draft, options, steps)
    _noise(draft, options)
    _save(draft, options, epoch, hub_id)
    _sample(draft, options, beside, epoch)
    _logging(draft, options)
    options.explain_rest(draft, NO_EQUAL, QUIET)
    return draft


def _refuse(options: Options) -> None:
    family = options.text("model_family") or ("flux" if options.flag("flux") else "")
    if family != "flux":
        raise ImportRefusedError(
            f"trains {shown(family or 'an unnamed model')} (model_family); only FLUX.1 LoRAs are trained here"
        )
    kind = options.text("model_type") or "lora"
    if kind != "lora":
        raise ImportRefusedError(f"trains a {shown(kind)} model (model_type); only LoRAs are trained here")
    if options.flag("controlnet") or options.flag("control"):
        raise ImportRefusedError("trains a ControlNet, which is not possible here")
    if options.flag("train_text_encoder"):
        raise ImportRefusedError(
            "trains text encoders too (train_text_encoder), which is not possible here; set it to false "
            "to import the rest"
        )
    flavour = (options.text("model_flavour") or "dev").lower()
    if flavour not in _BASES:
        raise ImportRefusedError(
            f"trains FLUX.1's {shown(flavour)} (model_flavour); dev, schnell and krea are trained here"
        )


def _network(draft: Draft, options: Options, beside: Path) -> None:
    block = draft["network"]
    block.set("type", "dora" if options.flag("use_dora") else "lora")
    rank = options.integer("lora_rank") or 16
    alpha = options.number("lora_alpha")
    dropout = options.number("lora_dropout")
    kind = (options.text("lora_type") or "standard").lower()
    if kind == "lycoris":
        _lycoris(draft, options.text("lycoris_config") or "config/lycoris_config.json", beside)
        options.raw("flux_lora_target", "init_lokr_norm")
    else:
        block.set("linear", rank)
        block.set("linear_alpha", alpha or rank)
        block.set("respect_alpha", True, "SimpleTuner scales by alpha / rank")
        dropout = 0.1 if dropout is None else dropout
        if 0 < dropout < 1:
            block.set("dropout", dropout)
        target = (options.text("flux_lora_target") or "all").lower()
        if target not in _TARGETS:
            block.note(
                f"flux_lora_target: {shown(target)}  has no equal: all layers of the transformer blocks "
                "are trained"
            )
        elif names := _TARGETS[target]:
            block.set("network_kwargs", {"only_if_contains": names})
    if weights := options.text("init_lora"):
        block.set("pretrained_lora_path", files.path_text(weights, beside))


def _lycoris(draft: Draft, file: str, beside: Path) -> None:
    block = draft["network"]
    found = files.companion(file, beside)
    if found is None:
        draft.urgent.append(f"the LyCORIS file {shown(file)} is not here: look at the network section")
        block.set("linear", 16)
        return
    data = files.read_json(found)
    options = Options(data if isinstance(data, dict) else {})
    algo = (options.text("algo") or "lora").lower()
    if algo not in ("lokr", "lora", "locon"):
        raise ImportRefusedError(f"trains a LyCORIS {shown(algo)}; lora, dora and lokr are trained here")
    rank = options.integer("linear_dim") or 16
    if algo == "lokr":
        block.set("type", "lokr")
        full = options.flag("full_matrix") or rank >= 10_000
        block.set("lokr_full_rank", full)
        block.set("lokr_factor", options.integer("factor") or -1)
        rank = 16 if full else rank
    block.set("linear", min(rank, 3072))
    if (alpha := options.number("linear_alpha")) and algo != "lokr":
        block.set("linear_alpha", alpha)
        block.set("respect_alpha", True, "LyCORIS scales by alpha / rank")
    preset = options.section("apply_preset")
    targets = preset.raw("target_module")
    if targets:
        names = {
            "Attention": [".attn."],
            "FeedForward": [".ff.net", ".ff_context.net", ".proj_mlp", ".proj_out"],
        }
        chosen = (
            [part for target in targets for part in names.get(str(target), [])]
            if isinstance(targets, list)
            else []
        )
        if chosen:
            block.set("network_kwargs", {"only_if_contains": chosen})
        if preset.raw("module_algo_map"):
            block.note("module_algo_map of the LyCORIS file has no equal: all adapters are alike")
    elif preset.raw("name_algo_map", "target_name"):
        block.note(
            "apply_preset of the LyCORIS file has no equal: all layers of the transformer blocks are trained"
        )
    for key, value in options.left():
        if key != "multiplier" or value != 1:
            block.note(f"{key} of the LyCORIS file: {shown(value)}  has no equal")


def _model(draft: Draft, options: Options, beside: Path) -> None:
    flavour = (options.text("model_flavour") or "dev").lower()
    base_models.base_model(draft, options.text("pretrained_model_name_or_path") or _BASES[flavour], beside)
    block = draft["model"]
    if transformer := options.text("pretrained_transformer_model_name_or_path"):
        block.set("extras_name_or_path", block.get("name_or_path"))
        block.set("name_or_path", transformer)
    if vae := options.text("pretrained_vae_model_name_or_path"):
        block.set("vae_path", vae)
    precision = (options.text("base_model_precision") or "no_change").lower()
    if precision not in ("no_change", "bf16", "fp32", "fp16"):
        block.set("quantize", True)
        ours = "float8" if "fp8" in precision else "int8" if "int8" in precision else "nf4"
        why = None if precision.startswith(("fp8", "int8", "nf4")) else f"was {shown(precision)}; the nearest"
        block.set("qtype", ours, why)
        encoder = (options.text("text_encoder_2_precision") or "no_change").lower()
        block.set("quantize_te", encoder != "no_change")
    else:
        options.raw("text_encoder_2_precision")
    options.raw("text_encoder_1_precision", "text_encoder_3_precision", "text_encoder_4_precision")


def _length(draft: Draft, options: Options, beside: Path) -> tuple[int | None, int | None]:
    block = draft["train"]
    batch = options.integer("train_batch_size", "train_batch") or 1
    block.set("batch_size", batch)
    accumulation = options.integer("gradient_accumulation_steps") or 1
    count = epoch_samples(draft, beside)
    epoch = run_length.updates(1, count, batch, accumulation) if count else None
    steps, epochs = options.integer("max_train_steps"), options.number("num_train_epochs")
    if steps:
        block.set("steps", steps)
    elif epochs and epoch:
        steps = math.ceil(epochs * epoch)
        block.set("steps", steps, f"{epochs:g} epochs of {epoch} steps ({count} pictures, repeats included)")
    else:
        steps = None
        block.set("steps", 1000, "not imported: see the top of the file")
        what = (
            f"{epochs:g} epochs, but the pictures are not on this machine"
            if epochs
            else "the source names no length"
        )
        draft.urgent.append(
            f"{what}: set train.steps to epochs x pictures x repeats / (batch_size x gradient_accumulation)"
        )
    if accumulation > 1:
        block.set("gradient_accumulation", accumulation)
    block.set("gradient_checkpointing", options.flag("gradient_checkpointing"))
    return steps, epoch


def _optimisation(draft: Draft, options: Options, steps: int | None) -> None:
    block = draft["train"]
    arguments = optimisation.key_values(options.text("optimizer_config") or "")
    first, second = (
        options.number("optimizer_beta1", "adam_beta1"),
        options.number("optimizer_beta2", "adam_beta2"),
    )
    if first is not None and second is not None:
        arguments["betas"] = [first, second]
    if (decay := options.number("adam_weight_decay")) is not None:
        arguments["weight_decay"] = decay
    if (eps := options.number("adam_epsilon")) is not None:
        arguments["eps"] = eps
    optimisation.optimizer(draft, options.text("optimizer") or "adamw_bf16", arguments)
    rate = options.number("learning_rate")
    block.set("lr", rate if rate and rate > 0 else 4e-7, None if rate else "SimpleTuner's default")
    end = options.number("lr_end") or 0
    optimisation.schedule(
        draft,
        options.text("lr_scheduler") or "constant",
        warmup=options.number("lr_warmup_steps") or 0,
        cycles=options.number("lr_num_cycles") or 1,
        steps=steps,
        floor=end / rate
        if rate and 0 < end < rate and (options.text("lr_scheduler") or "").startswith("cosine")
        else 0,
    )
    norm = options.number("max_grad_norm")
    block.set("max_grad_norm", 2.0 if norm is None else norm)
    if (options.text("grad_clip_method") or "value").lower() == "value":
        block.note("grad_clip_method: value  has no equal: gradients are clipped by their norm")
    block.set("dtype", _DTYPES.get((options.text("mixed_precision") or "bf16").lower(), "bf16"))
    if options.flag("use_ema"):
        decay = options.number("ema_decay")
        block.set("ema_config", {"use_ema": True, "ema_decay": decay if decay and 0 < decay < 1 else 0.995})
    loss = (options.text("loss_type") or "l2").lower()
    block.set(
        "loss_type",
        "mse" if loss == "l2" else "pseudo_huber",
        None if loss == "l2" else f"was {shown(loss)}; its c is 0.01 here",
    )
    offset = options.number("noise_offset")
    if options.flag("offset_noise"):
        block.set("noise_offset", 0.1 if offset is None else offset)


def _noise(draft: Draft, options: Options) -> None:
    block = draft["train"]
    shift = options.number("flow_schedule_shift", "flux_schedule_shift")
    shift = 3.0 if shift is None else shift
    auto = options.flag("flow_schedule_auto_shift", "flux_schedule_auto_shift")
    uniform = options.flag("flow_use_uniform_schedule", "flux_use_uniform_schedule")
    shifted = auto or shift not in (0, 1)
    how = "by the picture's size" if auto else f"by {shift:g}"
    if options.flag("flux_fast_schedule"):
        block.note("flux_fast_schedule  has no equal; see timestep_type")
    if options.flag("flow_use_beta_schedule", "flux_use_beta_schedule"):
        block.set("timestep_type", "sigmoid", "was a beta distribution, which has no equal; the nearest")
    elif uniform and not shifted:
        block.set("timestep_type", "linear")
    elif uniform:
        block.set(
            "timestep_type", "flux_shift", None if auto else f"was shifted {how}; ours by the picture's size"
        )
    elif not shifted:
        block.set("timestep_type", "sigmoid")
    else:
        why = (
            f"SimpleTuner shifts a normal draw {how}; ours a uniform one by the picture's size, so it "
            "is broader"
        )
        block.set("timestep_type", "flux_shift", why)
    scale = options.number("flow_sigmoid_scale", "flow_matching_sigmoid_scale")
    if scale not in (None, 1.0) and not uniform:
        block.note(
            f"flow_sigmoid_scale: {scale:g}  has no equal: the draw has the width of a standard normal"
        )
    guidance = options.number("flux_guidance_value")
    if (options.text("flux_guidance_mode") or "constant").lower() != "constant":
        low, high = options.number("flux_guidance_min") or 0.0, options.number("flux_guidance_max") or 4.0
        guidance = (low + high) / 2
        block.note(
            f"flux_guidance_mode: random-range from {low:g} to {high:g}  has no equal: cfg_scale is its "
            "middle"
        )
    else:
        options.raw("flux_guidance_min", "flux_guidance_max")
    block.set("cfg_scale", 1.0 if guidance is None else guidance, "guidance fed to the model while training")


def _save(draft: Draft, options: Options, epoch: int | None, hub_id: str | None) -> None:
    block = draft["save"]
    block.set("dtype", "bf16")
    every = options.integer("checkpoint_step_interval", "checkpointing_steps")
    epochs = options.integer("checkpoint_epoch_interval")
    if not every and epochs:
        block.set(
            "save_every",
            epochs * epoch if epoch else 250,
            f"every {epochs} epochs" + ("" if epoch else " of unknown length"),
        )
    else:
        block.set("save_every", every or 500)
    keep = options.integer("checkpoints_total_limit")
    block.set("max_step_saves_to_keep", keep or 0, None if keep else "all")
    if options.flag("push_to_hub"):
        block.set("push_to_hub", True)
        if hub_id and "/" in hub_id:
            block.set("hf_repo_id", hub_id)
        else:
            block.set("push_to_hub", False, "SimpleTuner uploads to your account: set hf_repo_id: you/name")
        block.set("hf_private", options.flag("model_card_private"))


def _sample(draft: Draft, options: Options, beside: Path, epoch: int | None) -> None:
    block, train = draft["sample"], draft["train"]
    every = options.integer("validation_step_interval", "validation_steps")
    epochs = options.integer("validation_epoch_interval")
    if not every and epochs:
        block.set(
            "sample_every",
            epochs * epoch if epoch else 250,
            f"every {epochs} epochs" + ("" if epoch else " of unknown length"),
        )
    else:
        block.set("sample_every", every or 100)
    if options.flag("disable_benchmark"):
        train.set("skip_first_sample", True)
    if options.flag("validation_disable"):
        train.set("disable_sampling", True)
    size = options.text("validation_resolution") or "1024"
    numbers = re.findall(r"\d+", size.split(",")[0].split("@")[0])
    width, height = (int(numbers[0]), int(numbers[-1])) if numbers else (1024, 1024)
    block.set("width", min(4096, max(64, width)) if width > 4 else 1024)
    block.set("height", min(4096, max(64, height)) if height > 4 else 1024)
    if "," in size:
        block.note(f"validation_resolution: {shown(size)}  only the first size was taken over")
    block.set("sample_steps", min(1000, options.integer("validation_num_inference_steps") or 30))
    guidance = options.number("validation_guidance")
    block.set("guidance_scale", 3.0 if guidance is None else max(0.0, guidance))
    seed = options.integer("validation_seed")
    block.set("seed", -1 if seed is None else seed)
    prompts = [prompt] if (prompt := options.text("validation_prompt")) else []
    if library := options.text("user_prompt_library"):
        found = files.companion(library, beside)
        data = files.read_json(found) if found else None
        if isinstance(data, dict):
            prompts += [
                str(text.get("prompt", "")) if isinstance(text, dict) else str(text) for text in data.values()
            ]
        else:
            block.note(f"user_prompt_library: {shown(library)}  is not here; add its prompts to prompts")
    if prompts:
        block.set("prompts", [text for text in prompts if text.strip()])


def _logging(draft: Draft, options: Options) -> None:
    trackers = (options.text("report_to") or "").lower().split(",")
    folder = options.text("logging_dir")
    if "tensorboard" in trackers or "all" in trackers:
        draft[""].set("log_dir", folder or "logs")
    if "wandb" in trackers or "all" in trackers:
        draft["logging"].set("use_wandb", True)
        if project := options.text("tracker_project_name"):
            draft["logging"].set("project_name", project)
        if name := options.text("tracker_run_name"):
            draft["logging"].set("run_name", name)
    else:
        options.raw("tracker_project_name", "tracker_run_name")
