"""sd-scripts' datasets (a TOML file, or folders named ``10_word``) and sample prompts."""

from __future__ import annotations

import math
import re
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from config.importers import files, run_length
from config.importers.draft import Block, Draft, shown
from config.importers.kohya_reasons import NO_EQUAL, QUIET
from config.importers.options import ImportRefusedError, Options

_FOLDER = re.compile(r"^(\d+)_(.+)$")
_FLAG = re.compile(r"\s--(?=[a-z]+(?:\s|$))")
# A flag's letters in a prompt file, and the key of a sample.
_PROMPT_FLAGS = {
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("sample_steps", int),
    "n": ("neg", str),
    "am": ("network_multiplier", float),
}
# Keys that a subset takes from its dataset, [general], or the command line.
_INHERITED = (
    "caption_extension", "shuffle_caption", "keep_tokens", "caption_dropout_rate", "caption_tag_dropout_rate",
    "num_repeats", "flip_aug", "random_crop", "alpha_mask", "resolution", "enable_bucket", "class_tokens",
    "network_multiplier", "color_aug", "face_crop_aug_range", "caption_prefix", "caption_suffix",
    "keep_tokens_separator", "secondary_separator", "enable_wildcard", "caption_dropout_every_n_epochs",
    "token_warmup_min", "token_warmup_step", "caption_separator", "min_bucket_reso", "max_bucket_reso",
    "bucket_reso_steps", "bucket_no_upscale", "interpolation_type", "resize_interpolation",
)  # fmt: skip


def datasets(draft: Draft, options: Options, beside: Path) -> None:
    """``datasets``, ``train.batch_size``, the trigger word and the validation split.

    Raises:
        ImportRefusedError: The dataset file is named and broken.
    """
    command = {key: value for key in _INHERITED if (value := options.raw(key)) is not None}
    masked = options.flag("masked_loss")
    batch = options.integer("train_batch_size") or 1
    file = options.text("dataset_config")
    blocks: list[Block] = []
    if file is not None:
        found = files.companion(file, beside)
        if found is None:
            draft.urgent.append(f"the dataset file {shown(file)} is not here: set datasets[0].folder_path")
            blocks = [_placeholder(command)]
        else:
            try:
                blocks, batch = _from_file(
                    draft, files.read_toml(found), command, masked, batch, found.parent
                )
            except ImportRefusedError as error:
                raise ImportRefusedError(f"names the dataset file {found.name}, which {error}") from None
    else:
        for key, is_reg in (("train_data_dir", False), ("reg_data_dir", True)):
            if folder := options.text(key):
                blocks += _from_folder(draft, folder, is_reg, command, masked, beside)
    options.raw("train_data_dir", "reg_data_dir", "dataset_repeats")
    if not blocks:
        draft.urgent.append("the source names no folder of pictures: set datasets[0].folder_path")
        blocks = [_placeholder(command)]
    draft.datasets = run_length.merge_resolutions(blocks)
    _trigger(draft)
    draft["train"].set("batch_size", batch)
    if (split := options.number("validation_split")) is not None and split > 0:
        draft["train"].set("validation_split", split)


def _from_file(
    draft: Draft, data: dict[str, Any], command: dict[str, Any], masked: bool, batch: int, beside: Path
) -> tuple[list[Block], int]:
    general = data.get("general") or {}
    listed = data.get("datasets")
    if not isinstance(general, dict) or not isinstance(listed, list) or not listed:
        raise ImportRefusedError("has no [[datasets]]")
    blocks: list[Block] = []
    batches: list[int] = []
    for dataset in listed:
        if not isinstance(dataset, dict):
            raise ImportRefusedError("has [[datasets]] that are no tables")
        own = {key: value for key, value in dataset.items() if key != "subsets"}
        around = ChainMap(
            own, general, {k: v for k, v in data.items() if k not in ("general", "datasets")}, command
        )
        batches.append(Options(around).integer("batch_size") or batch)
        if split := Options(around).number("validation_split"):
            draft["train"].set("validation_split", split, "a share of every dataset here")
        for subset in dataset.get("subsets") or []:
            if isinstance(subset, dict):
                blocks.append(_dataset(ChainMap(subset, *around.maps), subset, masked, beside))
    if len(set(batches)) > 1:
        draft["train"].note(
            f"batch_size: {shown(batches)}  differs between datasets; here there is one for all"
        )
    return blocks, min(batches)


def _from_folder(
    draft: Draft, folder: str, is_reg: bool, command: dict[str, Any], masked: bool, beside: Path
) -> list[Block]:
    found = files.existing(folder, beside)
    inner: list[tuple[str, str, int]] = []
    if found is not None and found.is_dir():
        for child in sorted(found.iterdir()):
            if child.is_dir() and (match := _FOLDER.match(child.name)):
                inner.append((str(Path(folder) / child.name), match[2], int(match[1])))
    elif match := _FOLDER.match(PureWindowsPath(folder).name):
        inner.append((folder, match[2], int(match[1])))
    if not inner:
        if found is None:
            draft["datasets"].note(
                f"{shown(folder)} is not here: kohya reads repeats and class word from its folders' "
                "names (10_word); "
                "give each its own entry with num_repeats"
            )
        inner.append((folder, "", 1))
    return [
        _dataset(
            ChainMap(
                {"image_dir": path, "class_tokens": word, "num_repeats": repeats, "is_reg": is_reg}, command
            ),
            {},
            masked,
            beside,
        )
        for path, word, repeats in inner
    ]


def _placeholder(command: dict[str, Any]) -> Block:
    return _dataset(ChainMap({"image_dir": run_length.PLACEHOLDER}, command), {}, False, Path.cwd())


def _dataset(values: Mapping[str, Any], own: Mapping[str, Any], masked: bool, beside: Path) -> Block:
    options = Options(values)
    block = Block()
    folder = options.text("image_dir") or run_length.PLACEHOLDER
    block.set("folder_path", files.path_text(folder, beside))
    block.set("caption_ext", (options.text("caption_extension") or ".caption").lstrip("."))
    if word := options.text("class_tokens"):
        block.set("default_caption", word)
    block.set("resolution", _resolution(block, options.raw("resolution")))
    if (repeats := options.integer("num_repeats")) is not None and repeats != 1:
        block.set("num_repeats", max(1, repeats))
    if not options.flag("enable_bucket"):
        block.set("buckets", False, "kohya crops all to squares without enable_bucket")
    for key, ours in (
        ("random_crop", "random_crop"),
        ("shuffle_caption", "shuffle_tokens"),
        ("is_reg", "is_reg"),
    ):
        if options.flag(key):
            block.set(ours, True)
    if options.flag("flip_aug"):
        block.set("flip_x", True, "kohya flips at random; here every picture is there both ways")
    if keep := options.integer("keep_tokens"):
        block.set("keep_tokens", keep)
    for key, ours in (
        ("caption_dropout_rate", "caption_dropout_rate"),
        ("caption_tag_dropout_rate", "token_dropout_rate"),
    ):
        if (rate := options.number(key)) is not None and 0 < rate <= 1:
            block.set(ours, rate)
    if options.flag("alpha_mask"):
        block.set("alpha_mask", True)
    masks = options.text("conditioning_data_dir")
    if masks and masked:
        block.set("mask_path", files.path_text(masks, beside))
    elif masks:
        block.note(
            "conditioning_data_dir  has no equal without masked_loss: ControlNets are not trained here"
        )
    if (strength := options.number("network_multiplier")) not in (None, 1.0):
        block.set("network_weight", strength)
    for text in options.unusable.values():
        block.note(text)
    options.raw("batch_size", "validation_split")
    for key, value in options.left():
        if key in QUIET:
            continue
        reason = NO_EQUAL.get(key, ("", "it is not known to this importer"))[1]
        block.note(f"{key}: {shown(value)}  has no equal: {reason}")
    return block


def _resolution(block: Block, value: Any) -> list[int]:
    """An edge from ``512``, ``[512, 768]`` or ``"512,768"``: the area counts."""
    parts = value if isinstance(value, list) else re.findall(r"\d+", str(value or "512"))
    try:
        width, height = (int(parts[0]), int(parts[-1])) if parts else (512, 512)
    except (TypeError, ValueError):
        width = height = 512
    edge = min(4096, max(32, round(math.sqrt(width * height))))
    if width != height:
        block.note(f"resolution: {width} x {height}  became {edge}: the edge of a square of the same area")
    return [edge]


def _trigger(draft: Draft) -> None:
    words = [str(block.get("default_caption")) for block in draft.datasets if _names_word(block)]
    distinct = list(dict.fromkeys(words))
    if not distinct:
        return
    why = "kohya's class_tokens; here it is also put before captions that lack it"
    if len(distinct) == 1:
        draft[""].set("trigger_word", distinct[0], why)
    else:
        for block in draft.datasets:
            if _names_word(block):
                block.set("trigger_word", block.get("default_caption"), why)


def _names_word(block: Block) -> bool:
    return bool(block.get("default_caption")) and not block.get("is_reg")


def samples(draft: Draft, options: Options, beside: Path, epoch: int | None) -> None:
    """``sample`` from the prompt file and the intervals."""
    block = draft["sample"]
    file = options.text("sample_prompts")
    steps, epochs = options.integer("sample_every_n_steps"), options.integer("sample_every_n_epochs")
    draft["train"].set("skip_first_sample", not options.flag("sample_at_first"))
    if epochs and epoch:
        block.set("sample_every", epochs * epoch, f"every {epochs} epochs")
    elif steps or epochs:
        why = None if steps else f"was every {epochs} epochs of unknown length"
        block.set("sample_every", steps or 250, why)
    else:
        block.set("sample_every", 0, "kohya was not asked to sample")
    for key, value in (
        ("width", 512),
        ("height", 512),
        ("sample_steps", 20),
        ("guidance_scale", 3.5),
        ("seed", -1),
    ):
        block.set(key, value)
    if file is None:
        return
    found = files.companion(file, beside)
    if found is None:
        block.note(f"sample_prompts: {shown(file)} is not here; give prompts: [...]")
        return
    items = [item for item in read_prompts(found) if item.get("prompt")]
    if all(set(item) == {"prompt"} for item in items):
        block.set("prompts", [item["prompt"] for item in items])
    else:
        block.set("samples", items)


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """Prompts of a ``.txt`` (one a line), ``.toml`` or ``.json`` file, as items of ``sample.samples``.

    Raises:
        ImportRefusedError: The file cannot be read.
    """
    if path.suffix.lower() == ".json":
        data = files.read_json(path)
        rows = data if isinstance(data, list) else []
        return [_named(row) for row in rows if isinstance(row, dict)]
    if path.suffix.lower() == ".toml":
        prompt = files.read_toml(path).get("prompt") or {}
        if not isinstance(prompt, dict):
            return []
        common = {key: value for key, value in prompt.items() if key != "subset"}
        return [_named({**common, **row}) for row in prompt.get("subset") or [] if isinstance(row, dict)]
    lines = (line.strip() for line in files.read_text(path).splitlines())
    return [parse_prompt(line) for line in lines if line and not line.startswith("#")]


def parse_prompt(line: str) -> dict[str, Any]:
    """A line of a prompt file: ``a fox --w 512 --h 512 --d 42 --s 20 --l 3.5 --n blurry``."""
    parts = _FLAG.split(f" {line}")
    item: dict[str, Any] = {"prompt": parts[0].strip()}
    scale: float | None = None
    for part in parts[1:]:
        flag, _, text = part.partition(" ")
        text = text.strip()
        try:
            if flag == "g" or (flag == "l" and scale is None):
                scale = float(text)
            elif flag in _PROMPT_FLAGS:
                key, kind = _PROMPT_FLAGS[flag]
                item[key] = kind(float(text)) if kind is int else kind(text)
        except (ValueError, OverflowError):
            continue
    return _bounded({**item, **({"guidance_scale": scale} if scale is not None else {})})


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    options = Options(row)
    item: dict[str, Any] = {"prompt": options.text("prompt") or ""}
    for key in ("width", "height", "seed", "sample_steps"):
        if (number := options.integer(key)) is not None:
            item[key] = number
    if (scale := options.number("guidance_scale", "scale")) is not None:
        item["guidance_scale"] = scale
    if negative := options.text("negative_prompt"):
        item["neg"] = negative
    return _bounded(item)


def _bounded(item: dict[str, Any]) -> dict[str, Any]:
    """The item with sizes that can be drawn."""
    for key in ("width", "height"):
        if key in item:
            item[key] = min(4096, max(64, item[key] // 16 * 16))
    if "sample_steps" in item:
        item["sample_steps"] = min(1000, max(1, item["sample_steps"]))
    if item.get("guidance_scale", 0) < 0:
        del item["guidance_scale"]
    return item
