"""SimpleTuner's ``multidatabackend.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from config.importers import files, run_length
from config.importers.draft import Block, Draft, shown
from config.importers.options import ImportRefusedError, Options

_SIZES = "pictures are not sorted out by size or shape, and never enlarged"
_ASPECTS = "crops keep the picture's shape, or are squares with buckets: false"
_NO_EQUAL = {
    "minimum_image_size": _SIZES,
    "maximum_image_size": _SIZES,
    "minimum_aspect_ratio": _SIZES,
    "maximum_aspect_ratio": _SIZES,
    "target_downsample_size": _SIZES,
    "max_upscale_threshold": _SIZES,
    "crop_aspect_buckets": _ASPECTS,
    "probability": "use num_repeats",
    "conditioning": "pictures are not made from others",
    "caption_filter_list": "captions are taken as they are",
    "parquet": "captions come from files beside the pictures",
    "slider_strength": "sliders are not trained here",
    "start_step": "all datasets take part from the start",
    "end_step": "all datasets take part to the end",
    "start_epoch": "all datasets take part from the start",
}
_QUIET = frozenset(
    {
        "id", "type", "dataset_type", "cache_dir", "cache_dir_vae", "cache_dir_conditioning_image_embeds",
        "metadata_backend", "metadata_update_interval", "text_embeds", "image_embeds", "default",
        "vae_cache_clear_each_epoch", "hash_filenames", "skip_file_discovery", "preserve_data_backend_cache",
        "scan_for_errors", "write_batch_size", "text_encoder_batch_size", "disable_validation", "disabled",
        "disable_multiline_split", "bbox_labels",
    }
)  # fmt: skip
_NO_FILES = "none"


def datasets(draft: Draft, options: Options, beside: Path) -> None:
    """``datasets`` and the trigger word from the dataset file.

    Raises:
        ImportRefusedError: The dataset file is broken.
    """
    common: dict[str, Any] = {
        key: options.raw(key)
        for key in (
            "resolution", "resolution_type", "caption_strategy", "instance_prompt",
            "prepend_instance_prompt", "only_instance_prompt", "minimum_image_size", "maximum_image_size",
            "target_downsample_size", "crop", "crop_style", "crop_aspect",
        )
    }  # fmt: skip
    dropout = options.number("caption_dropout_probability")
    old_folder = options.text("instance_data_dir", "instance_data_root")
    file = options.text("data_backend_config") or "multidatabackend.json"
    found = files.companion(file, beside)
    entries: list[dict[str, Any]] = []
    if found is not None:
        try:
            data = files.read_json(found)
        except ImportRefusedError as error:
            raise ImportRefusedError(f"names the dataset file {found.name}, which {error}") from None
        entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    elif old_folder:
        entries = [{"id": "pictures", "instance_data_dir": old_folder}]
    masks = _masks(entries)
    place = found.parent if found is not None else beside
    for entry in entries:
        kind = str(entry.get("dataset_type") or "image")
        if entry.get("disabled") is True or entry.get("disable") is True or kind.endswith("embeds"):
            continue
        name = shown(entry.get("id", "a dataset"))
        if kind == "conditioning":
            continue
        if kind == "eval":
            draft["train"].note(f"dataset {name}: held-out pictures are given by train.validation_split here")
        elif kind != "image":
            draft["datasets"].note(f"dataset {name}: {shown(kind)} is not trained here")
        else:
            draft.datasets.append(_dataset(draft, entry, common, dropout, masks, place))
    if not draft.datasets:
        what = (
            f"the dataset file {shown(file)} is not here"
            if found is None
            else "the source names no folder of pictures"
        )
        draft.urgent.append(f"{what}: set datasets[0].folder_path")
        block = Block()
        block.set("folder_path", run_length.PLACEHOLDER)
        draft.datasets.append(block)
    draft.datasets = (
        run_length.merge_resolutions(draft.datasets) if len(draft.datasets) > 1 else draft.datasets
    )


def _masks(entries: list[dict[str, Any]]) -> dict[str, str]:
    """Folders of mask datasets by id."""
    return {
        str(entry.get("id")): str(entry["instance_data_dir"])
        for entry in entries
        if entry.get("dataset_type") == "conditioning"
        and entry.get("conditioning_type") in ("mask", "segmentation")
        and entry.get("instance_data_dir")
    }


def _dataset(
    draft: Draft,
    entry: Mapping[str, Any],
    common: Mapping[str, Any],
    dropout: float | None,
    masks: Mapping[str, str],
    beside: Path,
) -> Block:
    options = Options({**{k: v for k, v in common.items() if v is not None}, **entry})
    block = Block()
    kind = options.text("type") or "local"
    folder = options.text("instance_data_dir", "instance_data_root", "aws_data_prefix")
    if kind != "local" or folder is None:
        remote = options.text("dataset_name") or kind
        block.set(
            "folder_path",
            run_length.PLACEHOLDER,
            f"was {shown(remote)} ({shown(kind)}), which is not read here: download it",
        )
        draft.urgent.append(
            f"dataset {shown(entry.get('id', ''))} is not a folder: download it and set its folder_path"
        )
        options.raw("dataset_name", "huggingface")
    else:
        block.set("folder_path", files.path_text(folder, beside))
    _captions(block, options, dropout)
    block.set("resolution", [_edge(block, options)])
    repeats = options.integer("repeats")
    if repeats is not None and repeats > 0:
        block.set("num_repeats", repeats + 1, "SimpleTuner's repeats come on top of the first time")
    crop, aspect = options.flag("crop"), (options.text("crop_aspect") or "square").lower()
    if crop and aspect == "square":
        block.set("buckets", False)
    elif crop and aspect != "preserve":
        block.note(f"crop_aspect: {shown(aspect)}  has no equal: {_ASPECTS}")
    style = (options.text("crop_style") or "random").lower()
    if crop and style == "random":
        block.set("random_crop", True)
    elif crop and style not in ("center", "centre"):
        block.note(f"crop_style: {shown(style)}  has no equal: crops are from the middle, or random_crop")
    if options.flag("is_regularisation_data", "is_regularization_data"):
        block.set("prior_reg", True)
    paired = options.raw("conditioning_data")
    ids = paired if isinstance(paired, list) else [paired] if paired else []
    for mask in ids:
        if str(mask) in masks:
            block.set("mask_path", files.path_text(masks[str(mask)], beside))
        else:
            block.note(f"conditioning_data: {shown(mask)}  has no equal: only masks are used")
    for text in options.unusable.values():
        block.note(text)
    for key, value in options.left():
        if key not in _QUIET and not key.startswith(("aws_", "huggingface", "csv")):
            reason = _NO_EQUAL.get(key, "it is not known to this importer")
            block.note(f"{key}: {shown(value)}  has no equal: {reason}")
    return block


def _captions(block: Block, options: Options, dropout: float | None) -> None:
    strategy = (options.text("caption_strategy") or "textfile").lower().replace("_", "")
    prompt = options.text("instance_prompt")
    only = options.flag("only_instance_prompt")
    prepend = options.flag("prepend_instance_prompt")
    if strategy == "instanceprompt" or only:
        block.set("caption_ext", _NO_FILES, "no caption files are read: all pictures have default_caption")
        block.set("default_caption", prompt or "")
    else:
        block.set("caption_ext", "txt")
        if prepend and prompt:
            block.set("trigger_word", prompt, "instance_prompt, which SimpleTuner puts before every caption")
    if strategy in ("filename", "parquet", "csv", "huggingface", "webshart"):
        block.note(f"caption_strategy: {strategy}  has no equal: put a .txt file beside each picture")
    own = options.number("caption_dropout_probability")
    rate = own if own is not None else dropout
    if rate is not None and 0 < rate <= 1:
        block.set("caption_dropout_rate", rate)
    shuffle = options.section("caption_shuffle")
    if shuffle.flag("enable"):
        block.set("shuffle_tokens", True)
        if keep := shuffle.integer("position_start"):
            block.set("keep_tokens", keep)


def _edge(block: Block, options: Options) -> int:
    """The edge of a square with the area that is trained."""
    kind = (options.text("resolution_type") or "pixel_area").lower()
    size = options.number("resolution") or (1.0 if kind == "area" else 1024.0)
    if kind == "area" or size < 16:  # megapixels
        size = round(math.sqrt(size * 1_000_000) / 32) * 32
    elif kind == "pixel":
        block.note(
            "resolution_type: pixel  has no equal: resolution is the edge of a square of the same area here"
        )
    return min(4096, max(32, round(size)))


def epoch_samples(draft: Draft, beside: Path) -> int | None:
    """Pictures times repeats, each picture once at each size."""
    return run_length.samples_an_epoch(draft.datasets, beside)
