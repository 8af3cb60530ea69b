"""What a sample will look like, while it is still being drawn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional

from backend.events import PreviewEvent
from backend.files import atomic_file
from backend.trainer.decoding import latents_to_pixels, tokens_to_latents
from backend.trainer.prompts import Prompt

if TYPE_CHECKING:
    from diffusers import FluxPipeline
    from PIL.Image import Image

INTERVAL = 1.0  # seconds between two previews of a picture
_EDGE = 32  # latent cells of the longer side: 256 pixels, decoded in milliseconds
_NAME = ".preview_{index}_{done:03d}.jpg"


def expected_latents(
    before: torch.Tensor, after: torch.Tensor, sigma_before: float, sigma_after: float
) -> torch.Tensor:
    """Where the present direction leads: the noise-free latents that one Euler step lets expect.

    With ``x = (1 - sigma) * x0 + sigma * noise`` the step's slope is ``noise - x0``, so ``x0`` is the new
    point minus its sigma times the slope (rectified flow, Liu et al. 2022).
    """
    slope = (after - before) / (sigma_after - sigma_before)
    return after - sigma_after * slope


class LivePreview:
    """Previews of one picture, from the callback that diffusers calls after each denoising step.

    Only a look: whatever goes wrong here is kept quiet and ends the previews of this picture.

    Args:
        pipeline: Draws the picture.
        prompt: What is drawn.
        seed: Its seed.
        step: Updates done by the training.
        folder: Where previews go (hidden files; the last two are kept while one is drawn).
        emit: Takes the events.
        interval: Seconds between two previews.
    """

    def __init__(
        self,
        pipeline: FluxPipeline,
        prompt: Prompt,
        seed: int,
        step: int,
        folder: Path,
        emit: Callable[[PreviewEvent], None],
        *,
        interval: float = INTERVAL,
    ) -> None:
        self._pipeline = pipeline
        self._prompt = prompt
        self._seed = seed
        self._step = step
        self._folder = folder
        self._emit = emit
        self._interval = interval
        self._said = time.monotonic()
        self._before: torch.Tensor | None = None
        self._wanted = True
        self._kept: list[Path] = []

    def after_step(self, index: int, latents: torch.Tensor) -> None:
        """Take in the tokens after denoising step ``index``, ``[1, tokens, 64]``."""
        before, self._before = self._before, latents
        due = time.monotonic() - self._said >= self._interval
        if not self._wanted or before is None or not due or index + 1 >= self._prompt.steps:
            return
        try:
            self._show(index, before, latents)
        except Exception:
            self._wanted = False
        self._said = time.monotonic()  # after the work, so that it never takes most of the time

    def _show(self, index: int, before: torch.Tensor, after: torch.Tensor) -> None:
        sigmas: Any = self._pipeline.scheduler.sigmas
        tokens = expected_latents(
            before.float(), after.float(), float(sigmas[index]), float(sigmas[index + 1])
        )
        path = self._folder / _NAME.format(index=self._prompt.index, done=index + 1)
        with atomic_file(path) as file:
            self._decode(tokens).save(file, format="JPEG", quality=85)
        self._kept.append(path)
        for old in self._kept[:-2]:  # the one before may still be about to be looked at
            old.unlink(missing_ok=True)
            self._kept.remove(old)
        self._emit(
            PreviewEvent(
                step=self._step,
                index=self._prompt.index,
                prompt=self._prompt.text,
                seed=self._seed,
                path=f"{self._folder.name}/{path.name}",
                done=index + 1,
                total=self._prompt.steps,
            )
        )

    def _decode(self, tokens: torch.Tensor) -> Image:
        prompt = self._prompt
        latents = tokens_to_latents(self._pipeline, tokens, prompt.height, prompt.width)
        scale = min(1.0, _EDGE / max(latents.shape[-2:]))
        if scale < 1.0:
            latents = torch.nn.functional.interpolate(latents, scale_factor=scale, mode="area")
        pixels = latents_to_pixels(self._pipeline, latents)
        image: Image = self._pipeline.image_processor.postprocess(pixels.nan_to_num(), output_type="pil")[0]
        return image

    def end(self) -> None:
        """The picture is drawn or given up: its previews go."""
        for path in self._kept:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._kept.clear()
