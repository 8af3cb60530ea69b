"""Writing the LoRA file of a step, as it is used: averaged if there is an average, in the wanted format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from backend.trainer.loading import DTYPES
from backend.trainer.lora_file import file_metadata, file_tensors, write_lora
from backend.trainer.lora_rank import plain_lora
from backend.trainer.preview import newest_sample, preview_uri

if TYPE_CHECKING:
    import torch

    from backend.trainer.loop import TrainingLoop


def save_lora(loop: TrainingLoop, path: Path) -> int:
    """Write the weights of the present step; returns the file's size in bytes.

    Beside a final or best file of another kind of adapter, a plain LoRA is written for other programs.

    Raises:
        TrainingError: The disk is full, or the weights are not finite.
    """
    lora, store = loop.lora, loop.store
    weights = loop.ema.state() if loop.ema is not None else lora.state()
    if lora.kind != "lora" and path in (store.final, store.best):
        plain = store.as_lora(path)
        _write(loop, plain, plain_lora(lora, weights, lora.rank))
        loop.report.line(f"saved {store.relative(plain)}: a plain LoRA, for other programs")
    return _write(loop, path, lora.scaled(weights))


def _write(loop: TrainingLoop, path: Path, weights: Mapping[str, torch.Tensor]) -> int:
    name = loop.config.process.save.dtype
    wanted = DTYPES[name]
    tensors, dtype = file_tensors(weights, 1.0, wanted)
    if dtype is not wanted:
        loop.report.warning(
            f"save.dtype {name} cannot hold the LoRA's weights; it is saved in bfloat16", "dtype_overflow"
        )
    metadata = file_metadata(
        loop.facts,
        tensors,
        step=loop.step,
        epoch=loop.order.epoch,
        preview=preview_uri(newest_sample(loop.sampler.folder.samples)),
    )
    return write_lora(path, tensors, metadata)
