"""The file that people use: a LoRA's tensors and the metadata that other programs read.

Keys are those of diffusers and peft, ``transformer.<module>.lora_A.weight`` ``[rank, in]`` and
``.lora_B.weight`` ``[out, rank]``, without alpha tensors: the scale is multiplied into B, which every
reader understands the same way.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata as packages
from pathlib import Path
from typing import Any

import torch

from backend.files import atomic_file
from backend.trainer.captions import choose_trigger
from backend.trainer.errors import TrainingError, disk_full, is_disk_full
from backend.trainer.lora import PREFIX
from backend.trainer.tensorfile import data_chunks, header_bytes, size_of, write_tensors
from config.schema import RunConfig
from config.secrets import hide_tokens

_PACKAGE = "fluxlora-tui"
_FLUX = "https://github.com/black-forest-labs/flux"  # Forge tells FLUX by this value
_LEGACY = slice(0x100000, 0x110000)  # the part of a file that the old hash covers


@dataclass(frozen=True, kw_only=True)
class LoraFacts:
    """What the metadata tells about a run, beside its config.

    Attributes:
        config: The run's config.
        distilled_guidance: Whether the base model takes a guidance value (dev does, schnell does not).
        training_seed: The seed that was used.
        buckets: How many samples of an epoch have which shape, e.g. ``{"512x512": 20}``.
        pictures: Pictures in the data, each counted once.
        started: When the run began, seconds since 1970.
    """

    config: RunConfig
    distilled_guidance: bool
    training_seed: int
    buckets: Mapping[str, int] = field(default_factory=dict)
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
        The tensors, and their number format: bfloat16 instead of float16 if a value exceeds 65504.

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
    return {name: tensor.to(dtype) for name, tensor in scaled.items()}, dtype


def file_metadata(
    facts: LoraFacts, tensors: Mapping[str, torch.Tensor], *, step: int, epoch: int
) -> dict[str, str]:
    """The metadata of a LoRA file: strings only, no paths of this machine, nothing secret.

    ``modelspec.*`` is Stability's model metadata standard 1.0.1, ``ss_*`` are kohya's keys,
    ``training_info``, ``software`` and the ``sshs`` hashes are as in ai-toolkit.
    """
    process = facts.config.process
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    triggers = [choose_trigger(dataset.trigger_word, process.trigger_word) for dataset in process.datasets]
    words = list(dict.fromkeys(word for word in triggers if word))
    resolutions = sorted({size for dataset in process.datasets for size in dataset.resolution})
    edge = resolutions[-1]
    rank = process.network.rank
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
        "ss_sd_model_name": _public_name(process.model.name_or_path),
        "ss_network_module": "networks.lora_flux",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_resolution": f"({edge}, {edge})",
        "ss_bucket_info": {"buckets": dict(facts.buckets)},
        "ss_num_train_images": facts.pictures,
        "ss_steps": step,
        "ss_max_train_steps": process.train.steps,
        "ss_epoch": epoch,
        "ss_learning_rate": process.train.lr,
        "ss_lr_scheduler": process.train.lr_scheduler,
        "ss_optimizer": process.train.optimizer,
        "ss_batch_size_per_device": process.train.batch_size,
        "ss_gradient_accumulation_steps": process.train.gradient_accumulation,
        "ss_mixed_precision": process.train.dtype,
        "ss_seed": facts.training_seed,
        "ss_training_started_at": facts.started,
    }
    if words:
        values["modelspec.trigger_phrase"] = ", ".join(words)
        values["ss_tag_frequency"] = {f"1_{word}": {word: 1} for word in words}
    strings = {str(key): hide_tokens(_text(value)) for key, value in values.items()}
    return strings | _hashes(tensors, strings)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _version() -> str:
    try:
        return packages.version(_PACKAGE)
    except packages.PackageNotFoundError:
        return "0"


def _public_name(name_or_path: str) -> str:
    """A Hub id as it is; of a folder only its own name."""
    path = Path(name_or_path)
    return path.name if path.is_absolute() or path.exists() or name_or_path.count("/") != 1 else name_or_path


def _hashes(tensors: Mapping[str, torch.Tensor], strings: Mapping[str, str]) -> dict[str, str]:
    """Kohya's identity hashes: of the data, and of a slice of the file with only its ``ss_`` metadata."""
    kept = {key: value for key, value in strings.items() if key.startswith("ss_")}
    header = header_bytes(tensors, kept)
    whole, legacy = hashlib.sha256(), hashlib.sha256()
    position = 0
    for index, chunk in enumerate((memoryview(header), *data_chunks(tensors))):
        if index:
            whole.update(chunk)
        start, stop = max(0, _LEGACY.start - position), max(0, _LEGACY.stop - position)
        legacy.update(chunk[start:stop])
        position += len(chunk)
    digest = whole.hexdigest()
    return {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": legacy.hexdigest()[:8],
        "modelspec.hash_sha256": f"0x{digest}",
    }


def write_lora(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> int:
    """Write a LoRA file atomically; returns its size in bytes.

    Raises:
        TrainingError: The disk is full.
        OSError: It cannot be written for another reason.
    """
    try:
        with atomic_file(path) as file:
            return write_tensors(file, tensors, metadata)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path, size_of(tensors)) from error
        raise
