"""Pictures drawn while training, with the LoRA as it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backend.events import Phase, SampleEvent
from backend.files import atomic_file
from backend.runs.folder import RunFolder
from backend.trainer.cache import TensorCache
from backend.trainer.captions import fill_placeholders
from backend.trainer.control import StopControl
from backend.trainer.errors import is_disk_full
from backend.trainer.flow import unpack
from backend.trainer.loading import free_memory
from backend.trainer.report import Reporter
from config.schema import ProcessConfig, SampleConfig

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
    from PIL.Image import Image

# ai-toolkit's settings of the sampler (toolkit/sampler.py), whatever the base model's folder says.
_SCHEDULER: dict[str, Any] = {
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}
_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpg": ("JPEG", {"quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"quality": 95}),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """One picture to sample.

    Attributes:
        index: Its number in the config, from 0.
        text: The prompt, placeholders replaced.
        seed: Of its noise.
    """

    index: int
    text: str
    seed: int


def sample_prompts(process: ProcessConfig) -> list[Prompt]:
    """What a run samples: nothing if sampling is off.

    ``[trigger]`` and ``[name]`` become the trigger word; it is never prepended, as in ai-toolkit.
    """
    sample = process.sample
    if process.train.disable_sampling or not sample.sample_every:
        return []
    return [
        Prompt(index, fill_placeholders(text, process.trigger_word), sample.seed + index * sample.walk_seed)
        for index, text in enumerate(sample.prompts)
    ]


class Sampler:
    """Draws the run's sample pictures with diffusers' own FluxPipeline.

    A failure is a warning: it never ends a training. Training's random numbers are not touched.

    Args:
        transformer: The transformer being trained.
        vae: Gives the autoencoder.
        prompts: What to draw.
        text_keys: Cache keys of the prompts' embeddings.
        texts: The cache.
        settings: Size, steps, guidance, file format.
        folder: Where pictures go.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: Callable[[], AutoencoderKL],
        prompts: list[Prompt],
        text_keys: dict[str, str],
        texts: TensorCache,
        settings: SampleConfig,
        folder: RunFolder,
    ) -> None:
        self._transformer = transformer
        self._vae = vae
        self._prompts = prompts
        self._keys = text_keys
        self._texts = texts
        self._settings = settings
        self._folder = folder
        self._pipeline: FluxPipeline | None = None

    def sample(self, step: int, report: Reporter, stop: StopControl) -> bool:
        """Draw all pictures for the model after ``step`` updates; ends early on a request to stop.

        Returns:
            Whether there was anything to draw.
        """
        total = len(self._prompts)
        if not total:
            return False
        report.phase(Phase.SAMPLING, 0, total)
        with _training_undisturbed(self._transformer):
            for done, prompt in enumerate(self._prompts, start=1):
                if stop.requested():
                    break
                try:
                    image = self._draw(prompt, stop)
                    if image is None:
                        break
                    path = self._save(image, step, prompt)
                except Exception as error:  # a picture is never worth a training run
                    free_memory(self._transformer.device)
                    report.warning(_failure(prompt, error), "sampling_failed")
                    continue
                report.sample(
                    SampleEvent(
                        step=step,
                        index=prompt.index,
                        prompt=prompt.text,
                        seed=prompt.seed,
                        path=path.relative_to(self._folder.path).as_posix(),
                    )
                )
                report.phase(Phase.SAMPLING, done, total)
        free_memory(self._transformer.device)
        return True

    def _draw(self, prompt: Prompt, stop: StopControl) -> Image | None:
        """The picture; None if the run was asked to stop meanwhile."""
        pipeline = self._ready()
        embeddings = self._texts[self._keys[prompt.text]]
        device, dtype = self._transformer.device, self._transformer.dtype

        def after_step(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if stop.requested():
                pipe._interrupt = True
            return values

        result = pipeline(
            prompt_embeds=embeddings["t5"][None].to(device, dtype),
            pooled_prompt_embeds=embeddings["clip"][None].to(device, dtype),
            width=self._settings.width,
            height=self._settings.height,
            num_inference_steps=self._settings.sample_steps,
            guidance_scale=self._settings.guidance_scale,
            generator=torch.Generator().manual_seed(prompt.seed),
            callback_on_step_end=after_step,
            output_type="latent",
        )
        return None if stop.requested() else self._decode(pipeline, result.images)

    def _decode(self, pipeline: FluxPipeline, tokens: torch.Tensor) -> Image:
        vae = pipeline.vae  # its number format may differ from the transformer's (see vae_dtype)
        unit = pipeline.vae_scale_factor * 2
        latents = unpack(tokens, self._settings.height // unit * 2, self._settings.width // unit * 2)
        latents = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
        pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        if not torch.isfinite(pixels).all():
            raise ArithmeticError("its pixels are not finite numbers")
        image: Image = pipeline.image_processor.postprocess(pixels, output_type="pil")[0]
        return image

    def _ready(self) -> FluxPipeline:
        if self._pipeline is None:
            from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

            self._pipeline = FluxPipeline(
                scheduler=FlowMatchEulerDiscreteScheduler(**_SCHEDULER),
                vae=self._vae(),
                text_encoder=None,
                tokenizer=None,
                text_encoder_2=None,
                tokenizer_2=None,
                transformer=self._transformer,
            )
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline

    def _save(self, image: Image, step: int, prompt: Prompt) -> Path:
        """Save as ai-toolkit names it: milliseconds, step, number of the prompt."""
        kind, options = _FORMATS[self._settings.format]
        name = f"{time.time_ns() // 1_000_000}__{step:09d}_{prompt.index}.{self._settings.format}"
        path = self._folder.samples / name
        with atomic_file(path) as file:
            image.save(file, format=kind, **options)
        return path


def _failure(prompt: Prompt, error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        why = "out of memory; a smaller sample.width and sample.height may fit"
    elif is_disk_full(error):
        why = "the disk is full"
    else:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"sample {prompt.index} could not be drawn ({why}); training goes on"


@contextlib.contextmanager
def _training_undisturbed(transformer: FluxTransformer2DModel) -> Iterator[None]:
    """No gradients, no dropout, and the global random numbers as they were afterwards."""
    was_training = transformer.training
    devices = [transformer.device] if transformer.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        transformer.eval()
        try:
            yield
        finally:
            transformer.train(was_training)
