"""A config's cost before it is launched: epochs, time, memory, dollars, disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backend.cost import Machine, cost_of, rate_of
from backend.estimate import flux
from backend.estimate.epochs import Plan, plan_of
from backend.estimate.own_speeds import Speeds
from backend.estimate.speeds import (
    DECODE_SECONDS,
    LATENT_SECONDS,
    SAVE_SECONDS,
    START_SECONDS,
    TEXT_SECONDS,
)
from backend.estimate.timing import calibration, compute_of, fit, pass_seconds, update_seconds
from backend.prices import Prices, load_prices
from config.gpus import GPUS, GpuChoice, parse_gpu
from config.schema import ProcessConfig, RunConfig

_SAMPLE_BYTES = 350_000  # a JPEG of 1024 x 1024 (assumed)


@dataclass(frozen=True)
class ResolutionShare:
    """What trains at one size.

    Attributes:
        resolution: Edge of the target area in pixels.
        samples: Samples of it in an epoch; None if nobody knows how many pictures there are.
        steps: Updates at this size in the whole run.
        share: Of all updates, 0 to 1.
        seconds: Of one update on the first GPU of the list.
    """

    resolution: int
    samples: int | None
    steps: float
    share: float
    seconds: float


@dataclass(frozen=True)
class GpuEstimate:
    """What the run is on one GPU.

    Attributes:
        gpu: Modal's name, with a number of them as in ``H100:2``.
        chosen: Whether the config asks for it.
        fits: Whether its memory suffices.
        memory_bytes: That training takes.
        recompute: Whether activations are recomputed there.
        seconds_per_step: Of an average update.
        start_seconds: From the container's start to the first update.
        sampling_seconds: Of all samples together.
        seconds: Of the whole run.
        dollars: For it; None without a price.
        measured: Whether the speed was measured on such a GPU by this user.
        source: Where the speed is from.
        why: Why it does not fit; empty if it does.
    """

    gpu: str
    chosen: bool
    fits: bool
    memory_bytes: float
    recompute: bool
    seconds_per_step: float
    start_seconds: float
    sampling_seconds: float
    seconds: float
    dollars: float | None
    measured: bool
    source: str
    why: str = ""


@dataclass(frozen=True)
class Estimate:
    """All of it.

    Attributes:
        pictures: In all datasets; None if a folder cannot be looked at from here.
        epochs: Passes over all samples; None with ``pictures``.
        steps_per_picture: How often each picture is seen; None with ``pictures``.
        samples: By size, ascending.
        gpus: Those that fit first, the cheapest first.
        checkpoints: Files kept in the end, the last one included.
        saves: How often a checkpoint is written.
        disk_bytes: Of checkpoints, resume state and samples in the end.
        samples_drawn: Pictures drawn while training.
        prices_as_of: The prices' day and source.
        notes: What the numbers leave out, a sentence each.
    """

    pictures: int | None
    epochs: float | None
    steps_per_picture: float | None
    samples: tuple[ResolutionShare, ...]
    gpus: tuple[GpuEstimate, ...]
    checkpoints: int
    saves: int
    disk_bytes: float
    samples_drawn: int
    prices_as_of: str
    notes: tuple[str, ...] = ()

    def on(self, gpu: str) -> GpuEstimate | None:
        """The estimate for one GPU."""
        return next((one for one in self.gpus if one.gpu == gpu), None)

    @property
    def chosen(self) -> GpuEstimate | None:
        """The first GPU that the config asks for and that fits; else the first that it asks for."""
        asked = [one for one in self.gpus if one.chosen]
        return next((one for one in asked if one.fits), asked[0] if asked else None)


def estimate(
    config: RunConfig,
    *,
    gpus: Sequence[str] | None = None,
    here: Speeds | None = None,
    prices: Prices | None = None,
) -> Estimate:
    """What a run will take. Counts the pictures on disk: call it in a thread.

    Args:
        config: The run.
        gpus: GPUs to look at, as in a config; all of Modal's if None.
        here: Measured speeds, see :func:`backend.estimate.own_speeds.known_speeds`.
        prices: The user's if None.

    Raises:
        ValueError: Modal has no such GPU.
    """
    process = config.process
    wanted = [_label(parse_gpu(name)) for name in process.modal.gpu]
    names = [_label(parse_gpu(name)) for name in gpus] if gpus is not None else _listed(wanted)
    loaded = load_prices() if prices is None else None
    prices = prices or (loaded.prices if loaded else load_prices().prices)
    plan = plan_of(process)
    drawn = samples_drawn(process)
    found = [
        _on_gpu(process, parse_gpu(name), name in wanted, plan, drawn, here, prices)
        for name in dict.fromkeys(names)
    ]
    order = sorted(
        found, key=lambda one: (not one.fits, one.dollars if one.dollars is not None else 1e9, one.seconds)
    )
    first = parse_gpu((names if gpus is not None else wanted or names)[0])
    saves, kept = checkpoints(process)
    passes = process.train.steps * process.train.gradient_accumulation * processes(process, first.count)
    seen = passes * sum(part.share * part.pictures for part in plan.parts)
    return Estimate(
        pictures=plan.pictures,
        epochs=passes * (plan.learned or 1.0) / plan.batches if plan.pictures else None,
        steps_per_picture=seen / plan.pictures if plan.pictures else None,
        samples=tuple(_shares(process, plan, first.gpu.name, here)),
        gpus=tuple(order),
        checkpoints=kept,
        saves=saves,
        disk_bytes=kept * flux.file_bytes(process) + flux.state_bytes(process) + drawn * _SAMPLE_BYTES,
        samples_drawn=drawn,
        prices_as_of=f"{prices.as_of} ({prices.source})",
        notes=tuple(_notes(process, plan, first, loaded.problem if loaded else None)),
    )


def _label(choice: GpuChoice) -> str:
    """A GPU without the marks that change neither its speed nor its price: ``H100!`` is ``H100``."""
    return f"{choice.gpu.name}:{choice.count}" if choice.count > 1 else choice.gpu.name


def _listed(wanted: Sequence[str]) -> list[str]:
    """All of Modal's; what the config asks for several of stands beside the single one."""
    return [*GPUS, *(name for name in wanted if name not in GPUS)]


def processes(process: ProcessConfig, count: int) -> int:
    """On how many of a container's GPUs a run trains."""
    return count if process.train.gpus == "auto" else min(process.train.gpus, count)


def _shares(process: ProcessConfig, plan: Plan, gpu: str, here: Speeds | None) -> Iterator[ResolutionShare]:
    recompute = fit(process, gpu, plan).recompute
    scale = calibration(gpu, here, recompute=recompute, compute=compute_of(process, gpu)).factor
    for size in sorted({part.resolution for part in plan.parts}):
        parts = [part for part in plan.parts if part.resolution == size]
        share = sum(part.share for part in parts)
        samples = round(sum(part.samples for part in parts)) if plan.pictures else None
        seconds = scale * update_seconds(process, parts, gpu, recompute=recompute)
        yield ResolutionShare(size, samples, process.train.steps * share, share, seconds)


def rounds(process: ProcessConfig) -> int:
    """How often samples are drawn: before the first update, then every ``sample_every``."""
    sample, train = process.sample, process.train
    if train.disable_sampling or not sample.sample_every or not (sample.prompts or sample.samples):
        return 0
    at = range(sample.sample_every, train.steps + 1, sample.sample_every)
    later = sum(step >= sample.sample_start_step for step in at)
    return later + (0 if train.skip_first_sample or sample.sample_start_step > 0 else 1)


def samples_drawn(process: ProcessConfig) -> int:
    """Pictures drawn in the whole run."""
    return rounds(process) * (len(process.sample.samples) or len(process.sample.prompts))


def checkpoints(process: ProcessConfig) -> tuple[int, int]:
    """How often a checkpoint is written, and how many files there are in the end."""
    every, steps = process.save.save_every, process.train.steps
    before_last = (steps - 1) // every if every else 0
    keep = process.save.max_step_saves_to_keep
    return before_last + 1, (min(before_last, keep) if keep else before_last) + 1


def _on_gpu(
    process: ProcessConfig,
    choice: GpuChoice,
    chosen: bool,
    plan: Plan,
    drawn: int,
    here: Speeds | None,
    prices: Prices,
) -> GpuEstimate:
    gpu, name = choice.gpu.name, _label(choice)
    fits = fit(process, gpu, plan)
    scale = calibration(gpu, here, recompute=fits.recompute, compute=compute_of(process, gpu))
    step = scale.factor * update_seconds(
        process,
        plan.parts,
        gpu,
        recompute=fits.recompute,
        processes=processes(process, choice.count),
    )
    sampling = drawn * sample_seconds(process, gpu) * scale.factor
    on_path = 0.0 if process.sample.where == "async" else sampling
    start = START_SECONDS + plan.latents * LATENT_SECONDS + (plan.pictures or 0) * TEXT_SECONDS
    saves, _ = checkpoints(process)
    seconds = start + process.train.steps * step + on_path + saves * SAVE_SECONDS
    rate = rate_of(Machine((name,), process.modal.cpu, process.modal.memory), prices)
    why = ""
    if not fits.fits:
        why = f"needs {fits.memory / 2**30:.0f} GiB, has {GPUS[gpu].memory}"
    return GpuEstimate(
        name, chosen, fits.fits, fits.memory, fits.recompute, step, start, sampling, seconds,
        cost_of(seconds, rate.most) if rate is not None else None, scale.measured, scale.source, why,
    )  # fmt: skip


def sample_seconds(process: ProcessConfig, gpu: str) -> float:
    """Seconds of one sample of the config's size and steps, by the table."""
    sample = process.sample
    length = flux.tokens(sample.width, sample.height)
    products = flux.forward(length, flux.shape_of(process.model.name_or_path))
    return pass_seconds(products, gpu) * sample.sample_steps + DECODE_SECONDS


def _notes(process: ProcessConfig, plan: Plan, first: GpuChoice, problem: str | None) -> list[str]:
    notes = []
    for dataset, count in zip(process.datasets, plan.counts, strict=True):
        if count is None:
            notes.append(
                f"the pictures in {dataset.folder_path} are not here, so epochs are unknown, "
                "and they are taken for squares"
            )
    together = processes(process, first.count)
    if together > 1:
        notes.append(
            f"{together} GPUs train {together} batches an update, so fewer steps show the same; "
            "their speed together was not measured"
        )
    elif first.count > 1:
        notes.append(f"train.gpus is 1: {first.count - 1} of {_label(first)} would do nothing")
    if problem:
        notes.append(problem)
    if process.sample.where == "async" and samples_drawn(process):
        notes.append("samples are drawn in a second container; what that costs is not in these dollars")
    if process.network.type == "lokr" or process.network.network_kwargs.only_if_contains:
        notes.append("the adapter's size is an upper bound: not every layer gets one")
    notes.append("without the first download of the base model and waiting for a GPU")
    return notes
