"""Loading the parts of a base model, one at a time."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from backend.files import read_json
from backend.trainer.errors import TrainingError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

MAX_TEXT_TOKENS = 512  # FLUX.1-dev's T5 length; ai-toolkit pads to it for every FLUX model
_CLIP_TOKENS = 77

_SAMPLE = 1 << 16  # bytes of each sample of a weights file
_SAMPLES = 32


@dataclass(frozen=True)
class TextEncoders:
    """CLIP and T5, on the training device."""

    clip: CLIPTextModel
    t5: T5EncoderModel


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of CLIP and T5, and how long their texts are.

    Attributes:
        clip_length: Tokens of a padded CLIP text.
        t5_length: Tokens of a padded T5 text: 512, or less if the model says so.
    """

    clip: CLIPTokenizer
    t5: T5TokenizerFast
    clip_length: int
    t5_length: int


@dataclass(frozen=True)
class BaseModel:
    """A FLUX.1 in diffusers format, whose parts are loaded when they are needed.

    Attributes:
        folder: Where it is.
        name: What the user calls it.
        device: Where its parts go.
        dtype: Number format of its parts.
    """

    folder: Path
    name: str
    device: torch.device
    dtype: torch.dtype

    @property
    def vae_dtype(self) -> torch.dtype:
        """The autoencoder's number format: ``dtype``, but never float16, in which FLUX's overflows."""
        return torch.float32 if self.dtype is torch.float16 else self.dtype

    def check(self) -> None:
        """Look for all parts before time is spent on any.

        Raises:
            TrainingError: One is missing, or this is no FLUX.1.
        """
        config = read_json(self._part("transformer") / "config.json")
        kind = config.get("_class_name") if isinstance(config, dict) else None
        if kind != "FluxTransformer2DModel":
            raise TrainingError(
                f"{self.name} is not a FLUX.1 model: its transformer is {kind or 'of an unknown kind'}; only "
                "FLUX.1 can be trained",
                "unsupported_model",
                bad_input=True,
            )
        for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
            self._part(part)

    def _part(self, part: str) -> Path:
        folder = self.folder / part
        if not folder.is_dir() or not any(folder.glob("*.json")):
            raise TrainingError(
                f"the base model {self.name} is incomplete: {folder} is missing; it needs the folders of a "
                "diffusers FLUX.1 model",
                "no_model",
                bad_input=True,
            )
        return folder

    def fingerprint(self, *parts: str) -> str:
        """What tells these parts from any others: configs whole, weights by size and samples.

        Hashing all of T5-XXL would take longer than encoding a dataset; fine-tuned weights differ
        nearly everywhere, so 32 samples of 64 KiB a file find them out.
        """
        digest = hashlib.sha256()
        for part in parts:
            for path in sorted(self._part(part).rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    digest.update(f"{part}/{path.name}".encode())
                    _sample(path, digest)
        return digest.hexdigest()

    def tokenizers(self) -> Tokenizers:
        """Load both tokenizers.

        Raises:
            TrainingError: They cannot be loaded.
        """
        from transformers import CLIPTokenizer, T5TokenizerFast

        clip = self._load("tokenizer", lambda path: CLIPTokenizer.from_pretrained(path))
        t5 = self._load("tokenizer_2", lambda path: T5TokenizerFast.from_pretrained(path))
        return Tokenizers(
            clip,
            t5,
            clip_length=min(_CLIP_TOKENS, int(clip.model_max_length)),
            t5_length=min(MAX_TEXT_TOKENS, int(t5.model_max_length)),
        )

    def text_encoders(self) -> TextEncoders:
        """Load CLIP and T5, frozen.

        Raises:
            TrainingError: They cannot be loaded.
        """
        from transformers import CLIPTextModel, T5EncoderModel

        options = {"dtype": self.dtype, "use_safetensors": True}
        clip = self._load("text_encoder", lambda path: CLIPTextModel.from_pretrained(path, **options))
        t5 = self._load("text_encoder_2", lambda path: T5EncoderModel.from_pretrained(path, **options))
        return TextEncoders(self._place(clip), self._place(t5))

    def vae(self) -> AutoencoderKL:
        """Load the autoencoder, frozen.

        Raises:
            TrainingError: It cannot be loaded.
        """
        from diffusers import AutoencoderKL

        dtype = self.vae_dtype
        return self._place(
            self._load(
                "vae", lambda path: AutoencoderKL.from_pretrained(path, dtype=dtype, use_safetensors=True)
            )
        )

    def transformer(self) -> FluxTransformer2DModel:
        """Load the transformer, frozen.

        Raises:
            TrainingError: It cannot be loaded.
        """
        from diffusers import FluxTransformer2DModel

        return self._place(
            self._load(
                "transformer",
                lambda path: FluxTransformer2DModel.from_pretrained(
                    path, dtype=self.dtype, use_safetensors=True
                ),
            )
        )

    def _place(self, model: T) -> T:
        module: Any = model
        module.requires_grad_(False)
        module.eval()
        module.to(self.device)
        return model

    def _load(self, part: str, load: Callable[[str], T]) -> T:
        path = self._part(part)
        try:
            return load(str(path))
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # damaged files surface as nearly anything
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"the {part} of {self.name} cannot be loaded from {path}: {why}", "model_damaged"
            ) from error


def free_memory(device: torch.device) -> None:
    """Give back the memory of models that nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _sample(path: Path, digest: Any) -> None:
    size = path.stat().st_size
    digest.update(f":{size}:".encode())
    with path.open("rb") as file:
        if size <= _SAMPLE * _SAMPLES:
            digest.update(file.read())
            return
        for index in range(_SAMPLES):
            file.seek(index * (size - _SAMPLE) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE))
