"""A captioning model of any family that transformers knows, with its processor."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backend.files import read_json
from backend.trainer.control import StopControl
from backend.trainer.errors import TrainingError
from backend.trainer.hub import find_whole
from backend.trainer.report import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_STILLS = ("qwen2_vl", "qwen2_5_vl")  # their processors want torchvision, for videos only


def find_captioner(name_or_path: str, report: Reporter, stop: StopControl) -> Path:
    """The folder of a captioning model, downloaded if it has to be.

    Raises:
        TrainingError: There is none, or it cannot be downloaded.
        StopRequested: The job was asked to stop.
    """
    return find_whole(name_or_path, _PATTERNS, report, stop, what="captioning model")


class Captioner:
    """A loaded captioning model.

    Args:
        folder: The model in transformers' format.
        device: Where it runs; bfloat16 on CUDA, else float32.
        tokens: Longest answer.

    Raises:
        TrainingError: The folder holds no captioning model.
    """

    def __init__(self, folder: Path, device: torch.device, tokens: int) -> None:
        from transformers import AutoModelForImageTextToText
        from transformers.utils import logging

        logging.disable_progress_bar()
        config = read_json(folder / "config.json")
        if not isinstance(config, dict) or not config.get("model_type"):
            raise TrainingError(
                f"{folder} is no captioning model: it has no config.json of transformers",
                "no_model",
                bad_input=True,
            )
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        try:
            self._processor = _load_processor(folder, str(config["model_type"]))
            model = AutoModelForImageTextToText.from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except (ImportError, OSError, ValueError, KeyError, AttributeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"the captioning model in {folder} ({config['model_type']}) cannot be loaded: {first}",
                "unsupported_model",
                bad_input=True,
            ) from error
        self._model: Any = model.to(device).eval()
        self._device, self._dtype, self._tokens = device, dtype, tokens
        self._processor.tokenizer.padding_side = "right" if self._encodes else "left"

    @property
    def _encodes(self) -> bool:
        """Whether pictures and prompt go to an encoder, so that the answer does not repeat them."""
        return bool(getattr(self._model.config, "is_encoder_decoder", False))

    @torch.inference_mode()
    def caption(self, images: Sequence[Image], prompts: Sequence[str]) -> list[str]:
        """What the model answers about each picture; the answers are not sampled, so they can be repeated.

        Raises:
            TrainingError: The model cannot make sense of a prompt.
        """
        inputs = self._inputs(images, prompts).to(self._device)
        for key, value in inputs.items():
            if value.is_floating_point():
                inputs[key] = value.to(self._dtype)
        beams = {"num_beams": 3, "early_stopping": True} if self._encodes else {}
        out = self._model.generate(
            **inputs, max_new_tokens=self._tokens, do_sample=False, repetition_penalty=1.05, **beams
        )
        if not self._encodes:
            out = out[:, inputs["input_ids"].shape[1] :]
        answers: list[str] = self._processor.batch_decode(out, skip_special_tokens=True)
        return answers

    def _inputs(self, images: Sequence[Image], prompts: Sequence[str]) -> Any:
        processor = self._processor
        if getattr(processor, "chat_template", None):
            texts = [
                processor.apply_chat_template(
                    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}],
                    add_generation_prompt=True,
                    tokenize=False,
                )
                for prompt in prompts
            ]
            pictures: list[Any] = [[image] for image in images]
        else:
            texts, pictures = list(prompts), list(images)
        try:
            return processor(images=pictures, text=texts, return_tensors="pt", padding=True)
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise TrainingError(
                f"the model does not take this prompt: {first}", "bad_prompt", bad_input=True
            ) from error


def release_memory() -> None:
    """Give back what a batch that did not fit has left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load_processor(folder: Path, model_type: str) -> Any:
    from transformers import AutoProcessor

    if model_type not in _STILLS:
        return AutoProcessor.from_pretrained(folder, local_files_only=True)
    from transformers import ProcessorMixin, Qwen2_5_VLProcessor

    class StillsProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
        """Qwen-VL's processor without the part for videos, which wants torchvision."""

        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None, **_: Any
        ) -> None:
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    return StillsProcessor.from_pretrained(folder, local_files_only=True)
