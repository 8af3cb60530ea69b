"""All that a run learns from, found and encoded: pictures and texts in the caches, the base model's parts."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backend.events import Phase
from backend.home import cache_dir
from backend.trainer.cache import RamBudget, TensorCache
from backend.trainer.control import StopControl
from backend.trainer.dataset import Picture, read_datasets, with_variants
from backend.trainer.early_load import begin_reading
from backend.trainer.encode import Progress, cache_texts
from backend.trainer.environment import samples_are_handed_on
from backend.trainer.fast_load import TransformerReading
from backend.trainer.held_out import ValidationSample, cache_held_out, hold_out
from backend.trainer.hub import find_model
from backend.trainer.latents import cache_pictures
from backend.trainer.loading import DTYPES, MAX_TEXT_TOKENS, BaseModel, free_memory
from backend.trainer.memory import recomputed_bytes
from backend.trainer.order import Sample
from backend.trainer.prompts import SamplePlan, sample_plan
from backend.trainer.report import Reporter
from config.schema import ProcessConfig

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    from backend.trainer.buckets import Bucket


@dataclass
class Inputs:
    """What :func:`gather_inputs` found.

    Attributes:
        base: The base model.
        plan: What is sampled.
        plain: The pictures that are trained, before their captions vary.
        pictures: With their captions' variants.
        samples: Of an epoch.
        validation: Held-out pictures.
        texts: Cache of embeddings.
        latents: Cache of latents and masks.
        keys: Each text's key.
        vae: Gives the autoencoder.
        elsewhere: Whether another process draws the samples.
        reading: The transformer's weights on their way; None if they wait for their turn.
    """

    base: BaseModel
    plan: SamplePlan
    plain: list[Picture]
    pictures: list[Picture]
    samples: list[Sample]
    validation: Sequence[ValidationSample]
    texts: TensorCache
    latents: TensorCache
    keys: dict[str, str]
    vae: Callable[[], AutoencoderKL]
    elsewhere: bool
    reading: TransformerReading | None

    @property
    def text_tokens(self) -> int:
        """Of each text."""
        if not self.keys:
            return MAX_TEXT_TOKENS
        return len(self.texts[next(iter(self.keys.values()))]["t5"])

    @property
    def drawn(self) -> list[tuple[int, int]]:
        """Width and height of what this process asks the model for without training on it."""
        held_out = [(sample.bucket.width, sample.bucket.height) for sample in self.validation]
        prompts = [] if self.elsewhere else [*self.plan.first, *self.plan.prompts]
        return [*held_out, *((prompt.width, prompt.height) for prompt in prompts)]

    def transformer(
        self, shapes: Mapping[tuple[Bucket, int], int], rank: int, report: Reporter
    ) -> FluxTransformer2DModel:
        """The transformer, as far as it is not there yet waited for, and told how long that was.

        Args:
            shapes: Of the batches to come.
            rank: Of the adapter to come.
            report: Told.

        Raises:
            TrainingError: It cannot be loaded.
        """
        report.phase(Phase.LOADING, 0, 1, "transformer")
        began = time.monotonic()
        model = self.base.transformer(
            report.warning,
            lambda model: recomputed_bytes(model, rank, shapes, self.text_tokens),
            self.reading,
        )
        report.phase(Phase.LOADING, 1, 1, "transformer")
        waited = time.monotonic() - began
        if self.reading is not None:
            report.line(
                f"the transformer was read in {self.reading.seconds:.1f} s while texts and pictures were "
                f"encoded; training waited {waited:.1f} s for it"
            )
        else:
            report.line(f"the transformer was loaded in {waited:.1f} s")
        return model

    def close(self) -> None:
        """End what still reads."""
        if self.reading is not None:
            self.reading.close()


def gather_inputs(
    process: ProcessConfig, device: torch.device, seed: int, report: Reporter, stop: StopControl
) -> Inputs:
    """Find the model and the pictures, and fill the caches with what is missing.

    Raises:
        TrainingError: Something is missing or damaged.
        StopRequested: The run was asked to stop meanwhile.
    """
    train = process.train
    plain, held = hold_out(read_datasets(process, report, stop), process, seed, report)
    pictures = with_variants(plain, train, seed)
    plan = sample_plan(process)
    base = open_base_model(process, device, report, stop)
    reading, alone = begin_reading(base, device)
    if alone:
        report.line(f"the transformer is loaded after the encoders: {alone}")
    try:
        ram = RamBudget.of_this_machine()
        texts = TensorCache(cache_dir() / "text", ram)
        latents = TensorCache(cache_dir() / "latents", ram)
        progress = Progress(report, stop)
        keys = cache_texts(_all_texts([*pictures, *held], plan), base, texts, progress)
        vae = functools.cache(base.vae)
        samples = cache_pictures(pictures, base, vae, keys, latents, progress)
        validation = cache_held_out(held, base, vae, keys, latents, progress)
        if held:
            report.line(f"held out for validation: {len(validation)} pictures")
        elsewhere = process.sample.where == "async" and samples_are_handed_on()
        if not plan.texts or elsewhere:
            vae.cache_clear()
        free_memory(device)
        stop.check()
    except BaseException:
        if reading is not None:
            reading.close()
        raise
    return Inputs(
        base, plan, plain, pictures, samples, validation, texts, latents, keys, vae, elsewhere, reading
    )


def open_base_model(
    process: ProcessConfig, device: torch.device, report: Reporter, stop: StopControl
) -> BaseModel:
    """The base model that a config names, its parts found and not loaded yet.

    Raises:
        TrainingError: Something is missing, or it is no FLUX.1.
        StopRequested: The run was asked to stop meanwhile.
    """
    files = find_model(process.model, report, stop)
    base = BaseModel(
        files.folder,
        process.model.name_or_path,
        device,
        DTYPES[process.train.dtype],
        parts=files.parts,
        loras=files.loras,
        settings=process.model,
    )
    base.check()
    return base


def _all_texts(pictures: list[Picture], plan: SamplePlan) -> list[str]:
    """Every text that has to be encoded, once, in the order of its first use."""
    texts = dict.fromkeys(text for picture in pictures for text in picture.all_texts())
    texts |= dict.fromkeys(plan.texts)
    return list(texts)
