"""kohya sd-scripts' ``flux_train_network.py``, and fluxgym, which writes commands for it.

Names and defaults of options: sd-scripts, ``library/train_util.py``, ``train_network.py`` and
``library/flux_train_utils.py``; fluxgym, ``app.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.importers import base_models, files, optimisation, run_length
from config.importers.draft import Draft, run_name, shown
from config.importers.kohya_data import datasets, samples
from config.importers.kohya_network import network
from config.importers.kohya_reasons import NO_EQUAL, QUIET
from config.importers.options import ImportRefusedError, Options

_OTHER_SCRIPTS = {
    "train_network.py": "Stable Diffusion 1.5 or 2",
    "sdxl_train_network.py": "SDXL",
    "sd3_train_network.py": "Stable Diffusion 3",
    "lumina_train_network.py": "Lumina",
    "anima_train_network.py": "Anima",
    "hunyuan_image_train_network.py": "HunyuanImage",
    "flux_train.py": "a whole FLUX.1 rather than a LoRA",
    "flux_train_control_net.py": "a ControlNet",
    "train_textual_inversion.py": "an embedding",
}
_FLUX_KEYS = ("clip_l", "t5xxl", "ae", "timestep_sampling", "model_prediction_type", "discrete_flow_shift")
_DTYPES = {"bf16": "bf16", "fp16": "fp16", "no": "float32", "float": "float32", "fp32": "float32"}


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a ``--config_file``: its section names mean nothing to sd-scripts."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        result.update(value) if isinstance(value, dict) else result.update({key: value})
    return result


def from_command(
    script: str, values: dict[str, Any], launch: dict[str, Any], beside: Path, stem: str
) -> Draft:
    """A draft from the options of a command line.

    Raises:
        ImportRefusedError: The command trains something else than a LoRA of FLUX.1.
    """
    if script != "flux_train_network.py":
        what = _OTHER_SCRIPTS.get(script)
        raise ImportRefusedError(
            f"calls {script}, which trains {what}; only FLUX.1 LoRAs are trained here"
            if what
            else f"calls {shown(script)}; only kohya's flux_train_network.py is understood"
        )
    if isinstance(file := values.pop("config_file", None), str):
        found = files.companion(file if file.endswith(".toml") else f"{file}.toml", beside)
        if found is None:
            raise ImportRefusedError(f"names --config_file {shown(file)}, which is not here")
        values = {**flat(files.read_toml(found)), **values}
    if "mixed_precision" in launch:
        values.setdefault("mixed_precision", launch["mixed_precision"])
    draft = draft_from(values, beside, stem)
    if str(launch.get("num_processes", "1")) not in ("1", "True"):
        draft[""].note(f"num_processes: {shown(launch['num_processes'])}  has no equal: a run uses one GPU")
    return draft


def draft_from(values: Mapping[str, Any], beside: Path, stem: str) -> Draft:
    """A draft from options by name, whatever they came from.

    Raises:
        ImportRefusedError: They are for another model, or train text encoders.
    """
    options = Options(values)
    _refuse(options)
    draft = Draft(run_name(options.text("output_name"), stem))
    base_models.training_folder(draft, "output_dir", options.text("output_dir"))
    datasets(draft, options, beside)
    if (seed := options.integer("seed")) is not None:
        draft[""].set("training_seed", seed)
    network(draft, options, beside)
    base_models.base_model(draft, options.text("pretrained_model_name_or_path"), beside)
    _model(draft, options)
    steps, epoch = _length(draft, options, beside)
    _optimisation(draft, options, steps)
    _noise(draft, options)
    _save(draft, options, epoch)
    samples(draft, options, beside, epoch)
    _logging(draft, options)
    options.explain_rest(draft, NO_EQUAL, QUIET)
    return draft


def _refuse(options: Options) -> None:
    module = str(options.raw("network_module") or "")
    model = str(options.raw("pretrained_model_name_or_path") or "")
    if str(options.raw("model_type") or "flux") != "flux":
        raise ImportRefusedError(
            f"trains {shown(options.raw('model_type'))}; only FLUX.1 LoRAs are trained here"
        )
    if not ("flux" in module or "flux" in model.lower() or any(key in options for key in _FLUX_KEYS)):
        raise ImportRefusedError(
            "is a kohya config for another model than FLUX.1, such as SD 1.5 or SDXL: it has neither "
            "network_module networks.lora_flux nor clip_l, t5xxl or ae"
        )
    if options.flag("network_train_text_encoder_only"):
        raise ImportRefusedError(
            "trains text encoders only (network_train_text_encoder_only); nothing of that is possible here"
        )
    unet_only = options.flag("network_train_unet_only")
    rates = options.raw("text_encoder_lr")
    rates = rates if isinstance(rates, list) else re.split(r"[\s,]+", str(rates or "0").strip())
    if not unet_only and any(optimisation.literal(str(rate)) not in (0, 0.0) for rate in rates):
        raise ImportRefusedError(
            "trains text encoders too (text_encoder_lr), which is not possible here; "
            "add network_train_unet_only to import the rest"
        )


def _model(draft: Draft, options: Options) -> None:
    block = draft["model"]
    whole, transformer = options.flag("fp8_base"), options.flag("fp8_base_unet")
    if whole or transformer:
        block.set("quantize", True)
        block.set("qtype", "float8")
        block.set("quantize_te", whole and not transformer)
    if options.flag("apply_t5_attn_mask"):
        block.set("attn_masking", True)
    weights = options.raw("base_weights")
    if weights:
        files = weights if isinstance(weights, list) else [weights]
        block.set("lora_path", str(files[0]))
        factor = options.raw("base_weights_multiplier")
        if len(files) > 1 or factor not in (None, 1, 1.0, "1", "1.0"):
            block.note("base_weights: only the first LoRA is fused, at full strength")
    if not options.flag("network_train_unet_only") and "text_encoder_lr" not in options:
        draft["train"].note(
            "without network_train_unet_only kohya trains CLIP-L as well; here the transformer alone is "
            "trained"
        )


def _length(draft: Draft, options: Options, beside: Path) -> tuple[int | None, int | None]:
    """Steps of the run and of an epoch, where they are known."""
    block = draft["train"]
    batch = int(block.get("batch_size") or 1)
    accumulation = options.integer("gradient_accumulation_steps") or 1
    count = run_length.samples_an_epoch(draft.datasets, beside)
    epoch = run_length.updates(1, count, batch, accumulation) if count else None
    epochs = options.number("max_train_epochs", "epoch")
    steps = options.integer("max_train_steps")
    if epochs is None:
        steps = steps or 1600
        block.set("steps", steps)
    elif epoch is not None:
        steps = math.ceil(epochs * epoch)
        block.set("steps", steps, f"{epochs:g} epochs of {epoch} steps ({count} pictures, repeats included)")
    else:
        steps = None
        text = (
            f"{epochs:g} epochs, but the pictures are not on this machine: set train.steps to epochs x "
            "pictures x "
            "repeats / (batch_size x gradient_accumulation)"
        )
        block.set("steps", 1000, "not imported: see the top of the file")
        draft.urgent.append(text)
    if accumulation > 1:
        block.set("gradient_accumulation", accumulation)
    block.set("gradient_checkpointing", options.flag("gradient_checkpointing"))
    return steps, epoch


def _optimisation(draft: Draft, options: Options, steps: int | None) -> None:
    block = draft["train"]
    lr, transformer_lr = options.number("learning_rate"), options.number("unet_lr")
    rate = transformer_lr if transformer_lr is not None else lr if lr is not None else 2e-6
    name = options.text("optimizer_type") or "AdamW"
    if options.flag("use_8bit_adam"):
        name = "AdamW8bit"
    if options.flag("use_lion_optimizer"):
        name = "Lion"
    words = options.raw("optimizer_args") or []
    optimisation.optimizer(draft, name, optimisation.key_values(words))
    given = lr is not None or transformer_lr is not None
    if rate > 0:
        block.set("lr", rate, None if given else "kohya's default")
    warmup = options.number("lr_warmup_steps") or 0
    optimisation.schedule(
        draft,
        options.text("lr_scheduler") or "constant",
        warmup=warmup,
        cycles=options.number("lr_scheduler_num_cycles") or 1,
        steps=steps,
        floor=options.number("lr_scheduler_min_lr_ratio") or 0,
    )
    norm = options.number("max_grad_norm")
    block.set("max_grad_norm", 1.0 if norm is None else norm)
    precision = (options.text("mixed_precision") or "no").lower()
    block.set("dtype", _DTYPES.get(precision, "bf16"))
    if options.flag("full_bf16") or options.flag("full_fp16"):
        block.note("full_bf16 and full_fp16 have no equal: the LoRA's own weights stay float32")


def _noise(draft: Draft, options: Options) -> None:
    block = draft["train"]
    kind = (options.text("timestep_sampling") or "sigma").lower()
    shift = options.number("discrete_flow_shift")
    shift = 3.0 if shift is None else shift
    scheme = (options.text("weighting_scheme") or "none").lower()
    if kind == "uniform":
        block.set("timestep_type", "linear")
    elif kind == "sigmoid" or (kind == "shift" and shift < 1.3):
        block.set("timestep_type", "sigmoid")
    elif kind in ("shift", "flux_shift"):
        how = f"shift by {shift:g}" if kind == "shift" else "flux_shift"
        why = (
            f"kohya's {how} of a normal draw; ours shifts a uniform one by the picture's size, so it "
            "is broader"
        )
        block.set("timestep_type", "flux_shift", why)
    elif scheme == "logit_normal":
        block.set("timestep_type", "sigmoid", f"sigma with logit_normal; its shift of {shift:g} has no equal")
    else:
        why = f"sigma, shifted by {shift:g}; ours shifts by the picture's size, by 3.16 at 1024 pixels"
        block.set("timestep_type", "flux_shift", why)
    scale = options.number("sigmoid_scale")
    if scale not in (None, 1.0) and kind in ("sigmoid", "shift", "flux_shift"):
        block.note(f"sigmoid_scale: {scale:g}  has no equal: the draw has the width of a standard normal")
    if scheme not in ("none", "logit_normal", "uniform"):
        block.note(f"weighting_scheme: {shown(scheme)}  has no equal; timestep_type: weighted is related")
    if options.number("logit_mean") or options.number("logit_std") not in (None, 1.0):
        block.note("logit_mean and logit_std have no equal: 0 and 1 are used")
    prediction = (options.text("model_prediction_type") or "sigma_scaled").lower()
    if prediction != "raw":
        block.note(
            f"model_prediction_type: {shown(prediction)}  has no equal: the prediction is used as it is (raw)"
        )
    guidance = options.number("guidance_scale")
    block.set("cfg_scale", 3.5 if guidance is None else guidance, "guidance fed to the model while training")
    if (offset := options.number("noise_offset")) is not None and offset > 0:
        block.set("noise_offset", offset)
    low, high = options.integer("min_timestep"), options.integer("max_timestep")
    if low is not None and 0 < low < 1000:
        block.set("max_denoising_steps", 1000 - low, f"min_timestep {low}, counted from the noisy end")
    if high is not None and 0 < high < 1000:
        block.set("min_denoising_steps", 1000 - high, f"max_timestep {high}, counted from the noisy end")
    loss = (options.text("loss_type") or "l2").lower()
    ours = {"l2": "mse", "l1": "mae"}.get(loss, "pseudo_huber")
    block.set("loss_type", ours)
    if ours == "pseudo_huber":
        block.note(
            f"loss_type: {shown(loss)} and its huber_c and huber_schedule: pseudo_huber has a fixed c of "
            "0.01 here"
        )
    if (weight := options.number("prior_loss_weight")) not in (None, 1.0):
        block.set("reg_weight", weight)


def _save(draft: Draft, options: Options, epoch: int | None) -> None:
    block = draft["save"]
    precision = (options.text("save_precision") or "float").lower()
    block.set("dtype", _DTYPES.get(precision, "float16"))
    steps, epochs = options.integer("save_every_n_steps"), options.integer("save_every_n_epochs")
    ratio = options.integer("save_n_epoch_ratio")
    total = int(draft["train"].get("steps") or 1)
    if steps:
        block.set("save_every", steps)
    elif epochs and epoch:
        block.set("save_every", epochs * epoch, f"every {epochs} epochs")
    elif ratio:
        block.set("save_every", max(1, total // ratio), f"{ratio} checkpoints in all")
    elif epochs:
        block.set("save_every", 250, f"was every {epochs} epochs of unknown length")
    else:
        block.set("save_every", 0, "only at the end")
    last_steps, last_epochs = options.integer("save_last_n_steps"), options.integer("save_last_n_epochs")
    if last_steps and steps:
        block.set("max_step_saves_to_keep", last_steps // steps + 1)
    elif last_epochs:
        block.set("max_step_saves_to_keep", last_epochs)
    else:
        block.set("max_step_saves_to_keep", 0, "all")
    if repository := options.text("huggingface_repo_id"):
        block.set("push_to_hub", True)
        block.set("hf_repo_id", repository)
        block.set("hf_private", (options.text("huggingface_repo_visibility") or "private") != "public")


def _logging(draft: Draft, options: Options) -> None:
    if folder := options.text("logging_dir"):
        draft[""].set("log_dir", folder)
    if (options.text("log_with") or "").lower() in ("wandb", "all"):
        draft["logging"].set("use_wandb", True)
        if project := options.text("log_tracker_name"):
            draft["logging"].set("project_name", project)
        if name := options.text("wandb_run_name"):
            draft["logging"].set("run_name", name)
