"""The file that people use: a LoRA's tensors and the metadata that other programs read.

Keys are those of diffusers and peft, ``transformer.<module>.lora_A.weight`` ``[rank, in]`` and
``.lora_B.weight`` ``[out, rank]``, without alpha tensors: the scale is multiplied into B, which every
reader understands the same way.
"""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch

from backend.lora import file as lora_file
from backend.lora.inspect import CONFIG_KEY
from backend.lora.number_formats import FORMATS
from backend.trainer.captions import choose_trigger
from backend.trainer.errors import TrainingError, disk_full, is_disk_full
from backend.trainer.lora import PREFIX
from backend.trainer.public_config import hide_secrets, public_config, public_name
from backend.trainer.tensorfile import size_of
from config.schema import DatasetConfig, RunConfig

_PACKAGE = "fluxlora-tui"
_NUMBERS = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
}
_FLUX = "https://github.com/black-forest-labs/flux"  # Forge tells FLUX by this value
_MOST_TAGS = 500  # of a dataset: sentences are tags too, and a header should stay small
_SHOWN_TAGS = 10
_TAG_LENGTH = 40  # characters: longer ones are sentences
_FLOAT8_LOSS = 0.1  # share of a matrix's norm that rounding to float8 may take


@dataclass(frozen=True, kw_only=True)
class LoraFacts:
    """What the metadata tells about a run, beside its config.

    Attributes:
        config: The run's config.
        distilled_guidance: Whether the base model takes a guidance value (dev does, schnell does not).
        training_seed: The seed that was used.
        buckets: How many samples of an epoch have which shape, e.g. ``{"512x512": 20}``.
        tags: How often each comma-separated part of the captions occurs, by trigger word (or "").
        pictures: Pictures in the data, each counted once.
        started: When the run began, seconds since 1970.
    """

    config: RunConfig
    distilled_guidance: bool
    training_seed: int
    buckets: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    pictures: int = 0
    started: float = 0.0


def file_tensors(
    weights: Mapping[str, torch.Tensor], scale: float, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], torch.dtype]:
    """Weights as they are saved: keys with their prefix, the scale in B, in ``dtype`` if they fit.

    Args:
        weights: float32, by ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``.
        scale: Factor on the adapter's output.
        dtype: Wanted number format.

    Returns:
        The tensors, and their number format: bfloat16 instead of float16 if a value exceeds 65504, and
        instead of float8 if that would take a tenth of a matrix.

    Raises:
        TrainingError: A weight is not finite.
    """
    scaled = {
        f"{PREFIX}.{name}": tensor * scale if ".lora_B." in name and scale != 1.0 else tensor
        for name, tensor in weights.items()
    }
    largest = max(float(tensor.abs().max()) if tensor.numel() else 0.0 for tensor in scaled.values())
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in scaled.values())
    if not finite:
        raise TrainingError(
            "the LoRA's weights are no longer finite, so they were not saved; resume from the last "
            "checkpoint with a lower train.lr",
            "nan_loss",
        )
    if dtype is torch.float16 and largest > torch.finfo(torch.float16).max:
        dtype = torch.bfloat16
    if dtype is torch.float8_e4m3fn:
        scaled = _balanced(scaled)
        if any(_rounding_loss(tensor, dtype) > _FLOAT8_LOSS for tensor in scaled.values()):
            dtype = torch.bfloat16
    return {name: tensor.to(dtype) for name, tensor in scaled.items()}, dtype


def _balanced(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same changes of the weights with A and B of similar size, by powers of two.

    float8 reaches down to 2^-9: a young B is below, while A has room above.
    """
    result = dict(tensors)
    for name, a in tensors.items():
        partner = name.replace(".lora_A.", ".lora_B.")
        if partner == name or partner not in tensors:
            continue
        sizes = [float(tensor.abs().max()) for tensor in (a, tensors[partner])]
        if min(sizes) > 0:
            shift = round(math.log2(sizes[0] / sizes[1]) / 2)
            result[name], result[partner] = a * 2.0**-shift, tensors[partner] * 2.0**shift
    return result


def _rounding_loss(tensor: torch.Tensor, dtype: torch.dtype) -> float:
    """Norm of what rounding changes, as a share of the norm; infinite if it makes values not finite."""
    norm = float(tensor.norm())
    if not norm:
        return 0.0
    loss = float((tensor - tensor.to(dtype).float()).norm()) / norm
    return loss if math.isfinite(loss) else math.inf


def count_tags(captions: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """How often each comma-separated part occurs, by trigger word.

    Args:
        captions: Pairs of a picture's trigger word (or "") and its caption.
    """
    counts: dict[str, Counter[str]] = {}
    for trigger, caption in captions:
        parts = (part.strip() for part in caption.split(","))
        counts.setdefault(trigger, Counter()).update(part for part in parts if part and part != trigger)
    return {trigger: dict(tags.most_common(_MOST_TAGS)) for trigger, tags in counts.items()}


def file_metadata(
    facts: LoraFacts,
    tensors: Mapping[str, torch.Tensor],
    *,
    step: int,
    epoch: int,
    preview: str | None = None,
) -> dict[str, str]:
    """The metadata of a LoRA file: strings only, no paths of this machine, nothing secret.

    ``modelspec.*`` is Stability's model metadata standard 1.0.1, ``ss_*`` are kohya's keys,
    ``training_info`` and ``software`` are as in ai-toolkit, ``fluxlora_config`` is the whole config as
    JSON. Hashes come with :func:`write_lora`.

    Args:
        facts: What is known about the run.
        tensors: What will be in the file.
        step: Updates done.
        epoch: Epochs begun.
        preview: A small picture as a ``data:`` URI.
    """
    process = facts.config.process
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    triggers = [choose_trigger(dataset.trigger_word, process.trigger_word) for dataset in process.datasets]
    words = list(dict.fromkeys(word for word in triggers if word))
    resolutions = sorted({size for dataset in process.datasets for size in dataset.resolution})
    edge = resolutions[-1]
    train = process.train
    rank, module, arguments = _network(tensors, process.network.rank)
    values: dict[str, Any] = {key: value for key, value in facts.config.meta.items() if value is not None}
    values |= {
        "format": "pt",
        "software": {"name": _PACKAGE, "version": _version()},
        "training_info": {"step": step, "epoch": epoch, "scale": process.network.scale},
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"flux-1-{'dev' if facts.distilled_guidance else 'schnell'}/lora",
        "modelspec.implementation": _FLUX,
        "modelspec.prediction_type": "epsilon",  # the standard knows no flow; kohya writes this too
        "modelspec.title": facts.config.name,
        "modelspec.date": now.isoformat().replace("+00:00", "Z"),
        "modelspec.resolution": f"{edge}x{edge}",
        "ss_output_name": facts.config.name,
        "ss_base_model_version": "flux1",
        "ss_sd_model_name": public_name(process.model.name_or_path),
        "ss_network_module": module,
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_resolution": f"({edge}, {edge})",
        "ss_bucket_info": _bucket_info(facts.buckets),
        "ss_dataset_dirs": _dataset_dirs(process.datasets, is_reg=False),
        "ss_reg_dataset_dirs": _dataset_dirs(process.datasets, is_reg=True),
        "ss_num_train_images": facts.pictures,
        "ss_steps": step,
        "ss_max_train_steps": train.steps,
        "ss_epoch": epoch,
        "ss_learning_rate": train.lr,
        "ss_lr_scheduler": train.lr_scheduler,
        "ss_optimizer": train.optimizer,
        "ss_batch_size_per_device": train.batch_size,
        "ss_gradient_accumulation_steps": train.gradient_accumulation,
        "ss_gradient_checkpointing": train.gradient_checkpointing,
        "ss_max_grad_norm": train.max_grad_norm,
        "ss_noise_offset": train.noise_offset,
        "ss_loss_type": train.loss_type,
        "ss_timestep_sampling": train.timestep_type,
        "ss_guidance_scale": train.cfg_scale,
        "ss_mixed_precision": train.dtype,
        "ss_seed": facts.training_seed,
        "ss_training_started_at": facts.started,
        "ss_training_finished_at": now.timestamp(),
        CONFIG_KEY: public_config(facts.config),
    }
    if arguments:
        values["ss_network_args"] = arguments
    if process.network.dropout:
        values["ss_network_dropout"] = process.network.dropout
    if words:
        values["modelspec.trigger_phrase"] = ", ".join(words)
    tags = _tag_frequency(words, facts.tags)
    if tags:
        values["ss_tag_frequency"] = tags
    shown = _shown_tags(words, facts.tags)
    if shown:
        values["modelspec.tags"] = ", ".join(shown)
    for key in ("author", "description", "license", "usage_hint"):
        if facts.config.meta.get(key):
            values[f"modelspec.{key}"] = facts.config.meta[key]
    strings = {str(key): hide_secrets(_text(value)) for key, value in values.items()}
    if preview:
        strings["modelspec.thumbnail"] = preview
    return strings


def _network(tensors: Mapping[str, torch.Tensor], rank: int) -> tuple[int, str, dict[str, str]]:
    """Rank, module and arguments in kohya's words."""
    if any(".lokr_" in name for name in tensors):
        return rank, "lycoris.kohya", {"algo": "lokr"}
    ranks = {tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name}
    dora = any(name.endswith(("lora_magnitude_vector", "dora_scale")) for name in tensors)
    return max(ranks, default=rank), "networks.lora_flux", {"use_dora": "True"} if dora else {}


def _bucket_info(buckets: Mapping[str, int]) -> dict[str, Any]:
    shapes = ((shape.split("x"), count) for shape, count in buckets.items())
    entries = ({"resolution": [int(width), int(height)], "count": count} for (width, height), count in shapes)
    return {"buckets": {str(index): entry for index, entry in enumerate(entries)}}


def _dataset_dirs(datasets: Iterable[DatasetConfig], *, is_reg: bool) -> dict[str, dict[str, int]]:
    """Folder names without their paths, and how often they are repeated."""
    return {
        public_name(dataset.folder_path): {"n_repeats": dataset.num_repeats}
        for dataset in datasets
        if dataset.is_reg is is_reg
    }


def _tag_frequency(words: Iterable[str], tags: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """By dataset name ``1_<trigger word>`` as in ai-toolkit, the trigger word first."""
    result: dict[str, dict[str, int]] = {}
    for word in dict.fromkeys((*words, *tags)):
        counts = dict(tags.get(word, {}))
        first = {word: max(counts.values(), default=1)} if word else {}
        if first | counts:
            result[f"1_{word or 'captions'}"] = first | counts
    return result


def _shown_tags(words: Iterable[str], tags: Mapping[str, Mapping[str, int]]) -> list[str]:
    """The trigger words, and tags that more than one caption has."""
    total: Counter[str] = Counter()
    for counts in tags.values():
        total.update(counts)
    common = [tag for tag, count in total.most_common() if count > 1 and len(tag) <= _TAG_LENGTH]
    return list(dict.fromkeys((*words, *common[:_SHOWN_TAGS])))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _version() -> str:
    try:
        return packages.version(_PACKAGE)
    except packages.PackageNotFoundError:
        return "0"


def write_lora(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> int:
    """Write a LoRA file atomically, with the hashes that other programs know it by; returns its size.

    Raises:
        TrainingError: The disk is full.
        OSError: It cannot be written for another reason.
    """
    raw = {key: _as_bits(tensor) for key, tensor in tensors.items()}
    try:
        lora_file.write_lora(path, raw, {**metadata, "modelspec.hash_sha256": ""})
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path, size_of(tensors)) from error
        raise
    return path.stat().st_size


def _as_bits(tensor: torch.Tensor) -> lora_file.Tensor:
    """The tensor as :mod:`backend.lora` stores it, which knows no torch."""
    number = FORMATS[_NUMBERS[tensor.dtype]]
    raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().view(number.bits)
    return lora_file.Tensor(number, tuple(tensor.shape), lambda: raw)
