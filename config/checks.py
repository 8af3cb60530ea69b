"""Contradictions between valid values: what would waste time or money if it were launched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from config.paths import looks_like_path
from config.problems import Problem
from config.schema import RunConfig

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
# FLUX.1's hidden width: an adapter of a higher rank than a layer has rows adds nothing.
_WIDTH = 3072
_MANY_EPOCHS = 400  # passes over every picture; people report 50 to 150 as plenty


def count_pictures(folder: Path, enough: int | None = None) -> int:
    """Pictures in the folder and below (``enough`` ends the count early); hidden folders do not count."""
    count = 0
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES for name in files)
        if enough is not None and count >= enough:
            return count
    return count


def cross_checks(config: RunConfig) -> Iterator[Problem]:
    """Problems that need only the config."""
    yield from _steps(config)
    yield from _network(config)
    yield from _captions(config)
    yield from _model(config)
    yield from _noise(config)
    yield from _validation(config)


def _steps(config: RunConfig) -> Iterator[Problem]:
    process = config.process
    train, save, sample = process.train, process.save, process.sample
    if save.save_every > train.steps:
        yield Problem(
            "warning",
            "save.save_every",
            f"{save.save_every} is more than train.steps ({train.steps}): only the final file is saved",
        )
    if _samples(config) and sample.sample_every > train.steps:
        yield Problem(
            "info",
            "sample.sample_every",
            f"{sample.sample_every} is more than train.steps ({train.steps}): no samples during training",
        )
    if sample.where == "async" and _samples(config):
        yield Problem(
            "info", "sample.where", "async has an effect on Modal only: elsewhere the trainer draws samples"
        )
    if (
        train.lr > 0.01
        and train.optimizer not in ("prodigy", "prodigy8bit", "sgd")
        and "dadapt" not in train.optimizer
    ):
        yield Problem("warning", "train.lr", f"{train.lr:g} is very high for {train.optimizer}")
    if not train.train_unet:
        yield Problem("error", "train.train_unet", "is false: nothing would be trained")
    if save.push_to_hub and not save.hf_repo_id:
        yield Problem(
            "info", "save.push_to_hub", "goes to your own account under config.name; hf_repo_id names another"
        )


def _network(config: RunConfig) -> Iterator[Problem]:
    network = config.process.network
    if network.rank > _WIDTH and network.type != "lokr":
        yield Problem(
            "error", "network.linear", f"{network.rank} is beyond the layers, whose width is {_WIDTH}"
        )
    if network.alpha is not None and not network.respect_alpha:
        if network.alpha != network.rank and network.type != "lokr":
            yield Problem(
                "info",
                "network.linear_alpha",
                "is ignored for FLUX, as in ai-toolkit; set network.respect_alpha: true to use it",
                code="set",
                meant="network.respect_alpha=true",
            )
    elif network.respect_alpha and network.alpha is None:
        yield Problem("warning", "network.respect_alpha", "has no effect without network.linear_alpha")


def _samples(config: RunConfig) -> bool:
    sample = config.process.sample
    return bool(
        sample.sample_every
        and (sample.prompts or sample.samples)
        and not config.process.train.disable_sampling
    )


def _captions(config: RunConfig) -> Iterator[Problem]:
    process = config.process
    train, word = process.train, process.trigger_word
    if word and _samples(config):
        if process.sample.samples:
            prompts = [(f"samples.{i}.prompt", item.prompt) for i, item in enumerate(process.sample.samples)]
        else:
            prompts = [(f"prompts.{i}", text) for i, text in enumerate(process.sample.prompts)]
        for key, prompt in prompts:
            if word.lower() not in prompt.lower() and "[trigger]" not in prompt and "[name]" not in prompt:
                yield Problem(
                    "info", f"sample.{key}", f"does not contain the trigger word {word!r} or [trigger]"
                )
    if process.trigger_alone:
        yield Problem(
            "warning",
            "train.unload_text_encoder",
            f"trains every picture on {f'the trigger word {word!r}' if word else 'an empty prompt'} alone, "
            "without its caption; text embeddings are cached anyway, so leave this out",
            code="remove",
        )
    if train.train_text_encoder:
        yield Problem(
            "error",
            "train.train_text_encoder",
            "is not possible: text embeddings are cached and the encoders are gone while training",
        )
    if train.diff_output_preservation:
        if not word:
            yield Problem(
                "error", "train.diff_output_preservation", "needs trigger_word: it is what the class replaces"
            )
        if not train.diff_output_preservation_class.strip():
            yield Problem(
                "error",
                "train.diff_output_preservation_class",
                "is missing: give the word that the trigger word is a kind of, such as person",
            )
        if train.blank_prompt_preservation:
            yield Problem(
                "error",
                "train.blank_prompt_preservation",
                "cannot be combined with diff_output_preservation; choose one",
            )
    for index, dataset in enumerate(process.datasets):
        if dataset.keep_tokens and not (dataset.shuffle_tokens or dataset.token_dropout_rate):
            yield Problem(
                "info",
                f"datasets.{index}.keep_tokens",
                "has no effect without shuffle_tokens or token_dropout_rate",
            )
        if dataset.mask_path and dataset.alpha_mask:
            yield Problem("warning", f"datasets.{index}.alpha_mask", "is ignored where mask_path has a mask")
    if all(dataset.is_reg for dataset in process.datasets):
        yield Problem("error", "datasets", "has only regularisation sets (is_reg): there is nothing to learn")


def _model(config: RunConfig) -> Iterator[Problem]:
    model = config.process.model
    if "schnell" in model.name_or_path.lower() and not model.assistant_lora_path:
        yield Problem(
            "warning",
            "model.assistant_lora_path",
            "is missing: FLUX.1-schnell falls apart when trained without one; "
            "ostris/FLUX.1-schnell-training-adapter is the usual choice",
            code="set",
            meant="model.assistant_lora_path=ostris/FLUX.1-schnell-training-adapter",
        )


def _noise(config: RunConfig) -> Iterator[Problem]:
    train = config.process.train
    if train.min_denoising_steps >= train.max_denoising_steps:
        yield Problem(
            "error",
            "train.min_denoising_steps",
            f"{train.min_denoising_steps} is not below max_denoising_steps ({train.max_denoising_steps})",
        )
    if train.linear_timesteps and train.linear_timesteps2:
        yield Problem("warning", "train.linear_timesteps2", "is ignored: linear_timesteps is on")
    linear = train.linear_timesteps or train.linear_timesteps2
    if linear and train.timestep_type not in ("sigmoid", "linear"):
        key = "linear_timesteps" if train.linear_timesteps else "linear_timesteps2"
        yield Problem("warning", f"train.{key}", f"takes the place of timestep_type {train.timestep_type}")


def _validation(config: RunConfig) -> Iterator[Problem]:
    train = config.process.train
    items = train.validation_config.validation_items if train.validation_config else []
    validates = bool(items) or train.validation_split > 0
    if train.validation_config is not None and not validates:
        yield Problem(
            "warning",
            "train.validation_config",
            "has no pictures: give validation_items, or train.validation_split",
        )
    if not validates and train.early_stop is not None:
        yield Problem(
            "error", "train.early_stop", "needs validation: give validation_items or validation_split"
        )
    if not validates and config.process.save.keep_best:
        yield Problem(
            "error", "save.keep_best", "needs validation: give validation_items or validation_split"
        )


def file_checks(config: RunConfig) -> Iterator[Problem]:
    """Problems that need a look at this machine's disk. Paths in ``config`` are resolved already."""
    total = 0
    for index, dataset in enumerate(config.process.datasets):
        key = f"datasets.{index}.folder_path"
        path = Path(dataset.folder_path)
        try:
            if not path.exists():
                yield Problem("error", key, f"there is no folder {path}")
            elif path.is_file():
                yield from _manifest(key, path)
            elif not (count := count_pictures(path)):
                yield Problem("error", key, f"no pictures (.jpg, .jpeg, .png, .webp) in {path}")
            else:
                copies = (
                    dataset.num_repeats * len(dataset.resolution) * 2 ** (dataset.flip_x + dataset.flip_y)
                )
                total += 0 if dataset.is_reg else count * copies
            if dataset.mask_path and not Path(dataset.mask_path).is_dir():
                yield Problem(
                    "error", f"datasets.{index}.mask_path", f"there is no folder {dataset.mask_path}"
                )
        except OSError as error:
            yield Problem("error", key, f"cannot read {path}: {error.strerror or error}")
    train = config.process.train
    drawn = train.steps * train.batch_size * train.gradient_accumulation
    if total and drawn / total > _MANY_EPOCHS:
        yield Problem(
            "warning",
            "train.steps",
            f"{train.steps} steps are {drawn / total:.0f} epochs of {total} samples: likely far too many",
        )
    yield from _model_files(config)


def _manifest(key: str, path: Path) -> Iterator[Problem]:
    if path.suffix.lower() != ".json":
        yield Problem("error", key, f"{path} is a file; give the folder that holds the pictures")
        return
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        yield Problem("error", key, f"{path} is not valid JSON: {error}")
        return
    if not isinstance(data, dict) or not data:
        yield Problem("error", key, f"{path} must map picture paths to captions")


def _model_files(config: RunConfig) -> Iterator[Problem]:
    model = config.process.model
    if looks_like_path(model.name_or_path):
        path = Path(model.name_or_path)
        if not path.exists():
            yield Problem("error", "model.name_or_path", f"there is no folder {path}")
        elif path.is_dir() and not (path / "transformer" / "config.json").is_file():
            yield Problem(
                "error",
                "model.name_or_path",
                f"{path} is no diffusers folder: it has no transformer/config.json",
            )
        elif path.is_file() and path.suffix.lower() != ".safetensors":
            yield Problem(
                "error", "model.name_or_path", f"{path} is neither a folder nor a .safetensors file"
            )
    network = config.process.network
    if network.pretrained_lora_path and not Path(network.pretrained_lora_path).is_file():
        yield Problem(
            "error", "network.pretrained_lora_path", f"there is no file {network.pretrained_lora_path}"
        )
    for index, item in enumerate(
        config.process.train.validation_config.validation_items
        if config.process.train.validation_config
        else ()
    ):
        if not Path(item.image_path).is_file():
            yield Problem(
                "error",
                f"train.validation_config.validation_items.{index}.image_path",
                f"there is no file {item.image_path}",
            )
