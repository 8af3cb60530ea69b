"""Pictures drawn while training, with the LoRA as it is."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from backend.events import Phase, SampleEvent
from backend.files import atomic_file
from backend.runs.folder import RunFolder
from backend.trainer.cache import TensorCache
from backend.trainer.control import StopControl
from backend.trainer.decoding import latents_to_pixels, tokens_to_latents
from backend.trainer.errors import is_disk_full
from backend.trainer.live_preview import LivePreview
from backend.trainer.loading import free_memory
from backend.trainer.prompts import RANDOM_SEED, Prompt, SamplePlan
from backend.trainer.report import Reporter
from backend.trainer.side_lora import SideLora, added

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
_BLACK = 8  # of 255: no picture is meant to have nothing lighter


class BadPictureError(Exception):
    """A sample came out as nothing: not finite, or black."""


class Sampler:
    """Draws the run's sample pictures with diffusers' own FluxPipeline.

    A failure is a warning: it never ends a training. Training's random numbers are not touched.

    Args:
        transformer: The transformer being trained.
        vae: Gives the autoencoder.
        plan: What to draw.
        text_keys: Cache keys of the prompts' embeddings.
        texts: The cache.
        folder: Where pictures go.
        strength: Makes a context in which the trained LoRA has another strength.
        loras: Other LoRAs that are added while sampling, with their weights.

    Attributes:
        bad: How many pictures of the last round were black or not finite.
        all_bad: Whether all of them were.
    """

    def __init__(
        self,
        transformer: FluxTransformer2DModel,
        vae: Callable[[], AutoencoderKL],
        plan: SamplePlan,
        text_keys: dict[str, str],
        texts: TensorCache,
        folder: RunFolder,
        *,
        strength: Callable[[float], AbstractContextManager[object]] = contextlib.nullcontext,
        loras: Sequence[tuple[SideLora, float]] = (),
    ) -> None:
        self._transformer = transformer
        self._vae = vae
        self._plan = plan
        self._keys = text_keys
        self._texts = texts
        self.folder = folder
        self._strength = strength
        self._loras = loras
        self._pipeline: FluxPipeline | None = None
        self.bad = 0
        self.all_bad = False

    @property
    def can_draw(self) -> bool:
        """Whether a round has any pictures."""
        return bool(self._plan.prompts)

    def sample(
        self, step: int, report: Reporter, stop: StopControl, *, first: bool = False, wanted: bool = False
    ) -> bool:
        """Draw all pictures for the model after ``step`` updates; ends early on a request to stop.

        Args:
            step: Updates done.
            report: Told of pictures and failures.
            stop: Asked between two denoising steps.
            first: Draw what is drawn before the first step, whatever ``step`` is.
            wanted: Draw also before the step at which rounds begin.

        Returns:
            Whether there was anything to draw.
        """
        self.bad, self.all_bad = 0, False
        prompts = self._plan.first if first else self._plan.prompts
        total = len(prompts)
        if not total or (not first and not wanted and step < self._plan.start_step):
            return False
        report.phase(Phase.SAMPLING, 0, total)
        with _training_undisturbed(self._transformer), added(self._transformer, self._loras):
            for done, prompt in enumerate(prompts, start=1):
                if stop.requested():
                    break
                seed = secrets.randbelow(2**32) if prompt.seed == RANDOM_SEED else prompt.seed
                try:
                    image = self._draw(prompt, seed, step, report, stop)
                    if image is None:
                        break
                    path = self._save(image, step, prompt)
                except BadPictureError as error:
                    self._report_bad(prompt, str(error), report)
                    continue
                except Exception as error:  # a picture is never worth a training run
                    free_memory(self._transformer.device)
                    report.warning(_failure(prompt, error), "sampling_failed")
                    continue
                report.sample(
                    SampleEvent(
                        step=step,
                        index=prompt.index,
                        prompt=prompt.text,
                        seed=seed,
                        path=path.relative_to(self.folder.path).as_posix(),
                    )
                )
                if _is_black(image):
                    self._report_bad(prompt, "is black", report)
                report.phase(Phase.SAMPLING, done, total)
        free_memory(self._transformer.device)
        self.all_bad = self.bad == total
        return True

    def _report_bad(self, prompt: Prompt, what: str, report: Reporter) -> None:
        self.bad += 1
        report.warning(
            f"sample {prompt.index} {what}: the LoRA may have been ruined by too high a train.lr, or "
            "train.dtype: float16 cannot hold the model's numbers",
            "black_sample",
        )

    def _draw(
        self, prompt: Prompt, seed: int, step: int, report: Reporter, stop: StopControl
    ) -> Image | None:
        """The picture; None if the run was asked to stop meanwhile."""
        pipeline = self._ready()
        embeddings = self._texts[self._keys[prompt.text]]
        device, dtype = self._transformer.device, self._transformer.dtype

        preview = LivePreview(pipeline, prompt, seed, step, self.folder.samples, report.emit)

        def after_step(pipe: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if stop.requested():
                pipe._interrupt = True
            else:
                preview.after_step(index, values["latents"])
            return values

        with self._strength(prompt.strength), contextlib.ExitStack() as at_the_end:
            at_the_end.callback(preview.end)
            result = pipeline(
                prompt_embeds=embeddings["t5"][None].to(device, dtype),
                pooled_prompt_embeds=embeddings["clip"][None].to(device, dtype),
                width=prompt.width,
                height=prompt.height,
                num_inference_steps=prompt.steps,
                guidance_scale=prompt.guidance,
                generator=torch.Generator().manual_seed(seed),
                callback_on_step_end=after_step,
                output_type="latent",
            )
        return None if stop.requested() else self._decode(pipeline, result.images, prompt)

    def _decode(self, pipeline: FluxPipeline, tokens: torch.Tensor, prompt: Prompt) -> Image:
        latents = tokens_to_latents(pipeline, tokens, prompt.height, prompt.width)
        pixels = latents_to_pixels(pipeline, latents)
        if not torch.isfinite(pixels).all():
            raise BadPictureError("has pixels that are not finite numbers")
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
        kind, options = _FORMATS[prompt.format]
        name = f"{time.time_ns() // 1_000_000}__{step:09d}_{prompt.index}.{prompt.format}"
        path = self.folder.samples / name
        with atomic_file(path) as file:
            image.save(file, format=kind, **options)
        return path


def _is_black(image: Image) -> bool:
    bounds: Any = image.convert("L").getextrema()
    return int(bounds[1]) <= _BLACK


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
