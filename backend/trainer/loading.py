"""Loading the parts of a base model, one at a time."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from backend.files import read_json
from backend.trainer.cache import free_memory_here
from backend.trainer.errors import TrainingError
from backend.trainer.fast_load import TransformerReading, load_transformer
from backend.trainer.offload import blocks_of, blocks_to_swap, fits, frozen_bytes, spread
from backend.trainer.quantisation import QType, matches, quantise_model
from backend.trainer.side_lora import SideLora, read_side_lora
from backend.trainer.single_file import load_transformer_file, load_vae_file
from config.schema import ModelConfig

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

T = TypeVar("T")

DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8": torch.float8_e4m3fn,  # of a saved LoRA only
}

MAX_TEXT_TOKENS = 512  # FLUX.1-dev's T5 length; ai-toolkit pads to it for every FLUX model
_CLIP_TOKENS = 77

_DRAWING = 3 << 30  # bytes: a block's activations at 1024 x 1024, the autoencoder in tiles, workspaces
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
    """A FLUX.1, whose parts are loaded when they are needed.

    Attributes:
        folder: Where it is, in diffusers format; of a transformer alone, where the other parts are.
        name: What the user calls it.
        device: Where its parts go.
        dtype: Number format of its parts.
        parts: Parts that are elsewhere: their folders, or files of a transformer or an autoencoder.
        loras: Files of other LoRAs, by their key in the config.
        settings: How the parts are loaded: quantised or not, and so on.
    """

    folder: Path
    name: str
    device: torch.device
    dtype: torch.dtype
    parts: Mapping[str, Path] = field(default_factory=dict)
    loras: Mapping[str, Path] = field(default_factory=dict)
    settings: ModelConfig | None = None

    @property
    def vae_dtype(self) -> torch.dtype:
        """The autoencoder's number format: ``dtype``, but never float16, in which FLUX's overflows."""
        return torch.float32 if self.dtype is torch.float16 else self.dtype

    @property
    def attn_masking(self) -> bool:
        """Whether T5's output is multiplied by its attention mask."""
        return self.settings is not None and self.settings.attn_masking

    @property
    def qtype(self) -> QType | None:
        """The number format of the transformer's stored weights, if it is a smaller one."""
        if self.settings is None or not self.settings.quantize:
            return None
        return self._possible(self.settings.qtype)

    @property
    def qtype_te(self) -> QType | None:
        """The number format of T5's stored weights, if it is a smaller one."""
        settings = self.settings
        if settings is None:
            return None
        wanted = settings.quantize if settings.quantize_te is None else settings.quantize_te
        return self._possible(settings.qtype) if wanted else None

    def _possible(self, qtype: QType) -> QType:
        return "int8" if qtype == "float8" and self.device.type == "mps" else qtype  # MPS has no float8

    def check(self) -> None:
        """Look for all parts before time is spent on any.

        Raises:
            TrainingError: One is missing, or this is no FLUX.1.
        """
        transformer = self.part("transformer")
        if transformer.is_dir():
            config = read_json(transformer / "config.json")
            kind = config.get("_class_name") if isinstance(config, dict) else None
            if kind != "FluxTransformer2DModel":
                raise TrainingError(
                    f"{self.name} is not a FLUX.1 model: its transformer is {kind or 'of an unknown kind'}; "
                    "only FLUX.1 can be trained",
                    "unsupported_model",
                    bad_input=True,
                )
        for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
            self.part(part)

    def part(self, part: str) -> Path:
        """Folder or file of a part.

        Raises:
            TrainingError: It is missing.
        """
        folder = self.parts.get(part, self.folder / part)
        if folder.is_file():
            return folder
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

        How T5 is loaded and masked counts as T5's.

        Hashing all of T5-XXL would take longer than encoding a dataset; fine-tuned weights differ
        nearly everywhere, so 32 samples of 64 KiB a file find them out.
        """
        digest = hashlib.sha256()
        for part in parts:
            folder = self.part(part)
            for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
                if path.is_file() and not path.name.startswith("."):
                    digest.update(f"{part}/{path.name}".encode())
                    _sample(path, digest)
            if part == "text_encoder_2" and (self.qtype_te or self.attn_masking):
                digest.update(f":{self.qtype_te}:{self.attn_masking}".encode())
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
        if self.qtype_te is not None:
            self._quantise(t5, self.qtype_te, lambda name: True)
        return TextEncoders(self._place(clip), self._place(t5))

    def vae(self) -> AutoencoderKL:
        """Load the autoencoder, frozen.

        Raises:
            TrainingError: It cannot be loaded.
        """
        from diffusers import AutoencoderKL

        dtype = self.vae_dtype
        if self.part("vae").is_file():
            config = self.folder / "vae"
            return self._place(
                self._load("vae", lambda path: load_vae_file(Path(path), config=config, dtype=dtype))
            )
        return self._place(
            self._load(
                "vae", lambda path: AutoencoderKL.from_pretrained(path, dtype=dtype, use_safetensors=True)
            )
        )

    @property
    def loads_straight(self) -> bool:
        """Whether the transformer's weights go from their files to the device, each by itself."""
        # What is quantised or swapped must not be on the device whole.
        swapped = self.settings is not None and bool(self.settings.offload)
        return self.part("transformer").is_dir() and self.qtype is None and not swapped

    def transformer(
        self,
        warn: Callable[[str, str], None] | None = None,
        needs: Callable[[FluxTransformer2DModel], int] | None = None,
        reading: TransformerReading | None = None,
    ) -> FluxTransformer2DModel:
        """Load the transformer, frozen, with the LoRAs fused and quantised as the settings say.

        Args:
            warn: Called with a sentence and a code if something is off.
            needs: Bytes that what is to be done with it takes beside its weights: ``model.offload: auto``
                leaves as much free. Without it, what drawing a picture takes.
            reading: Its weights on their way.

        Raises:
            TrainingError: It or a LoRA cannot be loaded.
        """
        from diffusers import FluxTransformer2DModel

        if self.part("transformer").is_file():
            config = self.folder / "transformer" / "config.json"
            model = self._load(
                "transformer",
                lambda path: load_transformer_file(Path(path), beside=read_json(config), dtype=self.dtype),
            )
        else:
            place = self.device if self.loads_straight else torch.device("cpu")
            model = self._load(
                "transformer",
                lambda path: (
                    (reading is not None and _read(reading))
                    or load_transformer(Path(path), place, self.dtype)
                    or FluxTransformer2DModel.from_pretrained(path, dtype=self.dtype, use_safetensors=True)
                ),
            )
        for key in ("lora_path", "assistant_lora_path"):
            if key in self.loras:
                lora = self._side_lora(key)
                missing = lora.check(model)
                if missing and warn is not None:
                    warn(
                        f"{missing} of the {len(lora.layers)} layers in {lora.name} are not in the base "
                        "model; the others are used",
                        "lora_layers_missing",
                    )
                lora.fuse(model)
        settings = self.settings
        if self.qtype is not None and settings is not None:
            layers = settings.quantize_kwargs
            self._quantise(model, self.qtype, lambda name: matches(name, layers.include, layers.exclude))
            if warn is not None and self.qtype != settings.qtype:
                warn(
                    f"this device has no {settings.qtype}: the model is kept in {self.qtype}", "qtype_changed"
                )
        return self._place_transformer(model, warn, needs)

    def _place_transformer(
        self,
        model: FluxTransformer2DModel,
        warn: Callable[[str, str], None] | None,
        needs: Callable[[FluxTransformer2DModel], int] | None,
    ) -> FluxTransformer2DModel:
        """Move it to the device, but for the blocks that are to be swapped (see :mod:`.offload`)."""
        wanted = 0 if self.settings is None else self.settings.offload
        if not wanted:
            return self._place(model)
        blocks = blocks_of(model)
        sizes = [frozen_bytes(block) for block in blocks]
        for block in blocks:  # quantising moved them
            block.cpu()
        free_memory(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else free_memory_here()
        others = frozen_bytes(model) - sum(sizes)
        reserve = 0
        if wanted == "auto":
            reserve = _DRAWING if needs is None else needs(model)
        count = blocks_to_swap(wanted, sizes, others, free, reserve)
        if wanted == "auto" and warn is not None and not fits(sizes, count, others, free, reserve):
            warn(
                f"memory may be short even with all blocks swapped: a step needs about {reserve / 2**30:.1f} "
                f"GiB beside the weights, {free / 2**30:.1f} GiB are free; smaller datasets.resolution, "
                "train.batch_size or network.linear need less",
                "memory_short",
            )
        swapped = {id(blocks[index]) for index in spread(count, len(blocks))}
        model.requires_grad_(False)
        model.eval()
        stays = {id(block) for block in blocks}
        for child in model.children():
            if not any(id(block) in stays for block in child.modules()):
                child.to(self.device)
        for block in blocks:
            if id(block) not in swapped:
                block.to(self.device)
        model.swapped_blocks = count
        return model

    def sampling_loras(self) -> list[tuple[SideLora, float]]:
        """What is added to the transformer while sampling, with weights: the assistant comes off again.

        Raises:
            TrainingError: A file cannot be read.
        """
        weights = {"assistant_lora_path": -1.0, "inference_lora_path": 1.0}
        return [(self._side_lora(key), weight) for key, weight in weights.items() if key in self.loras]

    def _side_lora(self, key: str) -> SideLora:
        name = getattr(self.settings, key, None) or key
        return read_side_lora(self.loras[key], f"model.{key} ({name})")

    def _quantise(self, model: Any, qtype: QType, chosen: Callable[[str], bool]) -> None:
        model.requires_grad_(False)
        on_cpu = self.settings is not None and self.settings.low_vram
        quantise_model(model, qtype, chosen, self.device, on_cpu=on_cpu)

    def _place(self, model: T) -> T:
        module: Any = model
        module.requires_grad_(False)
        module.eval()
        module.to(self.device)
        return model

    def _load(self, part: str, load: Callable[[str], T]) -> T:
        path = self.part(part)
        try:
            return load(str(path))
        except (torch.OutOfMemoryError, MemoryError, TrainingError):
            raise
        except Exception as error:  # damaged files surface as nearly anything
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"the {part} of {self.name} cannot be loaded from {path}: {why}", "model_damaged"
            ) from error


def _read(reading: TransformerReading) -> FluxTransformer2DModel | None:
    """What was read ahead; None if memory was short beside the encoders, which are gone by now."""
    try:
        return reading.model()
    except torch.OutOfMemoryError:
        return None


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
