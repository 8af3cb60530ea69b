"""Reading the transformer's weights while texts and pictures are still being encoded, where memory allows."""

from __future__ import annotations

from pathlib import Path

import torch

from backend.trainer.cache import free_memory_here
from backend.trainer.fast_load import NotDiffusersError, TransformerReading
from backend.trainer.loading import BaseModel

_ENCODERS = ("text_encoder", "text_encoder_2", "vae")
_WORK = 6 << 30  # bytes: what encoding a picture of 2 megapixels or a text takes beside the weights


def begin_reading(base: BaseModel, device: torch.device) -> tuple[TransformerReading | None, str]:
    """Begin to read the transformer, if there is room for it beside the encoders.

    Returns:
        What reads, and an empty text; or None, and why it has to wait, as the end of a sentence.
    """
    if not base.loads_straight:
        return (
            None,
            "what is quantised, swapped or one file goes through the computer's memory",
        )
    try:
        reading = TransformerReading(base.part("transformer"), device, base.dtype)
    except NotDiffusersError:
        return None, "its files are not laid out as diffusers does"
    except Exception:  # whatever is wrong is said when it is loaded in its turn
        return None, "its files cannot be read ahead"
    encoders = sum(_size(base.part(name)) for name in _ENCODERS)
    need = reading.nbytes + encoders + _WORK
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory_here()
    if need > free:
        reading.close()
        return None, f"it and the encoders need {need / 2**30:.0f} GiB together, {free / 2**30:.0f} are free"
    reading.start()
    return reading, ""


def _size(part: Path) -> int:
    files = [part] if part.is_file() else part.rglob("*.safetensors")
    return sum(file.stat().st_size for file in files)
