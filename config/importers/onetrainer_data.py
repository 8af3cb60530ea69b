"""OneTrainer's concepts and samples, in the config itself or in files that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.importers import files, run_length
from config.importers.draft import Block, Draft, shown
from config.importers.options import ImportRefusedError, Options

_AUGMENT = "pictures are cached as latents; only flips and crops vary"
_CAPTION = "captions are taken as they are"
_IMAGE = {
    "enable_random_rotate": _AUGMENT,
    "enable_fixed_rotate": _AUGMENT,
    "enable_random_brightness": _AUGMENT,
    "enable_fixed_brightness": _AUGMENT,
    "enable_random_contrast": _AUGMENT,
    "enable_fixed_contrast": _AUGMENT,
    "enable_random_saturation": _AUGMENT,
    "enable_fixed_saturation": _AUGMENT,
    "enable_random_hue": _AUGMENT,
    "enable_fixed_hue": _AUGMENT,
    "enable_random_circular_mask_shrink": "masks are taken as they are",
    "enable_random_mask_rotate_crop": "masks are taken as they are",
}


def _listed(
    options: Options, key: str, file_key: str, beside: Path
) -> tuple[list[dict[str, Any]], str | None]:
    """Items of a list in the config or in the file that it names, and that file's name if it is not here."""
    inside, file = options.raw(key), options.text(file_key)
    data: Any = inside
    if not isinstance(inside, list):
        if file is None:
            return [], None
        found = files.companion(file, beside)
        if found is None:
            return [], file
        try:
            data = files.read_json(found)
        except ImportRefusedError as error:
            raise ImportRefusedError(f"names the file {found.name}, which {error}") from None
    return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else [], None


def datasets(draft: Draft, options: Options, beside: Path) -> None:
    """``datasets`` from the concepts.

    Raises:
        ImportRefusedError: The concepts' file is broken.
    """
    concepts, missing = _listed(options, "concepts", "concept_file_name", beside)
    sizes = _sizes(draft["datasets"], options.raw("resolution"))
    buckets = options.flag("aspect_ratio_bucketing", default=True)
    masked = options.flag("masked_training")
    for concept in concepts:
        if concept.get("enabled") is False:
            continue
        if str(concept.get("type")) == "VALIDATION" or concept.get("validation_concept") is True:
            draft["train"].note(
                f"concept {shown(concept.get('name') or concept.get('path'))}: held-out pictures are "
                "given by "
                "train.validation_split here"
            )
            continue
        draft.datasets.append(_dataset(concept, sizes, buckets, beside))
    if not draft.datasets:
        what = (
            f"the concepts' file {shown(missing)} is not here"
            if missing
            else "the source names no folder of pictures"
        )
        draft.urgent.append(f"{what}: set datasets[0].folder_path")
        block = Block()
        block.set("folder_path", run_length.PLACEHOLDER)
        block.set("resolution", sizes)
        draft.datasets.append(block)
    if masked:
        draft["datasets"].note(
            "masked_training: OneTrainer's masks (name-masklabel.png beside the pictures) are not found "
            "here: put them "
            "into a folder of their own, named like the pictures, and set mask_path"
        )
        for key in ("unmasked_weight", "unmasked_probability", "masked_prior_preservation_weight"):
            if value := options.number(key):
                hint = " (mask_min_value)" if key == "unmasked_weight" else "  has no equal"
                draft["datasets"].note(f"{key}: {value:g}{hint}")
    options.raw("unmasked_weight", "unmasked_probability", "masked_prior_preservation_weight")
    options.raw("normalize_masked_area_loss")


def _sizes(notes: Block, value: Any) -> list[int]:
    """Edges from ``"512"``, ``"512,768"`` or ``"1024x768"``."""
    sizes: list[int] = []
    for part in str(value if value is not None else "512").split(","):
        numbers = [int(number) for number in re.findall(r"\d+", part)[:2]]
        if not numbers:
            continue
        edge = round((numbers[0] * numbers[-1]) ** 0.5)
        if numbers[0] != numbers[-1]:
            notes.note(f"resolution: {part.strip()}  became {edge}: the edge of a square of the same area")
        sizes.append(min(4096, max(32, edge)))
    if len(sizes) > 1:
        notes.note(
            "OneTrainer draws one of the resolutions for each picture; here every picture trains at each"
        )
    return list(dict.fromkeys(sizes)) or [512]


def _dataset(concept: Mapping[str, Any], sizes: list[int], buckets: bool, beside: Path) -> Block:
    options = Options(concept)
    block = Block()
    block.set("folder_path", files.path_text(options.text("path") or run_length.PLACEHOLDER, beside))
    image, text = options.section("image"), options.section("text")
    _captions(block, text, beside)
    own = image.flag("enable_resolution_override")
    block.set("resolution", _sizes(block, image.raw("resolution_override")) if own else sizes)
    balancing = options.number("balancing", "repeats")
    if balancing is not None and (options.text("balancing_strategy") or "REPEATS") == "REPEATS":
        if balancing >= 1.5:
            block.set("num_repeats", round(balancing))
        if balancing != round(balancing):
            block.note(f"balancing: {balancing:g}  has no equal: num_repeats is a whole number")
    elif balancing is not None:
        block.note(f"balancing: {balancing:g} samples  has no equal: see num_repeats")
    if not buckets:
        block.set("buckets", False)
    if image.flag("enable_crop_jitter", default=True):
        block.set("random_crop", True, "enable_crop_jitter")
    if image.flag("enable_random_flip", default=True) or image.flag("enable_fixed_flip"):
        block.set("flip_x", True, "OneTrainer flips at random; here every picture is there both ways")
    weight = options.number("loss_weight")
    if weight is not None and weight != 1 and weight >= 0:
        block.set("loss_multiplier", weight)
    if options.text("type") == "PRIOR_PREDICTION":
        block.set("prior_reg", True)
    for key, reason in _IMAGE.items():
        if image.flag(key):
            block.note(f"{key}  has no equal: {reason}")
    return block


def _captions(block: Block, text: Options, beside: Path) -> None:
    source = text.text("prompt_source") or "sample"
    block.set("caption_ext", "txt")
    if source == "concept":
        block.set("caption_ext", "none", "no caption files are read: all pictures have default_caption")
        prompts: list[str] = []
        file = text.text("prompt_path")
        if file and (found := files.companion(file, beside)):
            prompts = [line.strip() for line in files.read_text(found).splitlines() if line.strip()]
        block.set("default_caption", prompts[0] if prompts else "")
        if len(prompts) > 1:
            block.note(
                f"{len(prompts) - 1} more prompts of {shown(file)} have no equal: one for all pictures"
            )
        elif not prompts:
            block.note(f"prompt_path: {shown(file)} is not here: set default_caption")
    elif source == "filename":
        block.note("prompt_source: filename  has no equal: put a .txt file beside each picture")
    if text.flag("enable_tag_shuffling"):
        block.set("shuffle_tokens", True)
    rate = text.number("tag_dropout_probability")
    drops = text.flag("tag_dropout_enable") and bool(rate)
    if drops and rate is not None:
        mode = text.text("tag_dropout_mode") or "FULL"
        if mode == "RANDOM":
            block.set("token_dropout_rate", min(1.0, rate))
        else:
            block.note(f"tag_dropout_mode: {shown(mode)} at {rate:g}  has no equal: see token_dropout_rate")
    keep = text.integer("keep_tags_count")
    if keep is None:
        keep = 1
    if keep and (block.get("shuffle_tokens") or block.get("token_dropout_rate")):
        block.set("keep_tokens", keep)
    if (delimiter := str(text.raw("tag_delimiter") or ",")).strip() != ",":
        block.note(
            f"tag_delimiter: {shown(delimiter)}  has no equal: parts of a caption are separated by commas"
        )
    for key in ("tag_dropout_special_tags", "caps_randomize_enable"):
        if text.raw(key):
            block.note(f"{key}  has no equal: {_CAPTION}")


def sample_items(draft: Draft, options: Options, beside: Path) -> list[dict[str, Any]]:
    """Items of ``sample.samples``.

    Raises:
        ImportRefusedError: The samples' file is broken.
    """
    listed, missing = _listed(options, "samples", "sample_definition_file_name", beside)
    if missing:
        draft["sample"].note(
            f"sample_definition_file_name: {shown(missing)} is not here; give prompts: [...]"
        )
    items: list[dict[str, Any]] = []
    for sample in listed:
        given = Options(sample)
        if not given.flag("enabled", default=True) or not (prompt := given.text("prompt")):
            continue
        item: dict[str, Any] = {"prompt": prompt}
        for key in ("width", "height"):
            item[key] = min(4096, max(64, given.integer(key) or 512))
        seed = given.integer("seed")
        item["seed"] = -1 if given.flag("random_seed") else 42 if seed is None else seed
        item["sample_steps"] = min(1000, max(1, given.integer("diffusion_steps") or 20))
        scale = given.number("cfg_scale")
        item["guidance_scale"] = 7.0 if scale is None else max(0.0, scale)
        if negative := given.text("negative_prompt"):
            item["neg"] = negative
        items.append(item)
    return items
